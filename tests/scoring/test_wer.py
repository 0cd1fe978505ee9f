"""Counts and alignments: by hand, by their laws, and against a published figure."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnelian.errors import ScoringError
from carnelian.scoring.wer import (
    EDIT_KINDS,
    FEWEST,
    SCLITE,
    Errors,
    align_words,
    cer,
    character_errors_of_texts,
    count,
    count_character_errors,
    count_errors,
    edits_of_steps,
    errors_of_texts,
    steps_of_texts,
    wer,
)

WORDS = st.lists(st.sampled_from("abcd"), max_size=12)


def plain_distance(a, b):
    """Levenshtein's distance straight from its recursion."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row = row, [i] + [0] * len(b)
        for j, y in enumerate(b, 1):
            row[j] = min(before[j - 1] + (x != y), before[j] + 1, row[j - 1] + 1)
    return row[-1]


def test_counts_by_hand():
    assert count_errors("the cat sat down", "the hat sat right down") == Errors(3, 1, 0, 1)
    assert count_errors("one two", "") == Errors(deletions=2)
    assert count_character_errors("ab cd", "ab  cd ") == Errors(hits=5)
    assert count_character_errors("abc", "abd").rate == pytest.approx(1 / 3)


def test_rate_of_silence():
    assert count_errors("", "").rate == 0
    assert math.isinf(count_errors("", "word").rate)


def test_counts_add_up():
    total = sum([count_errors("a b", "a c"), count_errors("d", "d e")], Errors())
    assert total == Errors(2, 1, 0, 1)
    assert total.rate == pytest.approx(2 / 3)


def test_sclite_weights_part_a_poor_substitution():
    reference, hypothesis = ["a", "b"], ["b", "c"]
    assert [edit.kind for edit in align_words(reference, hypothesis)] == ["substitution", "substitution"]
    assert [edit.kind for edit in align_words(reference, hypothesis, SCLITE)] == ["deletion", "hit", "insertion"]


@given(WORDS, WORDS)
def test_alignment_spells_both_sides_with_the_fewest_edits(reference, hypothesis):
    edits = align_words(reference, hypothesis)
    assert [edit.reference for edit in edits if edit.kind != "insertion"] == reference
    assert [edit.hypothesis for edit in edits if edit.kind != "deletion"] == hypothesis
    assert all((edit.kind == "hit") == (edit.reference == edit.hypothesis) for edit in edits)
    assert count(reference, hypothesis).total == plain_distance(reference, hypothesis)


@given(WORDS, WORDS, st.sampled_from([FEWEST, SCLITE]))
def test_counts_are_those_of_the_alignment(reference, hypothesis, costs):
    kinds = [edit.kind for edit in align_words(reference, hypothesis, costs)]
    assert count(reference, hypothesis, costs) == Errors(*(kinds.count(kind) for kind in EDIT_KINDS))


@given(WORDS, WORDS, WORDS)
def test_laws_of_a_distance(a, b, c):
    assert count(a, a).total == 0
    assert count(a, b).total == count(b, a).total
    assert count(a, c).total <= count(a, b).total + count(b, c).total


def test_rates_of_texts_and_lists():
    assert wer("the cat sat", "the hat sat") == pytest.approx(1 / 3)
    assert wer(["the cat sat", "a"], ["the hat sat", "a"]) == pytest.approx(1 / 4)
    assert cer("ab cd", "ab  cx") == pytest.approx(1 / 5)
    assert wer([], []) == wer("", "") == 0 and math.isinf(wer([""], ["word"]))
    for references, hypotheses in ((["a"], "a"), (["a", "b"], ["a"])):
        with pytest.raises(ScoringError):
            wer(references, hypotheses)
    with pytest.raises(ScoringError, match="as a word"):
        wer(["a \0|\0 b"], ["a"])


TEXTS = st.lists(st.tuples(*[st.text(alphabet="abc \n\u3000é", max_size=30)] * 2), max_size=5)


@given(TEXTS, st.sampled_from([FEWEST, SCLITE]))
@settings(deadline=None)
def test_many_texts_count_as_one_by_one(pairs, costs):
    references, hypotheses = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    assert errors_of_texts(references, hypotheses, costs) == [count_errors(*pair, costs) for pair in pairs]
    characters = sum((count_character_errors(*pair) for pair in pairs), Errors())
    assert character_errors_of_texts(references, hypotheses) == characters
    for steps, one, other in zip(steps_of_texts(references, hypotheses, costs), references, hypotheses):
        edits = align_words(one.split(), other.split(), costs)
        assert steps == "".join(edit.kind[0] for edit in edits)
        wrong = edits_of_steps(steps, one.split(), other.split(), hits=False)
        assert wrong == [edit for edit in edits if edit.kind != "hit"]


@given(st.lists(st.sampled_from("abc"), max_size=60), st.lists(st.sampled_from("abc"), max_size=60))
@settings(deadline=None)
def test_the_band_around_the_diagonal_loses_nothing(reference, hypothesis):
    for costs in (FEWEST, SCLITE):
        kinds = [edit.kind for edit in align_words(reference, hypothesis, costs)]
        assert count(reference, hypothesis, costs) == Errors(*(kinds.count(kind) for kind in EDIT_KINDS))


def test_published_rate(shared):
    folder = shared("scoring/fbai")
    references, hypotheses = (
        dict(line.split("\t")[:2] for line in (folder / name).read_text().splitlines())
        for name in ("ref.test-clean.tsv", "test-clean.b1.rnnt_baseline.tsv")
    )
    errors = sum((count_errors(text, hypotheses[name]) for name, text in references.items()), Errors())
    assert len(references) == 2620
    assert round(100 * errors.rate, 4) == 3.6538


@pytest.mark.parametrize("name, utterances", [("test1", 51), ("test3", 60), ("test7_1", 58), ("test14_c", 29)])
def test_counts_are_those_of_sclite(shared, name, utterances):
    told = (shared("scoring/sctk") / "sclite_testdata" / "base" / f"{name}.pra").read_text(errors="replace")
    scores = re.findall(r"^Scores: \(#C #S #D #I\) (.*)\n(?:Attrib.*\n)?REF:(.*)\nHYP:(.*)\n", told, re.MULTILINE)
    assert len(scores) == utterances
    for counts, *texts in scores:
        reference, hypothesis = (
            " ".join(word for word in text.lower().split() if set(word) != {"*"}) for text in texts
        )
        assert count_errors(reference, hypothesis, SCLITE) == Errors(*map(int, counts.split()))
