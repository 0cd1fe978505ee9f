"""Long utterances: what no longer changes is taken out of the search, and the result is that of the whole; states are kept."""

import numpy as np
import pytest
from random_ngrams import WORDS, random_model

from carnelian.data.alphabet import Alphabet
from carnelian.decoding import beam
from carnelian.decoding.alignment import forced_align
from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.greedy import Greedy


def spoken(seed, words, alphabet, *, pause=4.0):
    """Log-probabilities (O, V) of random words, each letter on some steps with noise, pauses between words."""
    random = np.random.default_rng(seed)
    rows = []

    def add(symbol, count):
        for _ in range(count):
            row = random.normal(0, 1.5, len(alphabet) + 1)
            row[symbol] += random.uniform(2, 8)
            rows.append(row)

    for _ in range(words):
        for letter in random.choice(WORDS):
            add(alphabet.symbols.index(letter), random.integers(1, 3))
            add(alphabet.blank, random.integers(1, 3))
        if " " in alphabet.symbols:
            add(alphabet.symbols.index(" "), 1)
        add(alphabet.blank, int(random.exponential(pause)))
    logits = np.array(rows)
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


DECODERS = {
    "no model": (" ab", {}),
    "words": (" ab", {"language_model": random_model(1)}),
    "closed": (" ab", {"language_model": random_model(2), "lexicon": WORDS}),
    "hypotheses": (" ab", {"language_model": random_model(3), "hypotheses": 4, "beam_width": 8}),
    "no space": ("ab", {}),
    "hot": (" ab", {"hot_words": {"aab": 3.0}}),
}


@pytest.mark.parametrize("kind", DECODERS)
def test_settling_changes_nothing(kind, monkeypatch):
    letters, options = DECODERS[kind]
    alphabet = Alphabet(letters)
    log_probs = spoken(5, 400, alphabet)
    decoder = BeamSearch(alphabet, **({"beam_width": 24} | options))
    monkeypatch.setattr(beam, "STEPS_AT_ONCE", 10**9)
    whole = decoder(log_probs)
    monkeypatch.setattr(beam, "STEPS_AT_ONCE", 60)
    for parts in (1, 17):
        stream = decoder.stream()
        for part in np.array_split(log_probs, parts):
            stream.accept(part)
        assert stream.hypotheses() == whole
        assert stream.discarded > 0.8 * len(log_probs)
        assert sum(map(len, stream.chunks)) < len(log_probs) / 4


def test_a_long_silence_is_discarded_and_the_times_before_it_are_right(monkeypatch):
    """Two spellings that differ before it stay in the beam for ever: from some length on the best one decides."""
    monkeypatch.setattr(beam, "STEPS_AT_ONCE", 60)
    monkeypatch.setattr(beam, "MOST_STEPS_HELD", 600)
    alphabet = Alphabet(" ab")
    speech = spoken(6, 30, alphabet)
    silence = np.log(np.tile(np.array([[1e-5, 1e-5, 1e-5, 1 - 3e-5]], np.float32), (5000, 1)))
    decoder = BeamSearch(alphabet, random_model(4), beam_width=16)
    stream = decoder.stream()
    longest = 0
    for part in np.split(np.concatenate([speech, silence, speech]), range(50, 2 * len(speech) + 5000, 50)):
        stream.accept(part)
        longest = max(longest, stream.steps - stream.discarded)
    assert longest < 700 and len(stream.beam.history) < 10_000
    [found], [alone] = stream.hypotheses(), decoder(speech)
    count = len(alone.spans)
    assert found.spans[: count - 1] == alone.spans[:-1]
    later = [
        span._replace(first=span.first - 5000 - len(speech), last=span.last - 5000 - len(speech))
        for span in found.spans
    ]
    assert [span[:3] for span in later[-count + 1 :]] == [span[:3] for span in alone.spans[1:]]


@pytest.mark.parametrize("kind", [*DECODERS, "greedy"])
def test_a_state_goes_on_in_another_stream(kind, monkeypatch, tmp_path):
    monkeypatch.setattr(beam, "STEPS_AT_ONCE", 60)
    letters, options = DECODERS.get(kind, (" ab", {}))
    alphabet = Alphabet(letters)
    decoder = Greedy(alphabet) if kind == "greedy" else BeamSearch(alphabet, **({"beam_width": 24} | options))
    log_probs = spoken(7, 120, alphabet)
    first, second = decoder.stream(), decoder.stream()
    first.accept(log_probs[:500])
    np.savez(tmp_path / "state.npz", **first.state())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as file:
        second.restore(dict(file))
    assert second.hypotheses() == first.hypotheses()
    for stream in (first, second):
        stream.accept(log_probs[500:])
    assert second.hypotheses() == first.hypotheses()


def test_identities_tell_decoders_apart():
    alphabet, model = Alphabet(" ab"), random_model(1)
    decoders = [
        BeamSearch(alphabet),
        BeamSearch(alphabet, model),
        BeamSearch(alphabet, model, alpha=0.5),
        BeamSearch(alphabet, model, beam_width=8),
        BeamSearch(alphabet, model, hot_words={"ab": 2.0}),
        BeamSearch(alphabet, model, lexicon=WORDS),
        BeamSearch(alphabet, random_model(2)),
    ]
    assert len({decoder.identity for decoder in decoders}) == len(decoders)
    assert BeamSearch(alphabet, random_model(1)).identity == decoders[1].identity


@pytest.mark.parametrize("seed", range(10))
def test_the_greedy_path_in_pieces(seed):
    alphabet = Alphabet(" ab")
    log_probs = spoken(seed, 60, alphabet)
    decoder = Greedy(alphabet)
    [whole] = decoder(log_probs)
    stream = decoder.stream()
    random = np.random.default_rng(seed)
    for part in np.split(log_probs, np.sort(random.integers(0, len(log_probs), 40))):
        stream.accept(part)
    [found] = stream.hypotheses()
    assert (found.text, found.spans) == (whole.text, whole.spans)
    assert found.score == pytest.approx(whole.score)


def test_a_word_that_nobody_spoke_does_not_move_the_others():
    """A language model can insert words of probability 1e-6; the best path waits for a place at which they cost least."""
    steps, spelled = 300, [0, 1, 2, 0, 1, 2]
    log_probs = np.full((steps, 4), np.log(1e-7), np.float32)
    log_probs[:, 3] = np.log(1 - 3e-7)
    for symbol, step in zip(spelled, (20, 22, 24, 280, 282, 284)):
        log_probs[step] = np.log(1e-4)
        log_probs[step, symbol] = np.log(1 - 3e-4)
    inserted = [*spelled[:3], 1, 0, 2, 1, 0, *spelled[3:]]
    log_probs[250:260, :3] = np.log(1e-5)  # where they cost least
    first, _, _ = forced_align(log_probs, np.array(inserted))
    assert first[:3].tolist() == [20, 22, 24] and first[-3:].tolist() == [280, 282, 284]
    assert 250 <= first[3] < first[7] < 260
