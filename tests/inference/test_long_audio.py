"""Recordings of hours: chunks give what the whole gives, in flat memory."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from random_engines import LETTERS, engine_of, pieces, places, speech_like

from carnelian.data.utterance import Utterance
from carnelian.decoding.greedy import Greedy
from carnelian.inference.long_audio import transcribe_long, window_log_probs
from carnelian.inference.recognizer import Recognizer
from carnelian.models.streaming.acoustic import FeatureStream
from carnelian.models.streaming.convolutional import ConvolutionalStream


@pytest.mark.slow
def test_twenty_minutes_in_chunks_equal_the_whole():
    """QuartzNet 15x5, 80 s of receptive field, in a narrow model with its kernels: first the features, then the encoder.

    The encoder runs in float64: a network of random weights makes 1e-7 at its input 1e-1 at its output, a trained one does not.
    """
    engine = engine_of({"name": "quartznet", "width": 0.04}, letters=False)
    audio, encoder = speech_like(1200), engine.model.encoder.double()
    features, frames = engine.model.features(torch.from_numpy(audio)[None], torch.tensor([len(audio)]))
    features = features[:, :, : int(frames[0])]
    with torch.inference_mode():
        whole, _ = encoder(features.double(), frames)
        assert whole.std() > 1
        for seconds in (1, 7.3, 30):
            chunks = pieces(audio, seconds)
            statistics, front = engine.statistics(chunks()), FeatureStream(engine.model.features)
            found = [front.step(torch.from_numpy(chunk)[None]) for chunk in chunks()] + [front.finish()]
            normalized = statistics.normalize(torch.cat(found, 2))
            torch.testing.assert_close(normalized, features, atol=1e-4, rtol=0)
            stream = ConvolutionalStream(encoder)
            steps = [stream.step(part) for part in features.double().split(round(100 * seconds), 2)]
            torch.testing.assert_close(torch.cat([*steps, stream.finish()], 2), whole, atol=1e-4, rtol=0)


def test_windows_differ_little_where_the_model_sees_little():
    engine = engine_of(
        {"name": "convolutional", "blocks": [{"channels": 16, "kernel": 11, "stride": 2}]}, normalize="none"
    )
    for seconds in (3.01, 12.3, 20.0):
        audio = speech_like(seconds)
        [[whole]] = engine.emissions([audio], (1.0,))
        found = np.concatenate(list(window_log_probs(engine, pieces(audio, 0.7), window=4, margin=1)))
        np.testing.assert_allclose(found, whole.log_probs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("encoder", ["quartznet", "citrinet"])
def test_a_long_recording_has_the_words_and_times_of_the_whole(encoder, tmp_path):
    sizes = {
        "quartznet": {"blocks": 5, "repeat": 1, "width": 0.1},
        "citrinet": {"channels": 64, "last": 24, "repeat": 1, "blocks": 1},
    }
    engine = engine_of({"name": encoder, **sizes[encoder]})
    audio = speech_like(30)
    soundfile.write(tmp_path / "a.wav", audio, 16_000, subtype="FLOAT")
    recognizer = Recognizer(engine, Greedy(LETTERS))
    whole = recognizer(audio)
    assert len(whole.words) > 2
    [segment] = recognizer.recognize([Utterance(str(tmp_path / "a.wav"), offset=10.0, duration=20.0)], long_seconds=5)
    found = transcribe_long(engine, recognizer.decoder, str(tmp_path / "a.wav"), chunk_seconds=2.3)
    assert found.text == whole.text and places(found) == places(whole) and found.duration == whole.duration
    assert segment.transcript.text == recognizer(audio[160_000:]).text and segment.transcript.duration == 20


def test_nothing_is_an_empty_transcript():
    engine = engine_of({"name": "quartznet", "blocks": 5, "repeat": 1, "width": 0.1})
    assert transcribe_long(engine, Greedy(LETTERS), np.zeros(0, np.float32)).text == ""


MEMORY = """
import sys
import numpy as np
import torch
sys.path.insert(0, "tests")
from random_engines import LETTERS, engine_of, speech_like
from carnelian.decoding.greedy import Greedy
from carnelian.inference.long_audio import transcribe_long
from carnelian.decoding.beam import BeamSearch
torch.set_num_threads(1)
engine = engine_of({"name": "quartznet", "blocks": 5, "repeat": 1, "width": 0.03})
minute = speech_like(60)
decoder = BeamSearch(LETTERS, beam_width=8) if sys.argv[2] == "beam" else Greedy(LETTERS)
def chunks():
    for _ in range(int(sys.argv[1])):
        yield minute
from carnelian.inference import long_audio
long_audio.chunks_of = lambda *given: chunks()
transcribe_long(engine, decoder, minute)
print(next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_an_hour_takes_the_memory_of_ten_minutes():
    peaks = [
        float(subprocess.run([sys.executable, "-c", MEMORY, minutes, "greedy"], capture_output=True, check=True).stdout)
        for minutes in ("10", "60")
    ]
    assert peaks[1] < peaks[0] + 100 and peaks[1] < 1000
