"""The beam search against plain enumeration of every path, and its promises: chunks, batches, widths, hot words."""

import itertools
import json
import math
import re
from collections import defaultdict

import numpy as np
import pytest
from random_ngrams import WORDS, random_model

from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.decoding.alignment import forced_align
from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.search import lm_fusion
from carnelian.decoding.search.lm_fusion import with_word_tree
from carnelian.decoding.search.word_tree import NODE
from carnelian.errors import DecodingError
from carnelian.ngram.binary import save_binary
from carnelian.ngram.load import load_language_model


class Pieces(Alphabet):
    """Word pieces without a model behind them."""

    separator = "▁"


def random_log_probs(seed: int, steps: int, symbols: int) -> np.ndarray:
    return np.log(np.random.default_rng(seed).dirichlet(np.ones(symbols), size=steps).astype(np.float32) + 1e-4)


def normalised(log_probs):
    return (log_probs - np.log(np.exp(log_probs).sum(axis=1, keepdims=True))).astype(np.float32)


def enumerate_texts(log_probs: np.ndarray, alphabet: Alphabet) -> dict[str, float]:
    """The probability of every text, summed over all paths that spell it."""
    texts: dict[str, float] = defaultdict(float)
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        symbols = [symbol for symbol, _ in itertools.groupby(path) if symbol != alphabet.blank]
        spelled = "".join(alphabet.symbols[symbol] for symbol in symbols).replace(alphabet.separator, " ")
        texts[" ".join(spelled.split())] += math.exp(sum(row[symbol] for row, symbol in zip(log_probs, path)))
    return texts


def language_score(text, model, alpha, beta, unknown_score):
    """What a model of words says of a text."""
    words = text.split()
    unknown = sum(word not in model.index for word in words)
    return alpha * model.score(text) + beta * len(words) + unknown_score * unknown


def wide(alphabet, model=None, **options):
    """A search that drops nothing."""
    everything = {"beam_width": 4000, "beam_threshold": math.inf, "token_threshold": -math.inf, "hypotheses": 8}
    return BeamSearch(alphabet, model, **(everything | options))


@pytest.mark.parametrize("seed", range(8))
def test_equal_to_enumeration_without_a_language_model(seed):
    alphabet = Alphabet(" ab")
    log_probs = normalised(random_log_probs(seed, 6, 4))
    expected = sorted(enumerate_texts(log_probs, alphabet).items(), key=lambda item: -item[1])
    for (text, probability), hypothesis in zip(expected, wide(alphabet)(log_probs)):
        assert hypothesis.text == text
        assert hypothesis.score == hypothesis.acoustic_score == pytest.approx(math.log(probability), abs=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_equal_to_enumeration_with_a_language_model(seed):
    alphabet, model = Alphabet(" ab"), random_model(seed)
    weights = {"alpha": 0.7, "beta": 0.4, "unknown_score": -1.5}
    log_probs = normalised(random_log_probs(seed + 100, 6, 4))
    language = {text: language_score(text, model, **weights) for text in enumerate_texts(log_probs, alphabet)}
    scored = {text: math.log(mass) + language[text] for text, mass in enumerate_texts(log_probs, alphabet).items()}
    expected = sorted(scored, key=lambda text: -scored[text])
    found = wide(alphabet, model, **weights)(log_probs)
    assert found[0].text == expected[0]
    for hypothesis in found:
        assert hypothesis.score == pytest.approx(scored[hypothesis.text], abs=1e-3)
        assert hypothesis.language_score == pytest.approx(language[hypothesis.text], abs=1e-3)
        assert hypothesis.acoustic_score + hypothesis.language_score == pytest.approx(hypothesis.score)


@pytest.mark.parametrize("seed", range(12))
def test_recombination_keeps_the_best(seed):
    alphabet, model = Alphabet(" ab"), random_model(seed)
    log_probs = normalised(3 * random_log_probs(seed, 30, 4))
    apart, together = (wide(alphabet, model, beam_width=500, recombine=each)(log_probs)[0] for each in (False, True))
    assert together.text == apart.text


def test_chunks_give_what_the_whole_gives():
    alphabet, model = Alphabet(" ab"), random_model(3)
    log_probs = normalised(random_log_probs(3, 400, 4))
    decoder = BeamSearch(alphabet, model, beam_width=20, hypotheses=5)
    stream = decoder.stream()
    for chunk in np.split(log_probs, [0, 1, 7, 150, 151, 399]):
        stream.accept(chunk)
        stream.hypotheses()
    assert stream.hypotheses() == decoder(log_probs)


def test_long_utterances_give_up_history_that_nothing_needs():
    alphabet = Alphabet(" ab")
    log_probs = normalised(random_log_probs(5, 6000, 4))
    stream = BeamSearch(alphabet, random_model(5), beam_width=16).stream()
    stream.accept(log_probs)
    assert len(stream.beam.history) < 16 * 6000 / 2
    assert stream.hypotheses()[0].text


def test_a_batch_gives_what_one_by_one_gives():
    decoder = BeamSearch(Alphabet(" ab"), random_model(4), beam_width=20, hypotheses=3)
    log_probs = [normalised(random_log_probs(seed, 50 + seed, 4)) for seed in range(12)]
    assert decoder.batch(log_probs, threads=3) == [decoder(each) for each in log_probs]


def test_wider_is_not_worse():
    alphabet, model = Alphabet(" ab"), random_model(6)
    log_probs = [normalised(random_log_probs(seed, 60, 4)) for seed in range(20)]
    totals = []
    for width in (1, 4, 16, 64, 256):
        decoder = BeamSearch(alphabet, model, beam_width=width, beam_threshold=50, token_threshold=-50)
        totals.append(sum(decoder(each)[0].score for each in log_probs))
    assert totals == sorted(totals) and totals[-1] > totals[0] + 1


def test_words_in_time_agree_with_the_text():
    alphabet, model = Alphabet(" ab"), random_model(7)
    for seed in range(10):
        for hypothesis in BeamSearch(alphabet, model, hypotheses=4)(normalised(random_log_probs(seed, 40, 4))):
            assert hypothesis.text == " ".join(span.text for span in hypothesis.spans)
            steps = [step for span in hypothesis.spans for step in (span.first, span.last)]
            assert steps == sorted(steps) and all(0 <= step < 40 for step in steps)
            assert all(0 < span.confidence <= 1 for span in hypothesis.spans)


def test_known_sentence_without_a_language_model(shared):
    log_probs = np.array(json.loads((shared("decoding") / "libri_logits.json").read_text()))
    text = "i have a good deal of will you remember and what i have set my mind upon no doubt i shall some day achieve"
    assert BeamSearch(Alphabet(ENGLISH))(log_probs)[0].text == text


def test_hot_words_given_with_the_call():
    alphabet, model = Alphabet(" ab"), random_model(8)
    decoder = BeamSearch(alphabet, model)
    log_probs = normalised(2 * random_log_probs(8, 20, 4))
    assert "bbb" not in decoder(log_probs)[0].text.split()
    assert "bbb" in decoder(log_probs, {"bbb": 60.0})[0].text.split()
    assert decoder(log_probs, {}) == decoder(log_probs)
    with pytest.raises(DecodingError, match='cannot spell "x"'):
        decoder(log_probs, {"x": 1.0})


def test_hot_words_add_their_weight():
    alphabet, model = Alphabet(" ab"), random_model(9)
    weights = {"alpha": 0.5, "beta": 0.2, "unknown_score": -3.0}
    log_probs = normalised(random_log_probs(9, 6, 4))
    plain = {each.text: each for each in wide(alphabet, model, hypotheses=999, **weights)(log_probs)}
    for found in wide(alphabet, model, hypotheses=30, hot_words={"a": 1.5, "bb": 2.0}, **weights)(log_probs):
        words = found.text.split()
        bonus = 1.5 * words.count("a") + (2.0 + 3.0) * words.count("bb")  # a hot word is no unknown one
        assert found.score == pytest.approx(plain[found.text].score + bonus, abs=1e-3)


@pytest.mark.parametrize("with_model", [False, True])
def test_a_lexicon_allows_its_words_only(with_model):
    alphabet, lexicon = Alphabet(" ab"), ["ab", "bb", "a"]
    model = random_model(10) if with_model else None
    weights = {"alpha": 0.5, "beta": 0.3, "unknown_score": -2.0}
    log_probs = normalised(random_log_probs(10, 6, 4))
    texts = enumerate_texts(log_probs, alphabet)
    scored = {
        text: math.log(mass) + (language_score(text, model, **weights) if model else 0.0)
        for text, mass in texts.items()
        if set(text.split()) <= set(lexicon)
    }
    found = wide(alphabet, model, lexicon=lexicon, **weights)(log_probs)
    assert [each.text for each in found] == sorted(scored, key=lambda text: -scored[text])[: len(found)]
    for each in found:
        assert each.score == pytest.approx(scored[each.text], abs=1e-3)


def test_language_model_over_characters():
    alphabet, model = Alphabet(" ab"), random_model(11, ["a", "b", "|"])
    log_probs = normalised(random_log_probs(11, 5, 4))
    scored: dict[str, float] = defaultdict(float)
    for path in itertools.product(range(4), repeat=5):
        symbols = "".join(" ab"[symbol] for symbol, _ in itertools.groupby(path) if symbol != 3)
        letters = re.sub(" +", "|", symbols.lstrip())  # a final space is a symbol to such a model
        language = 0.6 * model.score(" ".join(letters)) + 0.3 * len(letters)
        scored[" ".join(symbols.split())] += math.exp(sum(log_probs[range(5), path]) + language)
    found = wide(alphabet, model, alpha=0.6, beta=0.3)(log_probs)[0]
    best = max(scored, key=lambda text: scored[text])
    assert found.text == best and found.score == pytest.approx(math.log(scored[best]), abs=1e-3)


def test_language_model_over_word_pieces():
    alphabet = Pieces(["▁a", "▁b", "b"])
    model = random_model(12, ["▁a", "▁b", "b"])
    log_probs = normalised(random_log_probs(12, 6, 4))
    found = wide(alphabet, model, alpha=0.6, beta=0.3)(log_probs)[0]
    scored: dict[str, float] = defaultdict(float)
    for path in itertools.product(range(4), repeat=6):
        symbols = [symbol for symbol, _ in itertools.groupby(path) if symbol != 3]
        pieces = [alphabet.symbols[symbol] for symbol in symbols]
        language = 0.6 * model.score(" ".join(pieces)) + 0.3 * len(pieces)
        scored["".join(pieces).replace("▁", " ").strip()] += math.exp(sum(log_probs[range(6), path]) + language)
    best = max(scored, key=lambda text: scored[text])
    assert found.text == best and found.score == pytest.approx(math.log(scored[best]), abs=1e-3)


def test_word_pieces_with_a_language_model_of_words():
    alphabet, model = Pieces(["▁a", "▁b", "a", "b", "▁ab", "▁"]), random_model(13)
    weights = {"alpha": 0.7, "beta": 0.4, "unknown_score": -1.5}
    log_probs = normalised(random_log_probs(13, 5, 7))
    texts = enumerate_texts(log_probs, alphabet)
    scored = {text: math.log(mass) + language_score(text, model, **weights) for text, mass in texts.items()}
    found = wide(alphabet, model, **weights)(log_probs)
    assert found[0].text == max(scored, key=lambda text: scored[text])
    assert found[0].score == pytest.approx(scored[found[0].text], abs=1e-3)


def test_many_symbols():
    alphabet = Pieces([f"▁{number}" for number in range(700)] + [str(number) for number in range(700)])
    logits = np.random.default_rng(0).normal(0, 3, (40, 1401))
    log_probs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    hypothesis = BeamSearch(alphabet, beam_width=8)(log_probs)[0]
    assert hypothesis.text == " ".join(span.text for span in hypothesis.spans) != ""


def test_words_that_the_alphabet_cannot_spell(capsys):
    with pytest.raises(DecodingError, match=r"5 of 5 words cannot be spelled by the alphabet, such as 'a'"):
        BeamSearch(Alphabet(" AB"), random_model(1))
    BeamSearch(Alphabet(" ab"), random_model(1, [*WORDS, "é"]))
    assert "1 of 6 words cannot be spelled" in capsys.readouterr().err


def test_the_word_tree_is_stored_with_the_model(tmp_path, monkeypatch):
    model = random_model(2)
    save_binary(with_word_tree(model), tmp_path / "model.bin")
    loaded = load_language_model(tmp_path / "model.bin")
    monkeypatch.setattr(lm_fusion, "build_tree", None)
    assert (lm_fusion.word_tree(loaded) == with_word_tree(loaded).extra["word_tree"].view(NODE)).all()
    log_probs = normalised(random_log_probs(2, 40, 4))
    assert BeamSearch(Alphabet(" ab"), loaded)(log_probs)[0].text


def test_other_weights_without_building_again():
    alphabet, model = Alphabet(" ab"), random_model(2)
    log_probs = normalised(random_log_probs(2, 40, 4))
    fresh = BeamSearch(alphabet, model, alpha=1.3, beta=-0.5, beam_width=9)
    assert BeamSearch(alphabet, model).weighed(1.3, -0.5, 9)(log_probs) == fresh(log_probs)


def test_what_are_not_log_probs():
    decoder = BeamSearch(Alphabet(" ab"))
    for wrong in (np.zeros((5, 4)), np.full((5, 4), np.nan), np.zeros((5, 5))):
        with pytest.raises(DecodingError):
            decoder(wrong)


@pytest.mark.parametrize("with_model", [False, True])
@pytest.mark.parametrize("width", [1, 2, 5, 30])
def test_every_word_is_in_the_lexicon_however_narrow_the_beam(with_model, width):
    """Sharp log-probabilities push the search into words that the utterance does not finish."""
    alphabet, lexicon = Alphabet(" abc"), {"ab", "bbca", "acc", "cabbac", "b"}
    model = random_model(14, sorted(lexicon - {"acc"})) if with_model else None
    search = BeamSearch(alphabet, model, lexicon=lexicon, beam_width=width, hypotheses=4)
    best = BeamSearch(alphabet, model, lexicon=lexicon, beam_width=width)
    for seed in range(60):
        random = np.random.default_rng(seed)
        log_probs = normalised(random.normal(0, 12, (int(random.integers(1, 40)), 5)))
        found = search(log_probs) + best(log_probs)
        assert found
        for each in found:
            assert math.isfinite(each.score) and set(each.text.split()) <= lexicon


def test_a_closed_vocabulary_survives_a_long_word_that_is_never_finished():
    letters = "abcdefghij" * 30
    alphabet = Alphabet(" abcdefghij")
    log_probs = np.full((300, 12), -60.0, np.float32)
    log_probs[range(300), [alphabet.index[letter] for letter in letters]] = 0
    (found,) = BeamSearch(alphabet, lexicon=[letters + "a", "ab"], beam_width=4)(log_probs)
    assert set(found.text.split()) <= {"ab"} and math.isfinite(found.score)


@pytest.mark.parametrize(
    "settings",
    [
        {"beam_width": 0},
        {"beam_width": -3},
        {"beam_width": 2.5},
        {"beam_width": 10**9},
        {"hypotheses": 0},
        {"beam_threshold": -1.0},
        {"beam_threshold": math.nan},
        {"token_threshold": 0.5},
        {"token_threshold": math.nan},
        {"alpha": -0.1},
        {"alpha": math.nan},
        {"alpha": math.inf},
        {"alpha": 1000.0},
        {"beta": math.nan},
        {"beta": 1000.0},
        {"beta": -math.inf},
        {"unknown_score": math.nan},
        {"unknown_score": -math.inf},
        {"hot_words": {"a": math.nan}},
        {"hot_words": {"a": 1000.0}},
        {"hot_words": {"a": -math.inf}},
    ],
    ids=str,
)
def test_settings_out_of_range(settings):
    with pytest.raises(DecodingError, match="expected"):
        BeamSearch(Alphabet(" ab"), random_model(1), **settings)


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0), (1.0, 0.0, -2), (math.nan, 0.0, 4), (1.0, math.inf, 4)])
def test_other_weights_are_checked_too(weights):
    with pytest.raises(DecodingError, match="expected"):
        BeamSearch(Alphabet(" ab"), random_model(1)).weighed(*weights)


@pytest.mark.parametrize("alpha", [0.0, 20.0, 80.0])
@pytest.mark.parametrize("beta", [-80.0, 0.0, 80.0])
@pytest.mark.parametrize("words", [WORDS, ["a", "b", "|"]])
def test_extreme_weights_give_finite_scores(alpha, beta, words):
    hot_words = {"a": 80.0, "bb": -80.0}
    search = BeamSearch(
        Alphabet(" ab"), random_model(15, words), alpha=alpha, beta=beta, hot_words=hot_words, hypotheses=5
    )
    for seed in range(5):
        found = search(normalised(4 * random_log_probs(seed, 60, 4)))
        assert found and all(math.isfinite(each.score) and math.isfinite(each.language_score) for each in found)


@pytest.mark.parametrize("seed", range(40))
def test_times_are_those_of_the_likeliest_spelling(seed):
    """Of "ab" and "ab " at the end, whichever is more probable."""
    alphabet = Alphabet(" ab")
    log_probs = normalised(random_log_probs(seed + 500, 6, 4))
    spellings: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(4), repeat=6):
        symbols = tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != 3)
        shortest = tuple(  # a space at the start or after another one changes nothing
            symbol for index, symbol in enumerate(symbols) if symbol or (index and symbols[index - 1])
        )
        spellings[shortest] += math.exp(sum(log_probs[range(6), path]))
    (found,) = wide(alphabet, hypotheses=1, recombine=False)(log_probs)
    alike = {key: mass for key, mass in spellings.items() if "".join(" ab"[s] for s in key).strip() == found.text}
    symbols = np.array(max(alike, key=lambda key: alike[key]), np.int64)
    first, last, _ = forced_align(log_probs, symbols)
    letters = [index for index, symbol in enumerate(symbols) if symbol]
    assert found.spans[0].first == first[letters[0]] and found.spans[-1].last == last[letters[-1]]
