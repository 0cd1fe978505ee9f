"""`carnelian transcribe` that is killed, interrupted or fails: what is done is kept, and --resume does the rest, once."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from carnelian.commands import transcription as command
from carnelian.data.utterance import Manifest, Utterance, write_manifest


@pytest.fixture()
def recordings(tmp_path, record, monkeypatch):
    """A folder of eight recordings and a manifest of two segments of each; written as each recording is done."""
    monkeypatch.setattr(command, "WINDOW", 1)
    paths = [record(tmp_path / "in" / f"{number}.wav", 0.6, seed=number) for number in range(8)]
    segments = [Utterance(str(path), 0.3, "", offset) for path in paths for offset in (0.0, 0.3)]
    write_manifest(tmp_path / "m.jsonl", segments)
    return tmp_path / "in"


def stop_after(monkeypatch, count, error=KeyboardInterrupt):
    """Lets recognition fail after `count` groups; returns what undoes it."""
    original = command.recognize_groups

    def failing(*given, **settings):
        for number, results in enumerate(original(*given, **settings)):
            if number == count:
                raise error
            yield results

    monkeypatch.setattr(command, "recognize_groups", failing)
    return lambda: monkeypatch.setattr(command, "recognize_groups", original)


@pytest.mark.parametrize("format", ["text", "jsonl", "ctm"])
def test_an_interrupted_file_is_completed(tiny_model, recordings, carnelian, tmp_path, monkeypatch, format):
    """The result is that of an undisturbed call, byte for byte; also where the last piece was cut, in the file or in its journal."""
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    call = ("transcribe", tiny_model, tmp_path / "m.jsonl", "--format", format)
    expected = carnelian(*call)[1]
    undo = stop_after(monkeypatch, 5)
    code, _, err = carnelian(*call, "--out", out)
    assert code == 130 and "5 transcripts are kept" in err and not out.exists()
    assert expected.startswith(partial.read_text()) and partial.read_text()
    undo()
    code, _, err = carnelian(*call, "--out", out)
    assert code == 2 and "Give --resume to go on, or --overwrite" in err
    with partial.open("ab") as file:
        file.write(b"half a li")
    with partial.with_suffix(".partial.done").open("ab") as file:
        file.write(b'{"group": "ha')
    undo = stop_after(monkeypatch, 3)
    assert carnelian(*call, "--out", out, "--resume")[0] == 130
    undo()
    code, _, err = carnelian(*call, "--out", out, "--resume")
    assert code == 0 and "8 of 16 were transcribed before" in err
    assert out.read_text() == expected and {path.name for path in tmp_path.glob("out*")} == {"out"}
    code, _, err = carnelian(*call, "--out", out, "--resume")
    assert code == 0 and "is complete" in err and out.read_text() == expected


def test_a_file_of_other_settings_is_not_resumed(tiny_model, recordings, carnelian, tmp_path, monkeypatch):
    call = ("transcribe", tiny_model, recordings, "--out", tmp_path / "out")
    undo = stop_after(monkeypatch, 2)
    carnelian(*call)
    undo()
    code, _, err = carnelian(*call, "--resume", "--format", "jsonl")
    assert code == 2 and "begun with --format text, not jsonl" in err
    code, _, err = carnelian(*call, "--resume", "--time-stretch", "1.1")
    assert code == 2 and "begun with time_stretches [], not [1.1]" in err
    for words in (("--resume", "--overwrite"), ("--resume",)):
        code, _, err = carnelian(*call[:3], *(("--out", tmp_path / "out") if len(words) > 1 else ()), *words)
        assert code == 2 and err.startswith("carnelian: --resume")
    assert carnelian(*call, "--overwrite")[0] == 0 and len((tmp_path / "out").read_text().splitlines()) == 8
    (tmp_path / "out.partial").write_text("a file of someone else")
    assert "nothing says what is in it" in carnelian(*call, "--resume")[2]


def test_more_recordings_and_those_that_can_be_read_now(
    tiny_model, recordings, carnelian, tmp_path, record, monkeypatch
):
    whole = (recordings / "1.wav").read_bytes()
    (recordings / "1.wav").write_bytes(b"")
    undo = stop_after(monkeypatch, 3)
    call = ("transcribe", tiny_model, recordings, "--out", tmp_path / "out")
    carnelian(*call)
    undo()
    (recordings / "1.wav").write_bytes(whole)
    record(recordings / "0b.wav", 0.6)
    assert carnelian(*call, "--resume")[0] == 0
    names = [line.split("\t")[0].rsplit("/", 1)[1] for line in (tmp_path / "out").read_text().splitlines()]
    assert names[:3] == ["0.wav", "2.wav", "3.wav"] and len(set(names)) == len(names) == 9


def test_an_interrupted_folder_is_completed(tiny_model, recordings, carnelian, tmp_path, monkeypatch):
    call = ("transcribe", tiny_model, recordings, "--format", "all", "--out", tmp_path / "out")
    undo = stop_after(monkeypatch, 5)
    assert carnelian(*call)[0] == 130 and len(list((tmp_path / "out").iterdir())) == 5 * 5
    undo()
    assert "exists" in carnelian(*call)[2]
    (tmp_path / "out" / "0.srt").unlink()
    kept = (tmp_path / "out" / "1.srt").stat().st_mtime_ns
    code, _, err = carnelian(*call, "--resume")
    assert code == 0 and "4 of 8 were transcribed before" in err and len(list((tmp_path / "out").iterdir())) == 8 * 5
    assert (tmp_path / "out" / "1.srt").stat().st_mtime_ns == kept and (tmp_path / "out" / "0.srt").exists()


def test_nothing_done_leaves_nothing(tiny_model, recordings, carnelian, tmp_path, monkeypatch):
    stop_after(monkeypatch, 0)
    assert carnelian("transcribe", tiny_model, recordings, "--out", tmp_path / "out")[0] == 130
    assert not list(tmp_path.glob("out*"))


PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a test in the background has not
import sys, time
from carnelian import cli
from carnelian.commands import transcription
transcription.WINDOW = 1
original = transcription.recognize_groups
def slowly(*given, **settings):
    for results in original(*given, **settings):
        time.sleep(0.2)
        yield results
transcription.recognize_groups = slowly
cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_processes(tiny_model, recordings, carnelian, tmp_path, number):
    """Two calls one after the other are killed, another that runs at the same time is refused; nothing is lost or written twice."""
    words = list(
        map(str, ("transcribe", tiny_model, tmp_path / "m.jsonl", "--format", "jsonl", "--out", tmp_path / "out"))
    )
    for more in ([], ["--resume"]):
        partial = tmp_path / "out.partial"
        before = partial.stat().st_size if more else 0
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *words, *more], env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        deadline = time.monotonic() + 120
        while not (partial.exists() and partial.stat().st_size > before) and time.monotonic() < deadline:
            time.sleep(0.02)
        if more:
            assert "another process writes it" in carnelian(*words, "--resume")[2]
        process.send_signal(number)
        assert process.wait(60) in (-number, 128 + number)
        assert not (tmp_path / "out").exists() and partial.stat().st_size > before
    assert carnelian(*words, "--resume")[0] == 0
    found = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    listed = list(Manifest(tmp_path / "m.jsonl"))
    assert [(each["audio_filepath"], each.get("offset", 0.0)) for each in found] == [
        (each.audio_filepath, each.offset) for each in listed
    ]
    assert not list(tmp_path.glob("out.*"))
