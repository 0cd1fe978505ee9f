"""The small inputs of faults found earlier, by the names of their folders, with the command line."""

import json
import os

import numpy as np
import pytest
import soundfile

from carnelian.data.audio import load_audio
from carnelian.data.utterance import Manifest, read_manifest


@pytest.mark.parametrize(
    "name, expected",
    [
        ("csv_comma/csv_comma", [("yes, please do", 0.0), ("no", 0.0)]),
        ("csv_not_utf8/csv_cp1252", [("señor año", 0.0)]),
        ("csv_not_utf8/csv_utf16", [("señor", 0.0)]),
        ("csv_segments/csv_offset_duration", [("one", 0.0), ("two", 0.5)]),
        ("csv_segments/csv_start_end", [("one", 0.0), ("two", 0.5)]),
    ],
)
def test_lists(cases, carnelian, tmp_path, name, expected):
    code, _, err = carnelian("prepare", "folder", cases(name), tmp_path / "out")
    assert code == 0, err
    assert [(each.text, each.offset) for each in read_manifest(tmp_path / "out" / "train.jsonl")] == expected


def test_a_list_s_channels(cases, carnelian, tmp_path):
    code, _, err = carnelian("prepare", "folder", cases("csv_segments/csv_channel"), tmp_path / "out")
    assert code == 0, err
    channels = [each.more["channel"] for each in read_manifest(tmp_path / "out" / "train.jsonl")]
    assert channels == [0, 1]


def test_a_cut_recording_among_good_ones(cases, tiny_model, record, carnelian, tmp_path):
    record(tmp_path / "in" / "good.wav")
    (tmp_path / "in" / "trunc.flac").write_bytes((cases("cut_flac_in_folder") / "trunc.flac").read_bytes())
    code, _, err = carnelian("transcribe", tiny_model, tmp_path / "in", "--out", tmp_path / "out.txt")
    assert code == 2 and "trunc.flac" in err
    assert "good.wav" in (tmp_path / "out.txt").read_text()


def test_a_segment_of_a_gsm_recording(cases):
    (utterance,) = Manifest(cases("gsm_wav_stretch") / "gsm.jsonl")
    whole = load_audio(utterance.audio_filepath, 8000)
    assert (load_audio(utterance, 8000) == whole[4000:12000]).all()


@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_subtitles_of_segments(cases, tiny_model, carnelian, tmp_path, format):
    manifest = cases("srt_segments") / "seg.jsonl"
    assert carnelian("transcribe", tiny_model, manifest, "--format", format, "--out", tmp_path / "out")[0] == 0
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {"test-00000", "test-00001"}
    _, out, _ = carnelian("transcribe", tiny_model, manifest, "--format", "jsonl")
    words = [json.loads(line)["words"] for line in out.splitlines()]
    assert all(word["end"] <= 0.8 for word in words[0]) and all(word["start"] >= 0.8 for word in words[1])


@pytest.mark.parametrize("name", ["transcript_key", "text_filepath"])
def test_texts_under_other_keys(cases, name):
    texts = [each.text for each in read_manifest(cases("text_under_another_key") / f"{name}.jsonl")]
    assert texts[0] == "what is the weather in berlin wednesday" and all(texts)


def test_nan_in_one_recording_of_a_folder(tiny_model, record, carnelian, tmp_path):
    record(tmp_path / "in" / "good.wav")
    spoilt = 0.1 * np.sin(np.arange(16000, dtype=np.float32) / 20)
    spoilt[1000:1010] = np.nan
    soundfile.write(tmp_path / "in" / "nan.wav", spoilt, 16000, subtype="FLOAT")
    code, _, err = carnelian("transcribe", tiny_model, tmp_path / "in", "--out", tmp_path / "out.txt")
    assert code == 2 and "nan.wav" in err and "NaN" in err
    (line,) = (tmp_path / "out.txt").read_text().splitlines()
    assert "good.wav" in line


def test_subtitles_of_recordings_with_one_name_in_two_folders(tiny_model, record, carnelian, tmp_path):
    record(tmp_path / "in" / "a" / "x.wav")
    record(tmp_path / "in" / "b" / "x.wav")
    code, _, err = carnelian("transcribe", tiny_model, tmp_path / "in", "--format", "srt", "--out", tmp_path / "out")
    assert code == 0, err
    assert len(list((tmp_path / "out").rglob("*.srt"))) == 2


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_a_name_that_is_not_utf8(record, carnelian, tmp_path):
    record(tmp_path / "in" / "good.wav")
    (tmp_path / "in" / "good.txt").write_text("two")
    odd = os.fsencode(tmp_path / "in") + b"/\xe9t\xe9"
    os.link(tmp_path / "in" / "good.wav", odd + b".wav")
    with open(odd + b".txt", "w") as file:
        file.write("one")
    code, _, err = carnelian("prepare", "folder", tmp_path / "in", tmp_path / "out")
    texts = [each.text for each in read_manifest(tmp_path / "out" / "all.jsonl")]
    assert texts in (["two"], ["one", "two"], ["two", "one"]) and "Traceback" not in err
    assert code == 0 and (len(texts) == 2 or "left out" in err)
