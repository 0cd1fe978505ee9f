"""The search in tensors finds what the compiled one finds."""

import numpy as np
import pytest
import torch

from carnelian.data.alphabet import Alphabet
from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.tensors import DeviceBeamSearch, DeviceNGram
from carnelian.errors import DecodingError
from carnelian.ngram.model import EMPTY, NGramBuilder, score_word

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


class Pieces(Alphabet):
    """Word pieces without a model behind them."""

    separator = "▁"


def model(words, seed=0):
    """A trigram model with random scores; some n-grams missing."""
    random = np.random.default_rng(seed)
    known = ["<unk>", "<s>", "</s>", *words]
    builder = NGramBuilder(known, -random.uniform(0.5, 4, len(known)), -random.uniform(0.1, 2, len(known)))
    for order in (2, 3):
        grams = np.unique(random.integers(3, len(known), (40, order)), axis=0).astype(np.int32)
        backoffs = -random.uniform(0.1, 2, len(grams)) * (order < 3)
        builder.add(grams, -random.uniform(0.1, 3, len(grams)), backoffs)
    return builder.finish()


def log_probs(seed, steps, symbols):
    probs = np.random.default_rng(seed).dirichlet(np.ones(symbols) / 6, size=steps) + 1e-4
    return np.log(probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)


WORDS = ["a", "b", "ab", "ba", "aab", "bab", "abba"]
ALPHABETS = {"letters": Alphabet(" ab"), "pieces": Pieces(["▁a", "▁b", "a", "b", "▁ba"])}


@pytest.mark.parametrize("device", DEVICES)
def test_scores_of_words(device):
    ngram = model(WORDS)
    tables = DeviceNGram(ngram.tables, torch.device(device))
    states = [EMPTY, *range(len(ngram.tables.states))]
    pairs = [(state, word) for state in states for word in range(len(ngram.words))]
    given, asked = (torch.tensor(column, device=device) for column in zip(*pairs))
    scores, after = tables.score(given, asked)
    expected = [score_word(ngram.tables, *pair) for pair in pairs]
    assert scores.tolist() == pytest.approx([score for score, _ in expected], abs=1e-5)
    assert after.tolist() == [state for _, state in expected]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "with_model"), [("letters", True), ("letters", False), ("pieces", True)])
def test_the_same_as_the_compiled_search(name, with_model, device):
    alphabet, ngram = ALPHABETS[name], model(WORDS) if with_model else None
    utterances = [log_probs(seed, 5 + 9 * (seed % 4), len(alphabet) + 1) for seed in range(8)]
    settings = {"beam_width": 100, "unknown_score": -4.0}
    found = DeviceBeamSearch(alphabet, ngram, device=device, **settings).batch(utterances)
    same = 0
    for (one,), (other,) in zip(found, BeamSearch(alphabet, ngram, **settings).batch(utterances)):
        same += one.text == other.text
        if name == "letters":  # of pieces that spell the same text in several ways other ones may be dropped first
            assert one.score == pytest.approx(other.score, abs=0.05)
    assert same >= 7  # ties aside


def test_utterances_alone_and_together():
    search = DeviceBeamSearch(ALPHABETS["letters"], model(WORDS), beam_width=8)
    utterances = [log_probs(seed, steps, 4) for seed, steps in enumerate([30, 1, 0, 12])]
    assert [each[0].text for each in search.batch(utterances)] == [search(each)[0].text for each in utterances]


def test_language_models_over_symbols_are_refused():
    with pytest.raises(DecodingError, match="words only"):
        DeviceBeamSearch(ALPHABETS["letters"], model(["a", "b", "|"]))
