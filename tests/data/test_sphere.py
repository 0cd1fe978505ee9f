"""Shorten streams decode to the very samples; NIST's and LDC's own test files, and streams encoded here."""

import base64
import hashlib

import numpy as np
import pytest
from shorten import encoded, sphere

from carnelian.data import recording
from carnelian.data.audio import audio_info, load_audio
from carnelian.data.recording import open_audio
from carnelian.data.sphere import MU_LAW, read_sphere
from carnelian.data.utterance import Utterance
from carnelian.errors import AudioError


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("channels", [1, 2])
def test_what_was_encoded_is_decoded(order, channels):
    rng = np.random.default_rng(order)
    samples = (
        500 * np.sin(np.arange(300)[:, None] / (9 + np.arange(channels))) + rng.normal(0, 9, (300, channels))
    ).astype(int)
    samples[64:128] = 0
    content = sphere(encoded(samples, order), 300, channels, sample_checksum=int(samples.sum()) & 0xFFFF)
    found, rate = read_sphere(content)
    assert rate == 8000 and found.dtype == np.int16
    np.testing.assert_array_equal(found, samples)
    np.testing.assert_allclose(load_audio(content, 8000), samples.mean(axis=1) / 32768, atol=1e-7)
    assert audio_info(content).channels == channels


def test_mu_law_codes():
    values = np.array([[0], [5], [127], [-1], [-2], [-128]])
    found, _ = read_sphere(sphere(encoded(values, 0, kind=8), 6))
    np.testing.assert_array_equal(found, MU_LAW[[[255], [250], [128], [127], [126], [0]]])
    assert MU_LAW[[0, 127, 128, 255]].tolist() == [-32124, 0, 32124, 0]


def test_broken_streams_are_one_line_and_never_more():
    samples = (500 * np.sin(np.arange(300)[:, None] / 9)).astype(int)
    whole = sphere(encoded(samples, 2), 300, sample_checksum=int(samples.sum()) & 0xFFFF)
    for size in range(1030, len(whole) - 8, 37):
        with pytest.raises(AudioError, match="cut off or broken"):
            load_audio(whole[:size], 8000)
    rng = np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(whole)
        for place in rng.integers(1028, len(whole), size=3):
            content[place] = int(rng.integers(256))
        try:
            found, _ = read_sphere(bytes(content))
        except ValueError as error:
            assert "\n" not in str(error)
        else:
            assert found.shape == (300, 1)


@pytest.mark.parametrize(
    "fields, finding",
    [
        ({"frames": 1 << 40}, "a SPHERE header with"),
        ({"frames": 10, "channels": 99}, "a SPHERE header with"),
        ({"frames": "x"}, "a SPHERE header with sizes that are no numbers"),
        ({"frames": 10, "coding": "pcm,embedded-wavpack1.0"}, "cut off or broken"),
    ],
)
def test_strange_headers_are_one_line(fields, finding):
    with pytest.raises(AudioError, match=finding) as error:
        load_audio(sphere(b"ajkg\2" + bytes(20), **fields), 8000)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, twin",
    [
        ("ex1_01st", "ex1_01"),
        ("ex1_10st", "ex1_10"),
        ("ex2_01st", "ex2_01"),
        ("ex2_10st", "ex2_10"),
        ("ex4_sh", "ex4_10"),
        ("ex5_sh", "ex5_p"),
        ("ex5_p_sh", "ex5_p01"),
        ("ex7", "ex7_01"),
        ("ex7_sh", "ex7_10"),
    ],
)
def test_nist_s_files_equal_their_uncompressed_twins(shared, name, twin):
    folder = shared("sphere/nist27")
    audio = load_audio(folder / f"{name}.wav", 16000)
    np.testing.assert_array_equal(audio, load_audio(folder / f"{twin}.wav", 16000))
    assert np.abs(audio).max() > 0.01


def test_the_second_half_of_a_compressed_file(shared):
    folder = shared("sphere/nist27")
    np.testing.assert_array_equal(
        load_audio(folder / "ex8.wav", 8000), np.tile(load_audio(folder / "ex5_c2.wav", 8000), 2)
    )


@pytest.mark.parametrize(
    "name", ["1pcbe_shn", "1pcle_shn", "1ulaw_shn", "2pcbe_shn", "2pcle_shn", "2ulaw_shn", "2alaw"]
)
def test_ldc_s_files_have_the_digests_of_sph2pipe_s_raw_output(shared, name):
    """Of all channels together and of each; a-law and mu-law as the 16-bit samples that they stand for."""
    folder = shared("sphere/sph2pipe")
    source = folder / f"123_{name}.sph"
    with open_audio(str(source)) as file:
        samples = np.round(file.read(0, file.frames) * 32768).astype(np.int16)
    lines = [line.split() for line in (folder / "outfile-md5.list.macosx").read_text().splitlines()]
    digests = {line[0] for line in lines if line[-1] == source.name}
    parts = [samples, *(samples[:, channel] for channel in range(samples.shape[1]))]
    for part in parts:
        digest = base64.b64encode(hashlib.md5(part.astype(">i2").tobytes()).digest())
        assert digest.decode().rstrip("=") in digests


def test_four_channels(shared):
    """NIST's tones of 100, 50, 25 and 12.5 Hz, a channel each (its readme lists them the other way round)."""
    path = str(shared("sphere/nist27") / "ex6.wav")
    for channel, pitch in enumerate([100, 50, 25, 12.5]):
        audio = load_audio(Utterance(path, 1.0, "", 0.0, {"channel": channel}), 8000)
        assert np.argmax(np.abs(np.fft.rfft(audio, 16000))) / 2 == pitch


def test_a_telephone_call_is_decoded_once(tmp_path, monkeypatch):
    """Utterances of one compressed recording, one after the other; a new version of the file is seen."""
    decoded = []
    monkeypatch.setattr(recording, "read_sphere", lambda content: decoded.append(1) or read_sphere(content))
    path = tmp_path / "call.sph"
    for loudness in (100, 200):
        samples = np.full((8000, 2), loudness) + np.arange(8000)[:, None] % 7
        path.write_bytes(sphere(encoded(samples, 1), 8000, 2))
        for start in (0.0, 0.25, 0.5):
            part = load_audio(Utterance(str(path), 0.25, "", start, {"channel": 1}), 8000)
            np.testing.assert_array_equal(part * 32768, samples[int(8000 * start) :][:2000, 1])
    assert len(decoded) == 2


@pytest.mark.parametrize(
    "name, finding",
    [
        ("ex1_01sh.wav", 'packed as "shortpack-v0", which only NIST\'s w_decode reads'),
        ("ex4_wp.wav", "embedded-wavpack1.0"),
        ("ex1_10.wvc", "cut off; 488 samples of 16000 are there"),
        ("ex1_10st.wvc", "cut off or broken after 2304 of 16000 samples"),
    ],
)
def test_what_is_not_read_is_one_line(shared, name, finding):
    with pytest.raises(AudioError, match=finding):
        load_audio(shared("sphere/nist27") / name, 16000)
