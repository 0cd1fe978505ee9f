"""Live recognition: chunks of any size give what the whole gives; stable words, endpoints, times."""

import numpy as np
import pytest
import torch
from random_engines import LETTERS, engine_of, places, speech_like

from carnelian.decoding.greedy import Greedy
from carnelian.errors import AudioError, CarnelianError
from carnelian.inference.endpointing import Endpointer, EndpointSettings
from carnelian.inference.live_stream import SegmentStream, StableWords, is_fed
from carnelian.inference.long_audio import log_probs_of
from carnelian.inference.recognizer import Recognizer

NO_ENDPOINTS = EndpointSettings(rules=())
LIVE = {"name": "quartznet", "blocks": 5, "repeat": 1, "width": 0.1, "lookahead": 16}
WIDE = {"name": "quartznet", "blocks": 5, "repeat": 1, "width": 0.1}


def run(stream, audio, sizes):
    """All results of a stream that gets audio in chunks of these sizes, again and again, with chunks of 0 and 1 between."""
    results, first, turn = [], 0, 0
    while first < len(audio):
        size = sizes[turn % len(sizes)]
        results += stream.accept(audio[first : first + size])
        first, turn = first + size, turn + 1
    return results + stream.finish()


@pytest.mark.parametrize("encoder, exact", [(LIVE, True), (WIDE, False)])
def test_live_text_is_the_offline_text(encoder, exact):
    engine = engine_of(encoder, normalize="none")
    recognizer = Recognizer(engine, Greedy(LETTERS))
    audio = speech_like(6.123)
    stream = recognizer.stream(endpoints=NO_ENDPOINTS)
    assert stream.exact == exact
    results = run(stream, audio, [0, 1, 4000, 777])
    whole = recognizer(audio)
    assert [result.final for result in results] == [False] * (len(results) - 1) + [True] and len(results) > 5
    assert results[-1].text == results[-1].stable == whole.text and places(results[-1]) == places(whole)


@pytest.mark.parametrize("encoder", [LIVE, WIDE])
def test_results_do_not_depend_on_the_chunks(encoder):
    """With endpoints and running normalization, and audio at another rate."""
    recognizer = Recognizer(engine_of(encoder), Greedy(LETTERS))
    audio = np.concatenate([speech_like(3), np.zeros(32_000, np.float32), speech_like(2, seed=2)])[::2].copy()
    found = [
        run(recognizer.stream(sample_rate=8000), audio, sizes) for sizes in ([len(audio)], [0, 1, 999, 4001], [1234])
    ]
    assert found[0] == found[1] == found[2] and found[0][-1].final
    times = [word.start for result in found[0] if result.final for word in result.words]
    assert times == sorted(times) and times[-1] <= len(audio) / 8000


def test_a_prior_normalizes_the_first_second():
    engine = engine_of(LIVE)
    audio = speech_like(20)
    prior = engine.statistics([audio])
    given, without = engine.running_normalizer(prior), engine.running_normalizer()
    features = torch.randn(1, 64, 300)
    assert given(features[:, :, :40]).shape[2] == 40 and without(features[:, :, :40]).shape[2] == 0
    torch.testing.assert_close(given(features[:, :, :0]), features[:, :, :0])
    late = torch.cat([without(features[:, :, 40:130]), without(features[:, :, 130:])], 2)
    expected, _ = features.double().mean(2, keepdim=True), None
    torch.testing.assert_close(
        late[:, :, -1:].double(),
        (features[:, :, -1:] - expected) / (features.double().std(2, keepdim=True) + 1e-5),
        atol=1e-5,
        rtol=0,
    )


def test_words_are_stable_after_three_updates():
    stable = StableWords(3)
    texts = ["a", "a b", "a b c", "a x c", "a x c", "a x c", "", "a"]
    assert [stable.update(text.split()) for text in texts] == [0, 0, 1, 1, 1, 3, 0, 0]


def test_kaldis_rules():
    quiet, loud = np.zeros(320, np.float32), np.full(320, 0.1, np.float32)

    def end_of(steps, **settings):
        """The seconds after which an utterance of (blank, audio) steps of 20 ms ends; None if it does not."""
        pointer = Endpointer(EndpointSettings(**settings), 0.02)
        return next((0.02 * (at + 1) for at, step in enumerate(steps) if pointer.step(*step)), None)

    assert end_of([(True, quiet)] * 500) == pytest.approx(5.0)
    spoken = [(True, quiet)] * 10 + [(False, loud)] * 50
    assert end_of(spoken + [(True, quiet)] * 100) == pytest.approx(1.7)  # rule 2: 0.5 s after speech
    assert end_of(spoken + [(True, loud)] * 100) == pytest.approx(2.2)  # blanks in loud audio count half
    assert end_of(spoken + [(True, quiet, 5.0)] * 100) == pytest.approx(2.2)  # rule 3, where ending is unlikely
    assert end_of(spoken + [(True, quiet, 9.0)] * 200) == pytest.approx(3.2)  # rule 4
    assert end_of([(False, loud)] * 1500) == pytest.approx(20.0)  # rule 5
    assert end_of([(True, quiet)] * 5000, rules=()) is None


def test_hostile_streams():
    recognizer = Recognizer(engine_of(LIVE), Greedy(LETTERS))
    assert recognizer.stream().finish() == []
    stream = recognizer.stream()
    assert stream.accept(np.zeros(0, np.float32)) == [] and stream.finish() == [] and stream.finish() == []
    with pytest.raises(CarnelianError, match="finished"):
        stream.accept(np.zeros(10, np.float32))
    with pytest.raises(AudioError, match="NaN"):
        recognizer.stream().accept(np.array([0, np.nan], np.float32))
    with pytest.raises(CarnelianError, match="stable_updates 0"):
        recognizer.stream(stable_updates=0)
    for rate in (-16000, 5, 10_000_000):
        with pytest.raises(AudioError, match=rf"sample_rate: {rate} samples per second; expected"):
            recognizer.stream(sample_rate=rate)
        with pytest.raises(AudioError, match=rf"audio: {rate} samples per second; expected"):
            recognizer(np.zeros(100, np.float32), rate)


def test_segments_of_a_fed_model_are_those_of_its_log_probabilities():
    """Every sample goes through the model once; a segment may begin at any step, and after a last step with new audio."""
    engine, audio = engine_of(LIVE, normalize="none"), speech_like(9)
    assert is_fed(engine) and not is_fed(engine_of(WIDE))
    greedy = Greedy(LETTERS)
    stream, fed = SegmentStream(engine, greedy.stream), []
    feed = stream.source.stream.step
    stream.source.stream.step = lambda audio: fed.append(len(audio)) or feed(audio)
    whole = log_probs_of(engine, audio)
    early = stream.step(audio[:40_000])
    assert 0 < early.duration < 2.5
    assert early.text == greedy(whole[: round(early.duration / engine.seconds_per_step)])[0].text
    stream.drop(50)
    stream.drop(10)
    later = [stream.step(audio[first : first + 4000], first == 140_000) for first in range(40_000, 144_000, 4000)]
    assert later[-1].text == greedy(whole[60:])[0].text and len(later[-1].words) > 5
    assert later[-1].duration == pytest.approx(9 - 60 * engine.seconds_per_step)
    assert sum(fed) == len(audio)
    after = stream.restarted().step(audio[:50_000], last=True)
    assert after.text == greedy(log_probs_of(engine, audio[:50_000]))[0].text
    assert SegmentStream(engine, greedy.stream).step(audio[:0], last=True).text == ""


def test_a_stream_goes_on_with_the_statistics_after_a_last_step():
    stream = SegmentStream(engine_of(LIVE), Greedy(LETTERS).stream)
    assert stream.step(speech_like(0.9)).duration == 0  # the first second waits for itself
    assert stream.step(speech_like(2), last=True).duration == pytest.approx(2.9)
    assert stream.restarted().step(speech_like(0.9)).duration > 0
