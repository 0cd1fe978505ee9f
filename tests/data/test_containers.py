"""M4A, WebM and their kin through the extra "av"; refused by name without it."""

import builtins
import io

import numpy as np
import pytest

from carnelian.data.audio import audio_info, load_audio
from carnelian.data.containers import container_kind
from carnelian.errors import AudioError, MissingExtraError

FORMATS = {  # container: codec, sample format, what people call it
    "mp4": ("aac", "fltp", "M4A or MP4"),
    "webm": ("libopus", "flt", "WebM or Matroska"),
    "matroska": ("aac", "fltp", "WebM or Matroska"),
    "adts": ("aac", "fltp", "AAC"),
    "asf": ("wmav2", "fltp", "WMA"),
}
RATE = 48000


def record(container, seconds=1.0, channels=2):
    """A tone of 440 Hz on the left, 880 Hz on the right."""
    av = pytest.importorskip("av")
    codec, sample_format, _ = FORMATS[container]
    times = np.arange(int(RATE * seconds)) / RATE
    tones = np.stack([0.4 * np.sin(2 * np.pi * 440 * (1 + channel) * times) for channel in range(channels)])
    layout = "stereo" if channels == 2 else "mono"
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=RATE, layout=layout, bit_rate=128_000)
        frame = av.AudioFrame.from_ndarray(tones.astype(np.float32), format="fltp", layout=layout)
        frame.sample_rate = RATE
        resampler = av.AudioResampler(
            format=sample_format, layout=layout, rate=RATE, frame_size=1024 if codec != "libopus" else 960
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("container", FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_the_sound_is_that_which_was_written(container, channels, tmp_path):
    content = record(container, channels=channels)
    (tmp_path / "tone").write_bytes(content)
    for source in (content, tmp_path / "tone"):
        info = audio_info(source)
        assert (info.sample_rate, info.channels) == (RATE, channels) and info.duration == pytest.approx(1, abs=0.1)
    audio = load_audio(tmp_path / "tone", 16000)
    spectrum = np.abs(np.fft.rfft(audio[2000:14000]))
    peaks = sorted((np.argsort(spectrum)[-channels:] * 16000 / 12000).tolist())
    assert peaks == pytest.approx([440, 880][:channels], abs=3) and np.abs(audio[2000:14000]).max() > 0.15


@pytest.mark.parametrize("container", FORMATS)
def test_without_the_extra_it_is_refused_by_name(container, monkeypatch):
    content = record(container)
    real = builtins.__import__

    def refuse(name, *given, **more):
        if name == "av":
            raise ImportError(name)
        return real(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=FORMATS[container][2] + r' needs the package "av".*carnelian\[av\]'):
        load_audio(content, 16000)


@pytest.mark.parametrize("container", FORMATS)
def test_broken_ones_are_one_line(container):
    content = record(container)
    rng = np.random.default_rng(0)
    for size in (12, 40, len(content) // 3):
        damaged = bytearray(content[:size])
        for place in rng.integers(12, max(13, size), 8) % size:
            damaged[place] = int(rng.integers(256))
        for some in (content[:size], bytes(damaged)):
            try:
                load_audio(some, 16000)  # of a cut stream what is there may be sound
            except AudioError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"\xff\xfb\x90", b"OggS", b"fLaC", b"NIST_1A\n"])
def test_what_libsndfile_reads_is_none_of_them(content):
    assert container_kind(content) == ""
