"""Words in every form in which symbols write them: white space before, after or within pieces, and bytes of characters."""

import io

import numpy as np
import pytest

from carnelian.data.alphabet import Alphabet, WordPieces
from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.greedy import Greedy
from carnelian.ngram.model import NGramBuilder

LINES = ["the cat sat on the mat", "the dog sat on the log", "a café in the town", "the cat and the dog"] * 20


def learned(**options):
    spm = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES),
        model_writer=model,
        normalization_rule_name="identity",
        minloglevel=2,
        **{"vocab_size": 40, "model_type": "bpe", "bos_id": -1, "eos_id": -1, "hard_vocab_limit": False} | options,
    )
    return WordPieces(model.getvalue())


def spoken(symbols, alphabet):
    """Log-probabilities whose best path is each of the symbols for a step, with a blank between."""
    path = [step for symbol in symbols for step in (symbol, alphabet.blank)]
    probs = np.full((len(path), len(alphabet) + 1), 1e-6)
    probs[range(len(path)), path] = 1
    return np.log(probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)


def decoders(alphabet):
    return [Greedy(alphabet), BeamSearch(alphabet, beam_width=8), BeamSearch(alphabet, beam_width=8, hypotheses=3)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"treat_whitespace_as_suffix": True},
        {"split_by_whitespace": False, "vocab_size": 60},
        {"byte_fallback": True, "vocab_size": 300, "model_type": "unigram", "character_coverage": 0.98},
        {"bos_id": 1, "eos_id": 2, "user_defined_symbols": ["<music>"]},
    ],
    ids=["prefix", "suffix", "across", "bytes", "control"],
)
@pytest.mark.parametrize("text", ["the cat sat on the mat", "a café in the town", "the dog"])
def test_word_pieces_of_every_kind(options, text):
    alphabet = learned(**options)
    symbols = alphabet.encode(text)
    expected = alphabet.processor.decode(symbols).split()
    assert alphabet.decode(symbols).split() == expected
    for decoder in decoders(alphabet):
        hypothesis = decoder(spoken(symbols, alphabet))[0]
        assert hypothesis.text.split() == [span.text for span in hypothesis.spans] == expected
        firsts, lasts = [span.first for span in hypothesis.spans], [span.last for span in hypothesis.spans]
        assert firsts == sorted(firsts) and all(first <= last for first, last in zip(firsts, lasts))


def test_control_pieces_write_nothing():
    alphabet = learned(bos_id=1, eos_id=2)
    symbols = [1, *alphabet.encode("the cat"), 2]
    assert alphabet.decode(symbols) == "the cat"
    for decoder in decoders(alphabet):
        assert decoder(spoken(symbols, alphabet))[0].text == "the cat"


def test_bytes_are_decoded():
    alphabet = learned(byte_fallback=True, vocab_size=300, model_type="unigram", character_coverage=0.98)
    symbols = alphabet.encode("café")
    assert any(alphabet.processor.is_byte(symbol) for symbol in symbols)
    assert alphabet.decode(symbols) == "café" == Greedy(alphabet)(spoken(symbols, alphabet))[0].text


@pytest.mark.parametrize("other", ["\u00a0", "\t", "\u2003"])
def test_alphabets_with_other_white_space(other):
    alphabet = Alphabet([" ", "a", "b", other])
    log_probs = spoken([1, 3, 2, 0, 1], alphabet)
    for decoder in decoders(alphabet):
        hypothesis = decoder(log_probs)[0]
        assert [(span.text, span.first, span.last) for span in hypothesis.spans] == [
            ("a", 0, 0),
            ("b", 4, 4),
            ("a", 8, 8),
        ]
        assert hypothesis.text == "a b a"


def test_suffix_pieces_with_a_language_model():
    """Word-end scores come in where the white space after a word comes in."""
    alphabet = learned(treat_whitespace_as_suffix=True)
    words = ["<unk>", "<s>", "</s>", "the", "cat", "sat", "dog"]
    model = NGramBuilder(words, -np.arange(1.0, 8.0), np.zeros(7)).finish()
    hypothesis = BeamSearch(alphabet, model, alpha=0.5, beta=0.0)(spoken(alphabet.encode("the cat sat"), alphabet))[0]
    assert hypothesis.text == "the cat sat"
    assert hypothesis.language_score == pytest.approx(0.5 * model.score("the cat sat"), abs=1e-4)


def test_groups_of_characters():
    alphabet = Alphabet([" ", "c", "h", "a", "ch", "<pad>"])
    assert alphabet.encode("cha hac") == [4, 3, 0, 2, 3, 1]
    assert alphabet.unknown("cha<pad>x") == set("<pd>x")
    assert Alphabet(["ch", "a"]).unknown("cha") == set() and Alphabet(["ch", "a"]).unknown("ca") == {"c"}
    log_probs = spoken(alphabet.encode("ha"), alphabet)
    log_probs[0, [2, 4]] = np.log([0.7, 0.3])
    search = BeamSearch(alphabet, token_threshold=-30.0)
    assert search(log_probs)[0].text == "ha" and search(log_probs, {"cha": 20.0})[0].text == "cha"
