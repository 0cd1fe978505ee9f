"""`carnelian transcribe`: bad recordings cost nothing but themselves, times are the recording's, no output overwrites another."""

import io
import json
import re
import sys

import numpy as np
import pytest
import soundfile


@pytest.fixture()
def folder(tmp_path, record):
    """Two good recordings, one cut in the middle, one empty, one that holds a NaN."""
    record(tmp_path / "in" / "a.wav", 1.0, seed=1)
    whole = record(tmp_path / "in" / "b.flac", 1.5, seed=2)
    (tmp_path / "in" / "cut.flac").write_bytes(whole.read_bytes()[:9000])
    (tmp_path / "in" / "empty.wav").write_bytes(b"")
    audio = np.zeros(16000, np.float32)
    audio[1000:1010] = np.nan
    soundfile.write(tmp_path / "in" / "nan.wav", audio, 16000, subtype="FLOAT")
    return tmp_path / "in"


def test_bad_recordings_are_named_and_the_others_written(tiny_model, folder, carnelian, tmp_path):
    code, out, err = carnelian("transcribe", tiny_model, folder, "--out", tmp_path / "out.txt")
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert code == 2 and [line.split("\t")[0] for line in lines] == [str(folder / "a.wav"), str(folder / "b.flac")]
    assert err.splitlines()[-1].startswith("carnelian: 3 of 5 recordings left out")
    for name in ("cut.flac", "empty.wav", "nan.wav"):  # each is named once
        assert len(re.findall(rf"^carnelian: \S*{name}: ", err, re.M)) == 1 == err.count(name)
    code, out, err = carnelian("transcribe", tiny_model, folder)
    assert code == 2 and out.splitlines() == lines


def test_bad_recordings_in_a_manifest(tiny_model, folder, carnelian, tmp_path):
    names = ["a.wav", "cut.flac", "gone.wav", "nan.wav", "b.flac"]
    lines = [{"audio_filepath": str(folder / name), "duration": 1.0, "text": "a b"} for name in names]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, out, _ = carnelian("transcribe", tiny_model, tmp_path / "m.jsonl", "--format", "jsonl")
    assert code == 2 and len(out.splitlines()) == 2
    code, out, err = carnelian(
        "evaluate", tiny_model, tmp_path / "m.jsonl", "--json-output", "--out", tmp_path / "e.jsonl"
    )
    assert code == 2 and json.loads(out)["left_out"] == 3
    assert json.loads(out)["manifests"]["m"]["utterances"] == 2 == len((tmp_path / "e.jsonl").read_text().splitlines())
    assert "3 of 5 recordings left out" in err and "gone.wav" in err and "nan.wav" in err


def segments(tmp_path, record):
    path = record(tmp_path / "talk.wav", 2.0)
    lines = [{"audio_filepath": str(path), "duration": 1.0, "offset": offset} for offset in (0.0, 1.0)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "m.jsonl"


def seconds(clock):
    hours, minutes, rest = clock.replace(",", ".").split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


def test_times_of_segments_are_those_of_the_recording(tiny_model, tmp_path, record, carnelian):
    manifest = segments(tmp_path, record)
    _, out, _ = carnelian("transcribe", tiny_model, manifest, "--format", "jsonl")
    first, second = map(json.loads, out.splitlines())
    assert "offset" not in first and second["offset"] == 1.0
    assert all(word["end"] <= 1.0 for word in first["words"]) and all(word["start"] >= 1.0 for word in second["words"])
    _, out, _ = carnelian("transcribe", tiny_model, manifest, "--format", "ctm")
    starts = [float(line.split()[2]) for line in out.splitlines()]
    assert starts == [word["start"] for each in (first, second) for word in each["words"]]
    assert {line.split()[0] for line in out.splitlines()} == {"talk"}
    _, out, _ = carnelian("transcribe", tiny_model, manifest, "--format", "ctm", "--ctm-file", "path")
    assert {line.split()[0] for line in out.splitlines()} == {str(tmp_path / "talk.wav")}


@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_segments_of_a_recording_make_one_subtitle(tiny_model, tmp_path, record, carnelian, format):
    manifest = segments(tmp_path, record)
    record(tmp_path / "other.wav")
    code, _, _ = carnelian(
        "transcribe", tiny_model, manifest, tmp_path / "other.wav", "--format", format, "--out", tmp_path / "out"
    )
    assert code == 0 and sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"other.{format}",
        f"talk.{format}",
    ]
    subtitle = (tmp_path / "out" / f"talk.{format}").read_text()
    starts, ends = ([seconds(clock) for clock in re.findall(shape, subtitle)] for shape in (r"(\S+) -->", r"--> (\S+)"))
    assert starts == sorted(starts) and starts[0] < 1.0 < ends[-1] <= 2.0
    code, out, _ = carnelian("transcribe", tiny_model, manifest, "--format", format)
    assert code == 0 and out == (tmp_path / "out" / f"talk.{format}").read_text()


def test_equal_names_are_told_apart(tiny_model, tmp_path, record, carnelian):
    for name in ("a/x.wav", "b/x.wav", "b/x.flac"):
        record(tmp_path / "in" / name)
    command = ("transcribe", tiny_model, tmp_path / "in", "--format", "srt", "--out", tmp_path / "out")
    assert carnelian(*command)[0] == 0
    assert len(list((tmp_path / "out").iterdir())) == 3
    code, _, err = carnelian(*command)
    assert code == 2 and "exists. Give another --out, or --overwrite" in err
    assert carnelian(*command, "--overwrite")[0] == 0


def test_every_format_at_once_and_files_in_a_folder(tiny_model, tmp_path, record, carnelian):
    record(tmp_path / "x.wav")
    assert carnelian("transcribe", tiny_model, tmp_path / "x.wav", "--format", "all", "--out", tmp_path / "o")[0] == 0
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"x.txt", "x.json", "x.srt", "x.vtt", "x.ctm"}
    (tmp_path / "p").mkdir()
    assert carnelian("transcribe", tiny_model, tmp_path / "x.wav", "--out", tmp_path / "p")[0] == 0
    assert (tmp_path / "p" / "x.txt").read_text() == (tmp_path / "o" / "x.txt").read_text()


def test_standard_input(tiny_model, tmp_path, record, carnelian, monkeypatch):
    path = record(tmp_path / "x.wav")
    _, expected, _ = carnelian("transcribe", tiny_model, path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert carnelian("transcribe", tiny_model, "-")[:2] == (0, expected)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert "nothing came" in carnelian("transcribe", tiny_model, "-")[2]
    for format, found in (("jsonl", '"audio_filepath": "stdin"'), ("ctm", "stdin 1 ")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
        assert found in carnelian("transcribe", tiny_model, "-", "--format", format)[1]


def test_an_unwritable_output_is_found_before_the_model_is_read(tmp_path, record, carnelian):
    record(tmp_path / "x.wav")
    code, _, err = carnelian("transcribe", "no-model", tmp_path / "x.wav", "--out", "/dev/null/none/out.txt")
    assert code == 2 and "could not be written" in err and "no-model" not in err


def test_linked_folders_upper_case_and_files_that_are_left_out(tiny_model, tmp_path, record, carnelian):
    record(tmp_path / "far" / "linked.caf")
    record(tmp_path / "in" / "LOUD.WAV")
    (tmp_path / "in" / "film.mov").write_bytes(b"x")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "circle").symlink_to(tmp_path / "in")
    code, out, err = carnelian("transcribe", tiny_model, tmp_path / "in")
    assert code == 0 and len(out.splitlines()) == 2 and "1 .mov left out" in err


def test_names_are_shown_as_they_are(tiny_model, tmp_path, record, carnelian):
    record(tmp_path / "a[b]:smile:\x1b[31m.wav")
    record(tmp_path / "b.wav")
    code, out, _ = carnelian("transcribe", tiny_model, tmp_path)
    assert code == 0 and "a[b]:smile:\\x1b[31m.wav\t" in out and "\x1b" not in out


def test_two_channels_are_mixed_only_with_a_note(tiny_model, tmp_path, record, carnelian):
    path = record(tmp_path / "call.wav", channels=2)
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio_filepath": "call.wav", "duration": 1.0, "text": "a"}) + "\n")
    for source in (path, tmp_path / "m.jsonl"):
        assert (
            "1 recordings have several channels, which are averaged" in carnelian("transcribe", tiny_model, source)[2]
        )
        for channel in ("1", "2", "separate"):
            assert "averaged" not in carnelian("transcribe", tiny_model, source, "--channels", channel)[2]
    assert "averaged" in carnelian("evaluate", tiny_model, tmp_path / "m.jsonl")[2]
    for channel in ("1", "2", "separate"):
        code, _, err = carnelian("evaluate", tiny_model, tmp_path / "m.jsonl", "--channels", channel)
        assert code == 0 and "averaged" not in err


def test_live_from_standard_input_and_from_a_recording(tiny_model, record, carnelian, tmp_path, monkeypatch):
    path = record(tmp_path / "a.wav", 2.0)
    audio, rate = soundfile.read(path, dtype="int16")
    assert rate == 16_000
    content = audio.astype("<i2").tobytes() + b"\x01"  # half a sample at the end
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
    code, out, _ = carnelian("transcribe", tiny_model, "--live", "-", "--format", "jsonl")
    results = list(map(json.loads, out.splitlines()))
    assert code == 0 and all(result["words"][-1]["end"] <= 2.0 for result in results)
    code, recorded, _ = carnelian("transcribe", tiny_model, "--live", path, "--format", "jsonl")
    assert code == 0 and recorded == out
    code, prepared, _ = carnelian("transcribe", tiny_model, "--live", path, "--format", "jsonl", "--live-prior", path)
    assert code == 0 and prepared != out  # other statistics in the first seconds
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert carnelian("transcribe", tiny_model, "--live", "-")[:2] == (0, "")
    code, _, err = carnelian("transcribe", tiny_model, "--live", path, "--format", "srt")
    assert code == 2 and "--live: expected one source" in err
    code, _, err = carnelian("transcribe", tiny_model, path, "--voice-activity", "loud")
    assert code == 2 and '--voice-activity "loud": no such choice. Known: energy, silero, none' in err


def test_a_long_recording_gives_what_a_short_one_gives(tiny_model, record, carnelian, tmp_path):
    path = record(tmp_path / "a.wav", 3.0)
    whole, chunks = (carnelian("transcribe", tiny_model, path, "--long-seconds", limit)[:2] for limit in ("300", "1"))
    assert whole == chunks and whole[0] == 0
