"""`carnelian transcribe --channels`: each channel as if it were a recording of its own; written with the speaker's letter."""

import json
import re
import sys

import numpy as np
import pytest
import soundfile
import torch

from carnelian import cli
from carnelian.checkpoint import Checkpoint, save_checkpoint
from carnelian.data.alphabet import Alphabet
from carnelian.data.utterance import Utterance, write_manifest
from carnelian.models.registry import build_model

LETTERS = Alphabet(" abcdefghijklmnopqrstuvwxyz'")
BLOCKS = [{"channels": 32, "kernel": 11, "stride": 2, "separable": True}, {"channels": 32, "kernel": 11}]
RECIPE = {"features": {"name": "log_mel"}, "encoder": {"name": "convolutional", "blocks": BLOCKS}}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model with random weights: what it writes is nonsense, but always the same."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "nonsense.safetensors"
    weights = build_model(RECIPE, LETTERS).state_dict()
    save_checkpoint(path, Checkpoint(weights, LETTERS, {"task": "acoustic", **RECIPE}, 0, {}))
    return path


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """one.wav and two.wav with two channels, each channel as a file of its own (one-A.wav, ...), and mono.wav."""
    folder = tmp_path_factory.mktemp("calls")
    rng = np.random.default_rng(0)
    for name, size in (("one", 16000), ("two", 24000)):
        sides = rng.normal(0, 0.1, (size, 2)) * np.linspace(0, 1, size)[:, None]
        soundfile.write(folder / f"{name}.wav", sides, 16000)
        for channel, letter in enumerate("AB"):
            soundfile.write(folder / f"{name}-{letter}.wav", sides[:, channel], 16000)
    soundfile.write(folder / "mono.wav", rng.normal(0, 0.1, 16000), 16000)
    return folder


@pytest.fixture
def transcribe(model, monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["carnelian", "transcribe", str(model), *map(str, words)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_each_channel_is_written_as_if_it_were_alone(transcribe, calls):
    _, alone, _ = transcribe(*(calls / f"{name}.wav" for name in ("one-A", "one-B", "two-A", "two-B")))
    texts = [line.split("\t")[1] for line in alone.splitlines()]
    assert len(set(texts)) == 4 and all(texts)
    code, together, _ = transcribe(calls / "one.wav", calls / "two.wav", "--channels", "separate")
    assert code == 0
    assert [line.split("\t")[1] for line in together.splitlines()] == [
        f"{'AB'[n % 2]}: {text}" for n, text in enumerate(texts)
    ]
    for channel, text in (("1", texts[0]), ("2", texts[1])):
        assert transcribe(calls / "one.wav", "--channels", channel)[1] == f"{text}\n"
    _, lines, _ = transcribe(calls / "one.wav", "--channels", "separate", "--format", "jsonl")
    assert [(line["channel"], line["text"]) for line in map(json.loads, lines.splitlines())] == list(
        enumerate(texts[:2])
    )


def test_a_ctm_names_channels_and_a_segment_s_own_times(transcribe, calls, tmp_path):
    _, whole, _ = transcribe(calls / "one.wav", "--channels", "separate", "--format", "ctm")
    rows = [line.split() for line in whole.splitlines()]
    assert {row[0] for row in rows} == {"one"} and {row[1] for row in rows} == {"A", "B"}
    assert rows == sorted(rows, key=lambda row: (row[1], float(row[2])))
    segment = Utterance(str(calls / "one.wav"), 0.4, "", 0.5, {"channel": 1})
    write_manifest(tmp_path / "segments.jsonl", [segment])
    _, part, _ = transcribe(tmp_path / "segments.jsonl", "--format", "ctm")
    starts = [float(line.split()[2]) for line in part.splitlines()]
    assert starts and all(0.5 <= start < 0.95 for start in starts) and part.startswith("one B ")
    _, mono, _ = transcribe(calls / "mono.wav", "--format", "ctm")
    assert mono.split()[1] == "1"


def test_captions_of_a_conversation_name_the_speakers(transcribe, calls, tmp_path):
    code, subtitles, _ = transcribe(calls / "one.wav", "--channels", "separate", "--format", "srt")
    assert code == 0
    starts = re.findall(r"^(\d\d:\d\d:\d\d,\d{3}) -->", subtitles, re.M)
    assert starts == sorted(starts) and {"A: ", "B: "} == set(re.findall(r"^[AB]: ", subtitles, re.M))
    _, web, _ = transcribe(calls / "one.wav", "--channels", "separate", "--format", "vtt")
    assert "<v A>" in web and "<v B>" in web
    code, _, said = transcribe(calls / "one.wav", calls / "two.wav", "--channels", "separate", "--format", "srt")
    assert code == 2 and "subtitles of 2 recordings need a folder" in said
    code, _, _ = transcribe(
        calls / "one.wav",
        calls / "two.wav",
        "--channels",
        "separate",
        "--format",
        "srt",
        "--out",
        tmp_path / "subtitles",
    )
    assert code == 0 and {path.name for path in (tmp_path / "subtitles").iterdir()} == {"one.srt", "two.srt"}


def test_several_channels_are_not_averaged_silently(transcribe, calls):
    assert (
        "1 recordings have several channels, which are averaged" in transcribe(calls / "one.wav", calls / "mono.wav")[2]
    )
    code, _, said = transcribe(calls / "one.wav", "--channels", "3")
    assert code == 2 and "no channel 3; it has 2" in said
    code, _, said = transcribe(calls / "one.wav", "--channels", "left")
    assert code == 2 and '--channels "left": not known' in said
    assert transcribe(calls / "mono.wav", "--channels", "separate")[0] == 0


def test_the_same_recording_twice_is_two_lines(transcribe, calls, tmp_path):
    write_manifest(tmp_path / "twice.jsonl", [Utterance(str(calls / "mono.wav"), 1.0)] * 2)
    assert len(transcribe(tmp_path / "twice.jsonl")[1].splitlines()) == 2
