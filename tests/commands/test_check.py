"""Every fault that `check` looks for, planted in a manifest and found."""

import json
import struct
import wave

import numpy as np
import pytest

from carnelian.commands.check import check
from carnelian.data.utterance import read_manifest
from carnelian.errors import CarnelianError, ManifestError

RATE = 8000


def record(path, seconds=2.0, seed=0, gain=0.1, cut=0):
    """Noise, loud or silent; `cut` bytes are missing at the file's end."""
    noise = np.random.default_rng(seed).standard_normal(round(RATE * seconds)) * gain
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((noise.clip(-1, 1) * 32767).astype("<i2").tobytes())
    if cut:
        path.write_bytes(path.read_bytes()[:-cut])


def float_wave(samples):
    """A WAV file of 32-bit floats."""
    data = samples.astype("<f4").tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + len(data),
        b"WAVE",
        b"fmt ",
        16,
        3,
        1,
        RATE,
        4 * RATE,
        4,
        32,
        b"data",
        len(data),
    )
    return head + data


@pytest.fixture
def planted(tmp_path):
    """A manifest with one fault per line, named by the line's file; "good" lines have none."""
    for seed, name in enumerate(["good", "long", "short", "far", "unknown", "wordy", "mute", "parts", "none"]):
        record(tmp_path / f"{name}.wav", seed=seed)
    record(tmp_path / "silent.wav", gain=1e-6, seed=20)
    record(tmp_path / "clipped.wav", gain=3.0, seed=21)
    (tmp_path / "copy.wav").write_bytes((tmp_path / "good.wav").read_bytes())
    (tmp_path / "empty.wav").write_bytes(b"")
    record(tmp_path / "hollow.wav", seconds=0)
    sound = np.where(np.arange(RATE) == 9, np.nan, 0.1)
    (tmp_path / "nan.wav").write_bytes(float_wave(sound))
    (tmp_path / "text.wav").write_text("no recording, but long enough to hold a header of forty-four bytes")
    (tmp_path / "cut.flac").write_bytes(b"fLaC" + bytes(200))
    lines = {
        "good.wav": {},
        "long.wav": {"duration": 2.2},
        "short.wav": {"duration": 1.0},
        "far.wav": {"duration": 9.0},
        "unknown.wav": {"text": "Grüße"},
        "wordy.wav": {"text": "a" * 51},  # 51 symbols and 50 blanks, where two seconds give 100 steps
        "mute.wav": {"text": " "},
        "none.wav": {"duration": 0},
        "silent.wav": {},
        "clipped.wav": {},
        "copy.wav": {},
        "empty.wav": {},
        "hollow.wav": {},
        "nan.wav": {"duration": 1.0},
        "text.wav": {},
        "cut.flac": {},
        "missing.wav": {},
    }
    written = [{"audio_filepath": name, "duration": 2.0, "text": "hello"} | keys for name, keys in lines.items()]
    parts = [{"audio_filepath": "parts.wav", "offset": at, "duration": 1, "text": "part"} for at in (0, 1, 3)]
    content = "".join(json.dumps(line) + "\n" for line in written + parts) + '{"audio_filepath": \n'
    (tmp_path / "all.jsonl").write_text(content)
    return tmp_path


def test_planted_faults_are_found_and_parted(planted, capsys):
    before = (planted / "all.jsonl").read_bytes()
    check([planted / "all.jsonl"], alphabet=" abcdefghijklmnopqrstuvwxyz")
    clean = {
        (u.audio_filepath.split("/")[-1], u.offset): u.duration for u in read_manifest(planted / "all.clean.jsonl")
    }
    names = ["good.wav", "long.wav", "short.wav", "none.wav", "clipped.wav", "parts.wav"]
    assert clean == {(name, 0.0): 1.0 if name == "parts.wav" else 2.0 for name in names} | {("parts.wav", 1.0): 1.0}
    rejects = [json.loads(line) for line in (planted / "all.rejects.jsonl").read_text().splitlines()]
    found = {each.get("audio_filepath", "bad"): each["reasons"][0].split(":")[0] for each in rejects}
    assert found == {
        "far.wav": "audio cut off",
        "unknown.wav": "characters unknown",
        "wordy.wav": "text too long",
        "mute.wav": "text empty",
        "silent.wav": "silence",
        "copy.wav": "duplicate",
        "empty.wav": "audio empty",
        "hollow.wav": "audio empty",
        "nan.wav": "audio unreadable",
        "text.wav": "audio unreadable",
        "cut.flac": "audio unreadable",
        "missing.wav": "audio missing",
        "parts.wav": "audio cut off",
        "bad": "not an utterance",
    }
    assert (planted / "all.jsonl").read_bytes() == before
    shown = capsys.readouterr().out
    assert "1.00 to 2.00 s long" in shown and '"aehloprt"' in shown
    assert "clipping" in shown and "wrong duration" in shown and "all.jsonl:21: not an utterance" in shown


def test_clean_manifest_is_clean(planted):
    check([planted / "all.jsonl"])
    check([planted / "all.clean.jsonl"])
    again = list(read_manifest(planted / "all.clean.clean.jsonl"))
    assert again == list(read_manifest(planted / "all.clean.jsonl")) and len(again) > 5


def test_a_test_recording_in_training_is_told(planted, tmp_path):
    out = tmp_path / "out"
    for name, audio in (("train", "good.wav"), ("test", "copy.wav")):
        (planted / f"{name}.jsonl").write_text(json.dumps({"audio_filepath": audio, "duration": 2, "text": "hello"}))
    check([planted / "train.jsonl", planted / "test.jsonl"], out=out)
    (reject,) = (out / "test.rejects.jsonl").read_text().splitlines()
    assert "train.jsonl:1" in json.loads(reject)["reasons"][0]


def test_truncated_flac(planted, shared):
    recording = next(shared("librispeech").rglob("*.flac"))
    (planted / "half.flac").write_bytes(recording.read_bytes()[: recording.stat().st_size // 2])
    (planted / "half.jsonl").write_text(json.dumps({"audio_filepath": "half.flac", "duration": 0, "text": "hello"}))
    check([planted / "half.jsonl"])
    assert "audio cut off" in (planted / "half.rejects.jsonl").read_text()


def test_folder_that_cannot_be_written(planted):
    (planted / "file").write_text("")
    with pytest.raises(CarnelianError, match="could not be written"):
        check([planted / "all.jsonl"], out=planted / "file")


def test_no_manifest(tmp_path):
    with pytest.raises(ManifestError, match="No such file"):
        check([tmp_path / "none.jsonl"])


def test_texts_that_cannot_be_spelled_get_a_normalisation(tmp_path, capsys):
    """What would be clean is counted and named, and done when asked for; the text as it was stays in the manifest."""
    texts = ["Open the window.", "It’s 5 p.m.", "already clean", "привет", "Mr. Brown & the dog"]
    lines = []
    for number, text in enumerate(texts):
        record(tmp_path / f"{number}.wav", seconds=3.0, seed=number)
        lines.append(json.dumps({"audio_filepath": f"{number}.wav", "duration": 3.0, "text": text}))
    manifest = tmp_path / "all.jsonl"
    manifest.write_text("\n".join(lines))
    check([manifest], alphabet=" abcdefghijklmnopqrstuvwxyz'")
    assert "3 of 5 would be clean with --normalize en" in capsys.readouterr().err
    assert [each.text for each in read_manifest(tmp_path / "all.clean.jsonl")] == ["already clean"]
    check([manifest], alphabet=" abcdefghijklmnopqrstuvwxyz'", normalize="en", overwrite=True)
    kept = list(read_manifest(tmp_path / "all.clean.jsonl"))
    assert [each.text for each in kept] == [
        "open the window",
        "it's five p m",
        "already clean",
        "mister brown and the dog",
    ]
    assert kept[0].more == {"normalization": "en 1", "original_text": "Open the window."}
    assert kept[2].more == {"normalization": "en 1"}
    assert "would be clean" not in capsys.readouterr().err
    with pytest.raises(CarnelianError, match="no such normalisation"):
        check([manifest], normalize="english")


def test_the_language_is_told_by_its_words(tmp_path, capsys):
    record(tmp_path / "a.wav", seconds=9.0)
    line = {"audio_filepath": "a.wav", "duration": 9.0, "text": "¿Qué dijo el señor a las 3 de la tarde?"}
    manifest = tmp_path / "es.jsonl"
    manifest.write_text(json.dumps(line))
    check([manifest], alphabet=" abcdefghijklmnñopqrstuvwxyzáéíóúü")
    assert "1 of 1 would be clean with --normalize es" in capsys.readouterr().err


def test_an_empty_manifest_and_existing_outputs(tmp_path):
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n")
    with pytest.raises(CarnelianError, match="it is empty"):
        check([manifest])
    (tmp_path / "m.clean.jsonl").write_text("mine")
    with pytest.raises(CarnelianError, match=r"m\.clean\.jsonl: exists"):
        check([manifest])


def test_two_manifests_of_one_name_are_written_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.jsonl").write_text('{"audio_filepath": "x.wav", "duration": 1.0}\n')
    check([tmp_path / "a" / "m.jsonl", tmp_path / "b" / "m.jsonl"], out=tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 4
