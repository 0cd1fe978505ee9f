"""The true length of a recording whose header gives an estimate, the length of a part, or none; and exact segments of it."""

import io
import struct

import numpy as np
import pytest
import soundfile

from carnelian.data.audio import audio_info, load_audio
from carnelian.data.lengths.mp3 import read_mp3
from carnelian.data.utterance import Utterance
from carnelian.errors import AudioError

RATE = 16000


def speech(seconds=2.0, seed=0):
    """Noise with syllables, so that a variable rate varies."""
    rng, samples = np.random.default_rng(seed), int(seconds * RATE)
    audio = np.cumsum(rng.standard_normal(samples))
    audio -= np.convolve(audio, np.ones(200) / 200, "same")
    audio *= np.abs(np.sin(np.arange(samples) * 4 * np.pi / RATE)) ** 3
    return (0.4 * audio / np.abs(audio).max()).astype(np.float32)


def coded(audio, **how):
    file = io.BytesIO()
    soundfile.write(file, audio, RATE, **how)
    return file.getvalue()


def decoded(content):
    return soundfile.read(io.BytesIO(content), dtype="float32")[0]


OGG, OPUS, FLAC = {"format": "OGG"}, {"format": "OGG", "subtype": "OPUS"}, {"format": "FLAC"}
MP3 = {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.9}


@pytest.mark.parametrize("how", [OGG, OPUS, FLAC], ids=["vorbis", "opus", "flac"])
def test_joined_files_are_read_whole(tmp_path, how):
    first, second = coded(speech(2.0), **how), coded(speech(1.5, seed=1), **how)
    path = tmp_path / "joined.bin"
    path.write_bytes(first + second)
    expected = np.concatenate([decoded(first), decoded(second)])
    assert audio_info(path).frames == len(expected)
    np.testing.assert_array_equal(load_audio(path, RATE), expected)
    np.testing.assert_array_equal(load_audio(first + second, RATE), expected)
    for offset, duration in ((0.5, 1.0), (1.75, 0.5), (2.25, 1.0)):
        start = round(offset * RATE)
        segment = load_audio(Utterance(str(path), duration, offset=offset), RATE)
        np.testing.assert_array_equal(segment, expected[start : start + round(duration * RATE)])
    path.write_bytes(first + first)  # the same file twice, with the same serial number
    assert audio_info(path).frames == 2 * len(decoded(first))


def test_joined_wav(tmp_path):
    path = tmp_path / "joined.wav"
    path.write_bytes(2 * coded(speech(), format="WAV"))
    assert audio_info(path).frames == 4 * RATE
    np.testing.assert_allclose(load_audio(path, RATE), np.tile(speech(), 2), atol=1e-4)


def test_joined_parts_of_several_rates_are_refused(tmp_path):
    file = io.BytesIO()
    soundfile.write(file, speech(), 8000, format="FLAC")
    with pytest.raises(AudioError, match="joined of parts with several sample rates"):
        load_audio(coded(speech(), **FLAC) + file.getvalue(), RATE)


@pytest.mark.parametrize("header", [True, False])
def test_mp3_of_variable_rate(tmp_path, header):
    whole = coded(speech(6.0), **MP3)
    expected = decoded(whole)
    frames = read_mp3(whole)
    if not header:
        whole = whole[frames.starts[0] :]
        expected = np.zeros(len(frames.starts) * 576)
    path = tmp_path / "a.mp3"
    path.write_bytes(whole)
    audio = load_audio(path, RATE)
    assert audio_info(path).frames == len(audio) == len(expected)
    for first in range(1000, len(audio) - 9000, 7919):
        segment = load_audio(Utterance(str(path), 0.5, offset=first / RATE), RATE)
        np.testing.assert_allclose(segment, audio[first : first + 8000], atol=1e-6)


def test_joined_mp3(tmp_path, capfd):
    first, second = coded(speech(), **MP3), coded(speech(1.5, seed=1), **MP3)
    tag = b"ID3\4\0\0\0\0\0\x0a" + bytes(10)
    path = tmp_path / "joined.mp3"
    path.write_bytes(tag + first + tag + second + b"TAG" + bytes(125))
    frames = len(read_mp3(first).starts) + len(read_mp3(second).starts)
    assert audio_info(path).frames == len(load_audio(path, RATE)) == 576 * frames - 576 - 529
    np.testing.assert_allclose(load_audio(path, RATE)[:30000], decoded(first)[:30000], atol=1e-6)
    path.write_bytes(first[: len(first) // 2])
    with pytest.raises(AudioError, match=r"joined\.mp3: cut off; \d+ frames of \d+"):
        load_audio(path, RATE)
    assert capfd.readouterr().err == "", "the decoder's own notes stay off the terminal"


def without_length(content):
    """A FLAC file as a pipe writes it: the 36 bits of its length are zero."""
    data = bytearray(content)
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    return bytes(data)


@pytest.mark.parametrize("seconds", [0.02, 0.3, 2.0, 40.0])
def test_flac_of_unknown_length(seconds):
    whole = coded(speech(seconds), **FLAC)
    np.testing.assert_array_equal(load_audio(without_length(whole), RATE), decoded(whole))
    joined = without_length(whole) + without_length(whole)
    assert audio_info(joined).frames == 2 * len(decoded(whole))


@pytest.mark.parametrize("data, riff", [(0, 36), (0, 0), (0, None), (2000, 2036), (0xFFFFFFFF, 0xFFFFFFFF)])
def test_wav_whose_length_was_never_filled_in(data, riff):
    whole = bytearray(coded(speech(), format="WAV"))
    at = whole.find(b"data")
    whole[at + 4 : at + 8] = struct.pack("<I", data)
    if riff is not None:
        whole[4:8] = struct.pack("<I", riff)
    np.testing.assert_allclose(load_audio(bytes(whole), RATE), speech(), atol=1e-4)


def test_wav_with_other_chunks_after_its_sound():
    whole = coded(speech(), format="WAV")
    chunk = b"LIST" + struct.pack("<I", 400) + b"\1" * 400
    assert len(load_audio(whole + chunk, RATE)) == 2 * RATE


@pytest.mark.parametrize("name, mark, offset", [("AU", b".snd", 8), ("CAF", b"data", 4), ("RF64", b"ds64", 8)])
def test_other_lengths_never_filled_in(name, mark, offset):
    whole = bytearray(coded(speech(), format=name))
    at = whole.find(mark) + offset
    size = {"AU": 4, "CAF": 8, "RF64": 24}[name]
    whole[at : at + size] = b"\xff" * 8 if name == "CAF" else bytes(size)
    assert audio_info(bytes(whole)).frames == 2 * RATE
    np.testing.assert_allclose(load_audio(bytes(whole), RATE), speech(), atol=1e-4)


@pytest.mark.parametrize("subtype", ["GSM610", "NMS_ADPCM_32", "G721_32", "IMA_ADPCM"])
def test_segments_of_formats_without_seeking(tmp_path, subtype):
    path = tmp_path / "a.wav"
    soundfile.write(path, speech(), 8000, format="WAV", subtype=subtype)
    whole = load_audio(path, 8000)
    for offset in (0.0, 0.5, 2.3):
        segment = load_audio(Utterance(str(path), 1.0, offset=offset), 8000)
        np.testing.assert_array_equal(segment, whole[round(offset * 8000) :][:8000])


@pytest.mark.parametrize("how", [OGG, OPUS], ids=["vorbis", "opus"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95, 0.999])
def test_cut_ogg(tmp_path, how, kept):
    whole = coded(speech(8.0), **how)
    (tmp_path / "a.opus").write_bytes(whole[: int(kept * len(whole))])
    for read in (audio_info, lambda path: load_audio(path, RATE)):
        with pytest.raises(AudioError, match=r"a\.opus: cut off"):
            read(tmp_path / "a.opus")


def test_samples_that_are_no_numbers(tmp_path):
    for value in (np.nan, np.inf, -np.inf):
        audio = speech()
        audio[1000:1010] = value
        soundfile.write(tmp_path / "a.wav", audio, RATE, subtype="FLOAT")
        with pytest.raises(AudioError, match=r"a\.wav: some of its samples are NaN or infinite"):
            load_audio(tmp_path / "a.wav", RATE)


def test_a_rate_that_is_none(tmp_path):
    soundfile.write(tmp_path / "a.wav", speech(), 1)
    with pytest.raises(AudioError, match="1 samples per second"):
        load_audio(tmp_path / "a.wav", RATE)


@pytest.mark.parametrize(
    "name, samples",
    [
        ("flac_unknown_length/flac_streamed.flac", 48000),
        ("mp3_joined/cbr_concat.mp3", 97967),
        ("mp3_vbr_no_xing/vbr_noxing.mp3", 49536),
        ("wav_length_zero/data_0.wav", 48000),
        ("wav_length_zero/data_0_riff36.wav", 48000),
    ],
)
def test_cases(cases, name, samples):
    assert audio_info(cases(name)).frames == len(load_audio(cases(name), RATE)) == samples


@pytest.mark.parametrize("name", ["tail.ogg", "tail.opus"])
def test_cut_cases(cases, name):
    with pytest.raises(AudioError, match="cut off"):
        load_audio(cases("opus_cut") / name, RATE)


@pytest.mark.parametrize("rate", [1, 32000, 2**31])
def test_a_wrong_byte_rate_is_no_cut_recording(tmp_path, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(4000, 0.25), 8000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[28:32] = rate.to_bytes(4, "little")
    path.write_bytes(content)
    assert audio_info(path).frames == 4000 and len(load_audio(path, 8000)) == 4000
    path.write_bytes(content[:4000])
    with pytest.raises(AudioError, match="cut off"):
        load_audio(path, 8000)
