"""The best path: its text, its words in time, and what it refuses."""

import itertools
import json
import math

import numpy as np
import pytest

from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.decoding.greedy import Greedy
from carnelian.errors import DecodingError


class Pieces(Alphabet):
    """Word pieces without a model behind them."""

    separator = "▁"


def path_probs(path, symbols, sure=0.9):
    """Log-probabilities (O, V) whose best path is the given one."""
    probs = np.full((len(path), symbols), (1 - sure) / (symbols - 1), np.float32)
    probs[np.arange(len(path)), path] = sure
    return np.log(probs)


def oracle(log_probs, alphabet):
    path = [int(np.argmax(row)) for row in log_probs]
    symbols = [symbol for symbol, _ in itertools.groupby(path) if symbol != alphabet.blank]
    return " ".join("".join(alphabet.symbols[symbol] for symbol in symbols).replace(alphabet.separator, " ").split())


@pytest.mark.parametrize("seed", range(20))
def test_text_is_the_collapsed_best_path(seed):
    alphabet = Alphabet(" ab")
    log_probs = np.log(np.random.default_rng(seed).dirichlet(np.ones(4) / 2, size=30).astype(np.float32))
    hypothesis = Greedy(alphabet)(log_probs)[0]
    assert hypothesis.text == oracle(log_probs, alphabet) == " ".join(span.text for span in hypothesis.spans)
    assert hypothesis.score == pytest.approx(float(log_probs.max(axis=1).sum()), rel=1e-5)
    steps = [step for span in hypothesis.spans for step in (span.first, span.last)]
    assert steps == sorted(steps) and all(0 <= step < 30 for step in steps)


def test_words_lie_on_the_steps_of_their_symbols():
    log_probs = path_probs([3, 0, 1, 1, 3, 2, 3, 0, 2, 2, 0, 3], 4)
    first, second = Greedy(Alphabet(" ab"))(log_probs)[0].spans
    assert (first.text, first.first, first.last) == ("ab", 2, 5)
    assert (second.text, second.first, second.last) == ("b", 8, 9)
    assert first.confidence == pytest.approx(0.9)


def test_confidence_is_that_of_the_least_sure_symbol():
    log_probs = np.concatenate([path_probs([1, 1], 4, 0.6), path_probs([2], 4, 0.8), path_probs([0, 2], 4, 0.99)])
    log_probs[1] = path_probs([1], 4, 0.7)[0]
    first, second = Greedy(Alphabet(" ab"))(log_probs)[0].spans
    assert first.confidence == pytest.approx(0.7) and second.confidence == pytest.approx(0.99)


def test_word_pieces():
    alphabet = Pieces(["▁the", "▁ca", "t", "▁"])
    spans = Greedy(alphabet)(path_probs([0, 4, 1, 1, 2, 3, 2], 5))[0].spans
    assert [(span.text, span.first, span.last) for span in spans] == [("the", 0, 0), ("cat", 2, 4), ("t", 6, 6)]


@pytest.mark.parametrize("path", [[], [3, 3, 3], [0, 3, 0]])
def test_nothing_said(path):
    hypothesis = Greedy(Alphabet(" ab"))(path_probs(path, 4))[0]
    assert hypothesis.text == "" and hypothesis.spans == ()


def test_real_log_probs(shared):
    log_probs = np.array(json.loads((shared("decoding") / "libri_logits.json").read_text()))
    text = "i have a good deal of will you remember and what i have set my mind upon no doubt i shall some day achieve"
    assert Greedy(Alphabet(ENGLISH))(log_probs)[0].text == text


@pytest.mark.parametrize(
    ("log_probs", "message"),
    [
        (np.zeros((5, 3)), r"\(5, 3\), expected \(steps, 4\)"),
        (np.zeros((2, 5, 4)), r"\(2, 5, 4\)"),
        (np.zeros((5, 4)), "step 0 sum to 4, expected 1"),
        (np.full((5, 4), 0.25), "step 0 sum to"),
        (np.full((5, 4), 1000.0), "step 0 sum to inf"),
        (np.where(np.arange(5)[:, None] == 3, np.nan, math.log(0.25)) * np.ones(4), "step 3 holds NaN"),
    ],
)
def test_what_are_not_log_probs(log_probs, message):
    with pytest.raises(DecodingError, match=message) as caught:
        Greedy(Alphabet(" ab"))(log_probs)
    assert "\n" not in str(caught.value)
