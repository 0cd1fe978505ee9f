"""Tuning finds weights that are better than none, and says so truly."""

import numpy as np
import pytest

from carnelian.data.alphabet import Alphabet
from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.tuning import Tuning, decoded_errors, oracle_errors, tune_weights
from carnelian.ngram.model import NGramBuilder
from carnelian.scoring.wer import Errors

ALPHABET = Alphabet(" abc")


def model_of_pairs():
    """A bigram model that expects "ab" and "ca" in turn."""
    words = ["<unk>", "<s>", "</s>", "ab", "ca", "b"]
    scores = np.full(len(words), -2.5, np.float32)
    builder = NGramBuilder(words, scores, np.full(len(words), -1.0, np.float32))
    pairs = np.array([[1, 3], [3, 4], [4, 3], [4, 2], [3, 2]], np.int32)
    builder.add(pairs, np.full(5, -0.5), np.zeros(5))
    return builder.finish()


def noisy(text: str, random: np.random.Generator) -> np.ndarray:
    """Log-probabilities of a text whose letters are often mistaken."""
    rows = []
    for letter in text:
        weights = random.dirichlet(np.ones(5) / 3)
        weights[ALPHABET.index[letter]] += random.choice([0.2, 1.0])
        rows += [weights, [0.02, 0.02, 0.02, 0.02, 1.0]]
    probs = np.array(rows)
    return np.log(probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def spoken():
    random = np.random.default_rng(0)
    references = [" ".join(["ab", "ca"] * random.integers(1, 4)) for _ in range(12)]
    return references, [noisy(reference, random) for reference in references]


def test_tuning(spoken):
    references, log_probs = spoken
    decoder = BeamSearch(ALPHABET, model_of_pairs())
    heard = []
    tuning = tune_weights(
        decoder, log_probs, references, alphas=(0.0, 1.0, 2.0), betas=(-2.0, 1.0), widths=(4, 16),
        report=lambda weights, errors: heard.append(weights),
    )  # fmt: skip
    assert heard == list(tuning.tried) and {(0.0, -2.0, 16), (2.0, 1.0, 16)} <= tuning.tried.keys()
    assert tuning.tried[tuning.best] == decoded_errors(decoder.weighed(*tuning.best), log_probs, references)
    best = tuning.errors(tuning.best)
    assert best.total == min(tuning.errors(weights).total for weights in tuning.tried)
    assert best.total < sum(decoded_errors(BeamSearch(ALPHABET), log_probs, references), Errors()).total
    oracle = BeamSearch(ALPHABET, decoder.vocabulary.model, hypotheses=16).weighed(*tuning.best)
    assert oracle_errors(oracle, log_probs, references).total <= best.total


def test_the_centre_lies_between_weights_that_could_be_best():
    """Two utterances, each for other weights: no more to the one than to the other; and to the better where one is."""
    right, wrong = Errors(hits=1), Errors(substitutions=1)
    tuning = Tuning(
        {(0.0, 0.0, 16): [right, wrong] * 20, (1.0, 2.0, 16): [wrong, right] * 20, (5.0, 5.0, 16): [wrong] * 40}
    )
    alpha, beta = tuning.centre()
    assert abs(alpha - 0.5) < 0.1 and beta == pytest.approx(2 * alpha)
    tuning.tried[0.0, 0.0, 16] = [right] * 40
    assert tuning.centre() == (0.0, 0.0)
