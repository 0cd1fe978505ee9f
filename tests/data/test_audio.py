"""Recordings of any format, rate and channels become the same waveform; broken ones become one line."""

import io
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from carnelian.data.audio import audio_blocks, audio_info, load_audio
from carnelian.data.recording import open_audio
from carnelian.data.utterance import Utterance, read_manifest
from carnelian.errors import AudioError

TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(32000) / 16000)).astype(np.float32)
LEFT_RIGHT = np.stack([TONE, TONE / 4], axis=1)


def saved(tmp_path, name, audio=TONE, rate=16000, **how):
    soundfile.write(tmp_path / name, audio, rate, **how)
    return str(tmp_path / name)


@pytest.mark.parametrize(
    "name, how, close",
    [
        ("a.wav", {}, 1e-4),
        ("a.wav", {"subtype": "FLOAT"}, 1e-7),
        ("a.wav", {"subtype": "PCM_24"}, 1e-6),
        ("a.wav", {"subtype": "ULAW"}, 0.02),
        ("a.wav", {"subtype": "ALAW"}, 0.02),
        ("a.flac", {}, 1e-4),
        ("a.ogg", {}, 0.03),
        ("a.mp3", {}, 0.03),
        ("a.nist", {"format": "NIST", "endian": "BIG"}, 1e-4),
        ("a.nist", {"format": "NIST", "subtype": "ULAW"}, 0.02),
        ("a.nist", {"format": "NIST", "subtype": "ALAW"}, 0.02),
    ],
)
def test_formats(tmp_path, name, how, close):
    path = saved(tmp_path, name, **how)
    audio = load_audio(path, 16000)
    assert audio.dtype == np.float32 and audio.shape == (32000,) and audio.flags.c_contiguous
    np.testing.assert_allclose(audio[800:-800], TONE[800:-800], atol=close)
    assert audio_info(path).frames == 32000 and audio_info(path).duration == 2.0
    with open(path, "rb") as file:
        np.testing.assert_array_equal(load_audio(file.read(), 16000), audio)
    with open(path, "rb") as file:
        np.testing.assert_array_equal(load_audio(file, 16000), audio)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_rates(tmp_path, rate):
    audio = (0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)).astype(np.float32)
    loaded = load_audio(saved(tmp_path, "a.wav", audio, rate), 16000)
    assert abs(len(loaded) - 32000) <= 1
    np.testing.assert_allclose(loaded[1600:30000], TONE[1600:30000], atol=1e-3)


def test_channels_are_averaged_or_chosen(tmp_path):
    path = saved(tmp_path, "a.wav", LEFT_RIGHT)
    np.testing.assert_allclose(load_audio(path, 16000), TONE * 0.625, atol=1e-4)
    np.testing.assert_allclose(load_audio(Utterance(path, 2.0, more={"channel": 1}), 16000), TONE / 4, atol=1e-4)
    with pytest.raises(AudioError, match=r"a\.wav: no channel 2; it has 2"):
        load_audio(Utterance(path, 2.0, more={"channel": 2}), 16000)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_a_stretch_of_a_long_file(tmp_path, name):
    path = saved(tmp_path, name, np.concatenate([TONE, np.zeros(32000), TONE]))
    stretch = load_audio(Utterance(path, 0.5, offset=1.75), 16000)
    assert len(stretch) == 8000
    np.testing.assert_allclose(stretch, np.concatenate([TONE[28000:], np.zeros(4000)]), atol=0.05)
    assert len(load_audio(Utterance(path, 0.0, offset=1.0), 16000)) == 5 * 16000, "duration 0 means: to the end"
    assert len(load_audio(Utterance(path, 1.02, offset=5.0), 16000)) == 16000, "a duration a little wrong is forgiven"


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.02, 0.5])
def test_a_cut_file_is_one_line(tmp_path, name, kept):
    path = saved(tmp_path, name)
    with open(path, "r+b") as file:
        file.truncate(int(kept * len(file.read())))
    for source in (path, Utterance(path, 2.0)):
        with pytest.raises(AudioError) as error:
            load_audio(source, 16000)
        message = str(error.value)
        assert message.startswith(f"{path}: ") and "\n" not in message and "object at" not in message
        assert any(word in message for word in ("empty", "cut off", "not a recording"))


def test_other_bad_input_is_one_line(tmp_path):
    (tmp_path / "text.wav").write_text("no sound\n" * 1000)
    short = Utterance(saved(tmp_path, "short.wav"), 60.0, offset=1.0)
    beyond = Utterance(short.audio_filepath, 1.0, offset=2.0)
    none = saved(tmp_path, "none.wav", np.zeros(0))
    for source, finding in [
        (str(tmp_path / "text.wav"), "not a recording"),
        (str(tmp_path / "missing.wav"), "no such file"),
        (tmp_path, "a folder"),
        (b"", "not a recording"),
        (b"RIFF", "not a recording"),
        (short, "it has 2.00 s of sound, asked for is 1.00 to 61.00 s"),
        (beyond, "it has 2.00 s of sound, asked for is 2.00 to 3.00 s"),
        (none, "it has 0.00 s of sound"),
    ]:
        with pytest.raises(AudioError, match=finding) as error:
            load_audio(source, 16000)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_stream_of_unknown_length_is_read(tmp_path, size):
    data = bytearray(Path(saved(tmp_path, "a.wav")).read_bytes())
    at = data.find(b"data") + 4
    data[at : at + 4] = data[4:8] = struct.pack("<I", size)
    assert len(load_audio(bytes(data), 16000)) == 32000


@pytest.mark.parametrize(
    "name, twin", [("ex1_01.wav", "ex1_10.wav"), ("ex5.wav", "ex5_p.wav"), ("ex4.wav", "ex4_10.wav")]
)
def test_sphere_twins(shared, name, twin):
    folder = shared("sphere/nist27")
    np.testing.assert_allclose(load_audio(folder / name, 8000), load_audio(folder / twin, 8000), atol=1e-3)


def test_real_mp3_at_48_khz(shared):
    utterances = list(read_manifest(shared("spanish") / "manifest.jsonl"))
    wrong = replace(utterances[0], duration=8.66)
    with pytest.raises(AudioError, match=r"it has 4\.10 s of sound, asked for is 0\.00 to 8\.66 s"):
        load_audio(wrong, 16000)
    for utterance in utterances:
        assert len(load_audio(utterance, 16000)) == pytest.approx(utterance.duration * 16000, rel=0.02)
    assert {audio_info(utterance).sample_rate for utterance in utterances} == {16000, 48000}


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
@pytest.mark.parametrize("seconds", [0.3, 7.0])
def test_blocks_are_the_recording_bit_by_bit(rate, seconds):
    samples = np.random.default_rng(0).normal(0, 0.1, (rate * 9 + 17, 2)).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC")
    whole = load_audio(file.getvalue(), 16_000)
    with open_audio(file.getvalue()) as opened:
        blocks = list(audio_blocks(opened, 16_000, seconds=seconds))
    assert max(map(len, blocks)) <= (seconds + 0.3) * 16_000
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_a_recording_cut_off_is_told_after_its_last_block(tmp_path):
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, 160_000), 16_000, format="FLAC")
    found = []
    with pytest.raises(AudioError, match=r"cut off|broken"), open_audio(file.getvalue()[:100_000]) as opened:
        for block in audio_blocks(opened, 16_000, seconds=1.0):
            found.append(len(block))
    assert sum(found) > 0


@pytest.mark.parametrize("rate", [16_000, 8_000, 44_100])
def test_blocks_from_a_second_on_are_those_of_the_whole(tmp_path, rate):
    """But for the first milliseconds where the sample rate is converted."""
    audio = 0.1 * np.random.default_rng(0).standard_normal(7 * rate)
    path = saved(tmp_path, "a.wav", audio, rate, subtype="FLOAT")
    utterance = Utterance(path, offset=0.7, duration=5.0)
    with open_audio(path) as opened:
        whole, part = (
            np.concatenate(list(audio_blocks(opened, 16_000, seconds=0.9, utterance=utterance, begin=begin)))
            for begin in (0, 2)
        )
    assert len(whole) == 80_000 and len(part) == 48_000
    np.testing.assert_allclose(part[1600:], whole[33_600:], atol=1e-6)
