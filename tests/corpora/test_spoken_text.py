"""Any text spoken by synthetic voices: the same bytes for a seed, in rooms and over telephones, by programs that may be missing."""

import gzip
import re
import shutil

import numpy as np
import pytest

from carnelian.corpora.speech.spoken_text import SpeechStyle, simulated_room, speak_texts
from carnelian.corpora.synthetic import write_wave
from carnelian.data.audio import load_audio
from carnelian.data.utterance import Utterance, read_manifest, write_manifest

pytest.importorskip("espeakng_loader")
TEXTS = ["the quick brown fox", "jumps over the lazy dog", "and runs away"]


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_seed_gives_the_same_bytes_on_any_number_of_processors(tmp_path, monkeypatch):
    style = SpeechStyle(room="simulated", telephone=0.5)
    for name, count in (("one", 1), ("two", 4)):
        monkeypatch.setattr("os.cpu_count", lambda count=count: count)
        speak_texts(tmp_path / name, "text", TEXTS * 60, style, seed=7)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    speak_texts(tmp_path / "other", "text", TEXTS, style, seed=8)
    assert bytes_of(tmp_path / "other").items().isdisjoint(bytes_of(tmp_path / "one").items())


def test_the_manifest_says_what_was_spoken(tmp_path, run):
    with gzip.open(tmp_path / "lines.txt.gz", "wt") as file:
        file.write("Turn 5 lights on!\n\nThe  window.\n")
    words = ["--text", tmp_path / "lines.txt.gz", "--per-text", 2, "--normalize", "en", "--sample-rate", 8000]
    code, printed = run("synthesize", tmp_path / "out", *words)
    assert code == 0, printed.err
    utterances = list(read_manifest(tmp_path / "out" / "lines.jsonl"))
    assert [each.text for each in utterances] == ["turn five lights on"] * 2 + ["the window"] * 2
    assert len({each.more["speaker"] for each in utterances}) == 4 and utterances[0].more["synthetic"]
    for each in utterances:
        audio = load_audio(each, 8000)
        assert len(audio) / 8000 == pytest.approx(each.duration) and 0.1 < np.abs(audio).max() < 1
    assert run("synthesize", tmp_path / "out", *words)[0] == 2  # exists
    assert run("synthesize", tmp_path / "out", *words, "--overwrite")[0] == 0


def test_speed_and_pitch_are_what_was_asked_for(tmp_path):
    lengths = {}
    for speed, pitch in ((1.0, 1.0), (2.0, 1.0), (1.0, 1.5)):
        style = SpeechStyle(voices=("en-us+m1",), speed=(speed, speed), pitch=(pitch, pitch))
        path = speak_texts(tmp_path / f"{speed}-{pitch}", "t", ["one two three four five six seven"], style)
        (one,) = read_manifest(path)
        spectrum = np.abs(np.fft.rfft(load_audio(one, 16000), 1 << 18)) ** 2
        bands = np.arange(len(spectrum)) * 16000 / (1 << 18)
        lengths[speed, pitch] = one.duration, float((bands * spectrum).sum() / spectrum.sum())
    assert lengths[2.0, 1.0][0] < 0.75 * lengths[1.0, 1.0][0]
    assert lengths[1.0, 1.5][0] == pytest.approx(lengths[1.0, 1.0][0], rel=0.2)
    assert lengths[1.0, 1.5][1] > 1.2 * lengths[1.0, 1.0][1]


def test_noises_rooms_and_telephones(tmp_path):
    rng = np.random.default_rng(0)
    write_wave(tmp_path / "noise.wav", rng.normal(0, 0.1, 16000), 16000)
    write_manifest(tmp_path / "noise.jsonl", [Utterance(str(tmp_path / "noise.wav"), 1.0)])
    plain = SpeechStyle(voices=("en-us+m1",), speed=(1, 1), pitch=(1, 1))
    noisy = SpeechStyle(
        voices=("en-us+m1",), speed=(1, 1), pitch=(1, 1), noise=str(tmp_path / "noise.jsonl"), signal_to_noise=(0, 0)
    )
    phone = SpeechStyle(voices=("en-us+m1",), speed=(1, 1), pitch=(1, 1), telephone=1.0)
    found = {}
    for name, style in (("plain", plain), ("noisy", noisy), ("phone", phone)):
        path = speak_texts(tmp_path / name, "t", TEXTS * 4, style)
        found[name] = [load_audio(each, 16000) for each in read_manifest(path)]
    quiet = {
        name: [np.sort(np.abs(audio))[: len(audio) // 10].mean() for audio in audios] for name, audios in found.items()
    }
    assert 2 <= sum(noisy > 3 * plain for noisy, plain in zip(quiet["noisy"], quiet["plain"])) < 12
    high = {
        name: [np.abs(np.fft.rfft(audio))[len(audio) * 5 // 16 :].max() for audio in audios]
        for name, audios in found.items()
    }
    assert all(phone < 0.5 * plain for phone, plain in zip(high["phone"], high["plain"]))
    room = simulated_room(16000, rng)
    energy = np.cumsum(room[::-1] ** 2)[::-1]
    assert room[0] == np.abs(room).max() and energy[len(room) * 2 // 3] < 1e-3 * energy[0]


@pytest.mark.parametrize(("engine", "program"), [("flite", "flite"), ("festival", "text2wave")])
def test_other_programs_speak_where_they_are_installed(tmp_path, run, engine, program):
    (tmp_path / "t.txt").write_text("hello world\n")
    code, printed = run("synthesize", tmp_path / "out", "--text", tmp_path / "t.txt", "--engine", engine)
    if not shutil.which(program):
        assert code == 2 and f"the program {program} is not installed" in printed.err
        assert not (tmp_path / "out").exists()
        pytest.skip(f"{program} is not installed")
    (one,) = read_manifest(tmp_path / "out" / "t.jsonl")
    assert code == 0 and 0.4 < one.duration < 4 and np.abs(load_audio(one, 16000)).max() > 0.1


def test_programs_that_fail_leave_nothing(tmp_path, run, monkeypatch):
    """A program of flite's name that speaks once and then fails; texts never reach a shell."""
    script = tmp_path / "bin" / "flite"
    script.parent.mkdir()
    (tmp_path / "said.wav").write_bytes(b"RIFF")
    script.write_text(f"#!/bin/sh\ncat > {tmp_path}/heard; echo no such voice >&2; exit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    text = "hello; touch " + str(tmp_path / "touched") + " $(touch x) `id`"
    (tmp_path / "t.txt").write_text(text + "\n")
    code, printed = run(
        "synthesize", tmp_path / "out", "--text", tmp_path / "t.txt", "--engine", "flite", "--voice", "-x"
    )
    assert code == 2 and "no such voice" in printed.err and not (tmp_path / "out").exists()
    assert (tmp_path / "heard").read_text() == text + "\n" and not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--engine", "hal"], "Known: espeak-ng, flite"),
        (["--engine", "festival", "--voice", "x) (exit"], "no name of a festival voice|not installed"),
        (["--voice", "nosuch+q9"], "espeak-ng has none of this name"),
        (["--speed", "fast"], "expected two numbers"),
        (["--speed", "2,1"], "the lower first"),
        (["--pitch", "9"], "from 0.5 to 2"),
        (["--telephone", "3"], "a share from 0 to 1"),
        (["--noise", "no.jsonl"], "no.jsonl"),
    ],
)
def test_wrong_words_are_one_line(tmp_path, run, words, says):
    (tmp_path / "t.txt").write_text("hello\n")
    code, printed = run("synthesize", tmp_path / "out", "--text", tmp_path / "t.txt", *words)
    last = printed.err.strip().splitlines()[-1]
    assert code == 2 and last.startswith("carnelian: ") and re.search(says, last)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("engine, program", [("flite", "flite"), ("festival", "text2wave")])
def test_a_text_without_words_is_left_out(tmp_path, run, engine, program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    (tmp_path / "t.txt").write_text("hello there\n?!\n日本語\n")
    code, printed = run("synthesize", tmp_path / "out", "--text", tmp_path / "t.txt", "--engine", engine)
    assert code == 0 and "2 texts have no sound and are left out" in printed.err
    assert [each.text for each in read_manifest(tmp_path / "out" / "t.jsonl")] == ["hello there"]
    assert len(list((tmp_path / "out" / "audio").iterdir())) == 1
    (tmp_path / "t.txt").write_text("?!\n")
    code, printed = run("synthesize", tmp_path / "none", "--text", tmp_path / "t.txt", "--engine", engine)
    assert code == 2 and "none of 1 texts has any sound" in printed.err and not (tmp_path / "none").exists()
