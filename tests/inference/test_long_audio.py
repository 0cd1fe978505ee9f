"""Recordings of hours: chunks give what the whole gives, in flat memory."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from random_engines import LETTERS, engine_of, model_of, pieces, places, save_model, speech_like

from carnelian import cli
from carnelian.data.utterance import Utterance
from carnelian.decoding.greedy import Greedy
from carnelian.inference import long_audio
from carnelian.inference.long_audio import long_log_probs, recording_statistics, transcribe_long, window_log_probs
from carnelian.inference.recognizer import Recognizer
from carnelian.inference.torch_engine import TorchEngine
from carnelian.models.streaming.acoustic import FeatureStream
from carnelian.models.streaming.convolutional import ConvolutionalStream


@pytest.mark.slow
def test_twenty_minutes_in_chunks_equal_the_whole():
    """QuartzNet 15x5, 80 s of receptive field, in a narrow model with its kernels: first the features, then the encoder.

    The encoder runs in float64: a network of random weights makes 1e-7 at its input 1e-1 at its output, a trained one does not.
    """
    engine = TorchEngine(model_of({"name": "quartznet", "width": 0.04}, letters=False), LETTERS)
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


STREAMING = {
    "name": "conformer",
    "channels": 16,
    "layers": 2,
    "kernel": 5,
    "subsampling": "dw_striding",
    "stride": 8,
    "causal_subsampling": True,
    "convolution_context": [4, 0],
    "context": [[8, 3]],
    "context_style": "chunked",
}


@pytest.mark.parametrize(
    "encoder, normalize",
    [
        ({"name": "quartznet", "blocks": 5, "repeat": 1, "width": 0.05}, "per_feature"),
        ({"name": "quartznet", "blocks": 5, "repeat": 1, "width": 0.05, "lookahead": 16}, "none"),
        (STREAMING, "none"),
        ({"name": "citrinet", "channels": 16, "last": 24, "repeat": 1, "blocks": 1}, "per_feature"),
    ],
)
def test_the_steps_from_any_step_on_are_those_of_the_whole(encoder, normalize, monkeypatch):
    engine = engine_of(encoder, normalize=normalize)
    chunks = pieces(speech_like(66), 3.7)
    monkeypatch.setattr(long_audio.window_log_probs, "__kwdefaults__", {"window": 8.0, "margin": 1.0, "first_step": 0})
    statistics = recording_statistics(engine, chunks())
    assert (statistics is None) == (normalize == "none" or encoder["name"] == "citrinet")
    whole = np.concatenate(list(long_log_probs(engine, chunks, statistics=statistics)))
    for first_step in (1, len(whole) // 7, len(whole) // 2, len(whole) - 3):
        found = np.concatenate(list(long_log_probs(engine, chunks, statistics=statistics, first_step=first_step)))
        np.testing.assert_allclose(found, whole[first_step:], atol=2e-2, rtol=0)  # random weights: see above


KILLED = """
import os, signal, sys
from carnelian.inference import unfinished
unfinished.SAVED_EVERY = 0.0
save, step, number = unfinished.UnfinishedRecording.save, int(sys.argv[1]), getattr(signal, sys.argv[2])
def save_and_stop(self, state, text):
    save(self, state, text)
    if state["step"] > step:
        os.kill(os.getpid(), number)
unfinished.UnfinishedRecording.save = save_and_stop
sys.argv = ["carnelian", *sys.argv[3:]]
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a test in the background has not
from carnelian.cli import main
main()
"""


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGINT"])
def test_a_stopped_call_goes_on_where_it_was(signal, tmp_path, monkeypatch, capfd):
    save_model(tmp_path / "model.safetensors", {"name": "quartznet", "blocks": 5, "repeat": 1, "width": 0.05})
    soundfile.write(tmp_path / "talk.wav", speech_like(240), 16_000)
    monkeypatch.setenv("CARNELIAN_HOME", str(tmp_path / "home"))
    call = [
        "transcribe",
        tmp_path / "model.safetensors",
        tmp_path / "talk.wav",
        "--long-seconds",
        "60",
        "--format",
        "jsonl",
    ]
    call += ["--hot-word", "aa=1"]  # for the beam search

    def run(*more):
        monkeypatch.setattr(sys, "argv", ["carnelian", *map(str, [*call, *more])])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        assert exit.value.code == 0
        return json.loads(capfd.readouterr().out)

    whole = run()
    assert len(whole["words"]) > 20 and not (tmp_path / "home" / "unfinished").exists()
    words = [sys.executable, "-c", KILLED, "6000", signal, *call, "--out", tmp_path / "talk.jsonl"]
    stopped = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=300)
    assert stopped.returncode == (-9 if signal == "SIGKILL" else 130) and not (tmp_path / "talk.jsonl").exists()
    [text] = (tmp_path / "home" / "unfinished").glob("*.txt")
    assert whole["text"].startswith(text.read_text().strip()[:-10]) and len(text.read_text()) > 100
    assert signal == "SIGKILL" or str(text) in stopped.stderr
    begins = []
    real = long_audio.chunks_of

    def spied(*given, begin=0, **more):
        begins.append(begin)
        return real(*given, begin=begin, **more)

    monkeypatch.setattr(long_audio, "chunks_of", spied)
    found = run()
    assert len(begins) == 1 and begins[0] > 100  # one pass, not from the beginning
    assert found["text"] == whole["text"] and found["duration"] == 240
    assert [word["start"] for word in found["words"]] == pytest.approx(
        [word["start"] for word in whole["words"]], abs=0.021
    )
    assert not list((tmp_path / "home" / "unfinished").iterdir())


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
long_audio.chunks_of = lambda *given, begin: chunks()
transcribe_long(engine, decoder, minute)
print(next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.parametrize("decoder, minutes", [("greedy", 60), ("beam", 180)])
def test_hours_take_the_memory_of_ten_minutes(decoder, minutes):
    peaks = [
        float(subprocess.run([sys.executable, "-c", MEMORY, each, decoder], capture_output=True, check=True).stdout)
        for each in ("10", str(minutes))
    ]
    assert peaks[1] < peaks[0] + 60 and peaks[1] < 1000
