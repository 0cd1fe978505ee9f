"""Manifests of whole corpora, with what cannot be read counted and named."""

import wave

import pytest

from carnelian.commands.prepare import prepare
from carnelian.data.utterance import read_manifest
from carnelian.errors import ManifestError


def record(path, seconds):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(2 * round(8000 * seconds)))


def test_durations_and_what_is_left_out(tmp_path, capsys):
    record(tmp_path / "a.wav", 1.5)
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    record(tmp_path / "hollow.wav", 0)
    (tmp_path / "all.csv").write_text("path,text\na.wav,Yes\nb.wav,no\nmissing.wav,no\nhollow.wav,no\n")
    prepare("folder", tmp_path, tmp_path / "out")
    (utterance,) = read_manifest(tmp_path / "out" / "all.jsonl")
    assert (utterance.duration, utterance.text) == (1.5, "Yes")
    captured = capsys.readouterr()
    assert "3 recordings cannot be read" in captured.err and "b.wav" in captured.err
    assert "all.jsonl" in captured.out


def test_nothing_readable_writes_nothing(tmp_path):
    (tmp_path / "all.csv").write_text("path,text\nmissing.wav,no\n")
    with pytest.raises(ManifestError, match="none of 1 recordings can be read"):
        prepare("folder", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_corpus(tmp_path):
    with pytest.raises(ManifestError, match="an4, librispeech, folder"):
        prepare("switchboard", tmp_path, tmp_path)


def test_real_an4(shared, tmp_path):
    prepare("an4", shared("an4"), tmp_path)
    minutes = {
        name: sum(u.duration for u in read_manifest(tmp_path / f"{name}.jsonl")) / 60 for name in ("train", "test")
    }
    assert minutes == {"train": pytest.approx(36.9, abs=0.1), "test": pytest.approx(5.5, abs=0.1)}
