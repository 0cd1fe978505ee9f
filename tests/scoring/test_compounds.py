"""Compounds: by hand, by their laws, and against kaldialign where it is installed."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnelian.scoring.compounds import align_compounds, count_compounds
from carnelian.scoring.wer import Errors, count

WORDS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "aba", "white", "paper", "whitepaper"]), max_size=8)


def test_by_hand():
    assert count_compounds(["white", "paper"], ["whitepaper"]) == Errors(hits=2)
    assert count_compounds(["whitepaper"], ["white", "paper"]) == Errors(hits=1)
    assert count_compounds(["a", "b", "c"], ["abc", "d"]) == Errors(hits=3, insertions=1)
    edits = align_compounds(["the", "white", "paper"], ["a", "whitepaper"])
    assert [tuple(edit) for edit in edits] == [("substitution", "the", "a"), ("hit", "white paper", "whitepaper")]


@given(WORDS, WORDS)
@settings(deadline=None)  # the first call compiles
def test_laws(reference, hypothesis):
    found = count_compounds(reference, hypothesis)
    assert found.total <= count(reference, hypothesis).total
    assert found.reference_words == len(reference)
    spelled = " ".join(edit.reference for edit in align_compounds(reference, hypothesis) if edit.reference is not None)
    assert spelled.split() == reference


def test_a_thousand_pairs_beside_kaldialign():
    kaldialign = pytest.importorskip("kaldialign", reason="kaldialign is not installed (pip install kaldialign)")
    rng, words = random.Random(0), ["a", "b", "ab", "ba", "aba", "white", "paper", "whitepaper", "é", "éa", "aé", "c"]
    pairs = []
    for _ in range(1000):
        reference = [rng.choice(words) for _ in range(rng.randint(0, 12))]
        hypothesis = [rng.choice(words) if rng.random() < 0.2 else word for word in reference if rng.random() < 0.9]
        pairs.append((reference, hypothesis))
    found = sum((count_compounds(*pair) for pair in pairs), Errors())
    told = kaldialign.batch_error_rate(*zip(*pairs), merge_compounds=True)
    assert (found.insertions, found.deletions, found.substitutions) == (told["ins"], told["del"], told["sub"])
    assert found.rate == pytest.approx(told["err_rate"], abs=1e-12)
    for reference, hypothesis in pairs:
        steps = [(edit.reference or "*", edit.hypothesis or "*") for edit in align_compounds(reference, hypothesis)]
        assert steps == kaldialign.align(reference, hypothesis, "*", merge_compounds=True)
