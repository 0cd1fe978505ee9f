"""sclite's rules by hand, by exhaustive search and by laws."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnelian.errors import ScoringError
from carnelian.scoring.sclite.alignment import ScliteRules, align_items
from carnelian.scoring.sclite.ctm import CtmWord, read_ctm
from carnelian.scoring.sclite.ctm_pairs import score_ctm
from carnelian.scoring.sclite.network import NetworkWord, parse_transcript
from carnelian.scoring.sclite.scorer import align_texts, per_label, per_speaker, score_stm
from carnelian.scoring.sclite.segmentation import Lexicon
from carnelian.scoring.sclite.stm import StmFile, read_stm
from carnelian.scoring.sclite.weights import WordWeights

FREE = ScliteRules(deletable=True, fragments=True)


def test_the_order_of_lines_does_not_matter(sctk):
    reference, words = read_stm(sctk / "lvc_ref.stm"), read_ctm(sctk / "lvc_hyp.ctm")
    rng = random.Random(2)
    segments = sorted(reference.segments, key=lambda segment: rng.random())
    mixed = sorted(words, key=lambda word: rng.random()) if not any(word.mark for word in words) else words[::1]
    found = score_stm(StmFile(tuple(segments), {}), mixed)
    assert sorted(each.errors.total for each in found) == sorted(
        each.errors.total for each in score_stm(reference, words)
    )


def test_words_of_a_channel_without_reference_are_refused(sctk):
    words = read_ctm(sctk / "stm2ctm_missing.hyp-extra.ctm")
    with pytest.raises(ScoringError, match='recording "9999", channel b, has recognized words but no reference'):
        score_stm(read_stm(sctk / "stm2ctm_missing.ref.stm"), words)


def test_subsets_and_speakers(sctk):
    """The figures of sclite's report by label (base/test3.lur) for the first speaker and all."""
    reference = read_stm(sctk / "lvc_ref.stm")
    found = score_stm(reference, read_ctm(sctk / "lvc_hyp.ctm"))
    report = (sctk / "base" / "test3.lur").read_text()
    overall = re.search(r"\|\s*Set Sum/Avg\s*\|\s*\[(\d+)\]\s*([\d.]+)\s*\|\|\s*\[(\d+)\]\s*([\d.]+)", report)
    subsets = per_label(found)
    assert reference.labels == {"o": "Overall", "wa": "With Alt", "na": "NO Alt"}
    assert (subsets["o"].reference_words, round(100 * subsets["o"].rate, 1)) == (int(overall[1]), float(overall[2]))
    assert (subsets["wa"].reference_words, round(100 * subsets["wa"].rate, 1)) == (int(overall[3]), float(overall[4]))
    raw = dict(re.findall(r"\|\s*(\d+-[ab])\s*\|\s*\d+\s+(\d+)", (sctk / "base" / "test3.raw").read_text()))
    assert {name: str(errors.reference_words) for name, errors in per_speaker(found).items()} == raw


WORDS = st.lists(st.sampled_from("abcd"), max_size=4)
TREES = st.lists(
    st.one_of(
        st.sampled_from("abcd@"),
        st.lists(st.lists(st.sampled_from("abcd@"), min_size=1, max_size=2), min_size=1, max_size=3),
    ),
    max_size=4,
)


def readings(items):
    """Every list of words that a transcript may mean."""
    if not items:
        return [[]]
    first = items[0]
    heads = [[first]] if isinstance(first, str) else [list(each) for each in first]
    return [[word for word in head if word != "@"] + rest for head in heads for rest in readings(items[1:])]


@given(TREES, TREES)
@settings(deadline=None)
def test_alternates_cost_what_their_best_reading_costs(reference, hypothesis):
    def network_items(tree):
        return [NetworkWord(x) if isinstance(x, str) else [[NetworkWord(w) for w in each] for each in x] for x in tree]

    def cost(edits):
        return sum({"hit": 0, "substitution": 4}.get(edit.kind, 3) for edit in edits)

    rules = ScliteRules()
    best = min(
        cost(align_items(network_items(one), network_items(other), rules).edits)
        for one in readings(reference)
        for other in readings(hypothesis)
    )
    assert cost(align_items(network_items(reference), network_items(hypothesis), rules).edits) == best


def test_special_words_by_hand():
    def kinds(reference, hypothesis, rules=FREE):
        return "".join(edit.kind[0] for edit in align_texts(reference, hypothesis, rules).edits)

    assert kinds("a (uh) b", "a b") == "hhh"  # a deletable word that is missing is a hit
    assert kinds("a (uh) b", "a b", ScliteRules()) == "hdh"
    assert kinds("wh- what", "when what") == "hh"
    assert kinds("-day", "monday") == "h"
    assert kinds("a { b / @ } c", "a c") == "hh"
    assert kinds("{ he is / he's } here", "he's here") == "hh"
    assert kinds("word;noun b*", "word b") == "hh"
    assert kinds("A É", "a é") == "hh"
    assert kinds("A", "a", ScliteRules(case="keep")) == "s"
    assert kinds("() a", "a") == "hh"


def test_characters_are_joined_as_the_other_side_has_them():
    def edits(reference, hypothesis, **rules):
        found = align_texts(
            reference, hypothesis, ScliteRules(lexicon=Lexicon(frozenset(["日本", "本日", "ab"])), **rules)
        )
        return [tuple(edit)[1:] for edit in found.edits]

    assert edits("日本 日", "日本日") == [("日本", "日本"), ("日", "日")]
    assert edits("日 本日", "日本日") == [("日", "日"), ("本日", "本日")]
    assert edits("日本日", "日 本日", segment="reference") == [("日", "日"), ("本日", "本日")]
    assert edits("ab a", "aba", characters="all") == [("ab", "ab"), ("a", "a")]
    assert edits("ab a", "aba") == [("ab", None), ("a", "aba")]  # words in ASCII stay whole


def test_weights_by_hand():
    def aligned(reference, hypothesis, **rules):
        weights = WordWeights(lambda words: float(len(words[-1])), 1, "letters")
        return align_texts(reference, hypothesis, ScliteRules(weights=weights, **rules))

    edits, sums = aligned("a bbb eeee (d)", "a ccccc eeee ff", deletable=True)
    assert sum(edit.kind == "hit" for edit in edits) >= 2
    assert (sums.reference, sums.hits, sums.substitutions + sums.deletions + sums.insertions) == (8, 5, 10)
    assert sums.rate == 10 / 8 and (sums + sums).rate == sums.rate
    assert aligned("a", "a").weighted.rate == 0 and aligned("", "a").weighted.rate == float("inf")


def test_words_with_several_contexts_weigh_their_mean():
    bits = {("a", "b"): 2.0, ("c", "b"): 4.0, ("a",): 1.0, ("c",): 3.0}
    weights = WordWeights(lambda words: bits[words], 2, "bits")
    found = align_texts("{ a / c } b", "", ScliteRules(weights=weights))
    assert found.weighted.reference == 1 + 3


TIMED_WORDS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "<ALT_BEGIN> a <ALT_END>", "<ALT_BEGIN> a b <ALT> <ALT> c <ALT_END>"]),
        st.integers(0, 9),
    ),
    max_size=150,
)


@given(TIMED_WORDS, TIMED_WORDS, st.booleans())
@settings(deadline=None, max_examples=50)
def test_pieces_never_part_alternates(reference, words, time_mediated):
    def timed(parts):
        time, found = 0.0, []
        for text, pause in parts:
            for token in text.split():
                marked = token.startswith("<")
                found.append(CtmWord("r", "1", 0.0 if marked else time, 0.0 if marked else 0.4, token))
                time += 0.0 if marked else 0.4
            time += pause / 10
        return found

    scored = score_ctm(timed([("a", 0), *reference]), timed(words), ScliteRules(time_mediated=time_mediated))
    most = sum(len(text.split()) for text, _ in words)
    assert sum(edit.hypothesis is not None for each in scored for edit in each.edits) <= most


@pytest.mark.parametrize("text", ["{ a / b", "a { b", "{ { a } "])
def test_braces_that_are_not_closed_are_refused(text):
    with pytest.raises(ScoringError, match="not closed"):
        parse_transcript(text)


def test_alternates_may_be_nested_but_not_without_end():
    parse_transcript("{ " * 50 + "a" + " }" * 50)
    with pytest.raises(ScoringError, match="50 deep at most"):
        parse_transcript("{ " * 3000)


@given(st.text(alphabet="ab{}/@ ()-;\\*\n\t", max_size=30), st.text(alphabet="ab{}/@ ()-;\\*", max_size=30))
@settings(deadline=None)
def test_no_text_breaks_it(reference, hypothesis):
    for rules in (FREE, ScliteRules(characters="all", drop_hyphens=True)):
        try:
            edits = align_texts(reference, hypothesis, rules).edits
        except ScoringError:
            continue
        assert all(edit.kind in ("hit", "substitution", "deletion", "insertion") for edit in edits)
