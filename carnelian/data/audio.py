"""Recordings as waveforms: any format, rate and channels in, mono float32 out. The only importer of soxr."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from carnelian.data.recording import (
    HINT_COPY,
    Recording,
    Source,
    check_sample_rate,
    much_less,
    name_of,
    open_audio,
    read_bytes_of,
)
from carnelian.data.sphere import read_header, sphere_shape
from carnelian.data.utterance import Utterance
from carnelian.errors import AudioError
from carnelian.files import is_file

LARGEST_SAMPLE = 1e10  # floats of a file are meant to be in [-1, 1]; 32-bit integers stored as floats reach 2e9
MAX_BLOCK_SAMPLES = 1 << 23  # of all channels together, in a block that is decoded at once
HINT_RATE = "Give the rate of the samples, such as 16000"
HINT_CHECK = 'Fix the manifest with "carnelian check"'


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """A recording's length, sample rate and channels; `duration` in seconds, `frames` in samples per channel."""

    duration: float
    sample_rate: int
    channels: int
    frames: int


def audio_info(source: Source) -> AudioInfo:
    """Returns a recording's duration, sample rate, channels and frames. Frames are counted where need be.

    What libsndfile does not read is decoded, except compressed SPHERE files, whose header is believed.
    """
    if (
        isinstance(source, str | Path)
        and is_file(str(source))
        and (header := read_header(read_bytes_of(str(source), 1024)))
    ):
        with suppress(ValueError):
            shape = sphere_shape(header)
            if "embedded-shorten" in shape.coding:
                return AudioInfo(shape.frames / shape.rate, shape.rate, shape.channels, shape.frames)
    with open_audio(source) as file:
        return AudioInfo(file.frames / file.sample_rate, file.sample_rate, file.channels, file.frames)


def load_audio(source: Source, sample_rate: int) -> np.ndarray:
    """Returns a waveform (S,) float32 in [-1, 1], mono, at `sample_rate`.

    Channels are averaged, unless the utterance's manifest line has a "channel" (0 is the first). Of an utterance only its
    segment of the file is read. Raises AudioError for what cannot be read, and for samples that are NaN or infinite.
    """
    utterance = source if isinstance(source, Utterance) else None
    name = name_of(source)
    with open_audio(source) as file:
        rate = file.sample_rate
        first = round(utterance.offset * rate) if utterance else 0
        frames = round(utterance.duration * rate) if utterance and utterance.duration > 0 else file.frames - first
        if frames <= 0 or much_less(file.frames - first, frames, rate):
            if not utterance or not (utterance.offset or utterance.duration):
                raise AudioError(f"{name}: it has {file.frames / rate:.2f} s of sound. {HINT_COPY}")
            wanted = f"{first / rate:.2f} to {(first + frames) / rate:.2f} s"
            raise AudioError(f"{name}: it has {file.frames / rate:.2f} s of sound, asked for is {wanted}. {HINT_CHECK}")
        audio = read_frames(file, first, min(frames, file.frames - first))
    audio = mix_channels(audio, utterance.more.get("channel") if utterance else None, name)
    return resample(audio, rate, sample_rate)


def as_waveform(samples: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """Returns samples in memory as a waveform (S,) float32 in [-1, 1] at `sample_rate`.

    samples: (S,), (1, S) or (S, 1), floats in [-1, 1] or integers of any width, `rate` a second. Raises AudioError for other shapes,
    NaN and infinity, and rates that no recording has.
    """
    check_sample_rate(rate, "audio", HINT_RATE)
    if samples.ndim == 2 and 1 in samples.shape:
        samples = samples.reshape(-1)
    if samples.ndim != 1:
        raise AudioError(
            f"audio: samples of shape {samples.shape}, expected (S,) of one channel. "
            "Choose one channel (audio[0]) or average them (audio.mean(0))"
        )
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif np.issubdtype(samples.dtype, np.integer):
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    samples = np.ascontiguousarray(samples, np.float32)
    if not np.isfinite(samples).all():
        raise AudioError("audio: the samples hold NaN or infinity. Give floats in [-1, 1]")
    return resample(samples, rate, sample_rate)


def read_frames(file: Recording, first: int, frames: int) -> np.ndarray:
    """Returns `frames` samples (S, channels) float32 from the sample `first` on. Raises AudioError where far fewer are there."""
    audio = file.read(first, frames)
    refuse_short(file, first + len(audio), first + frames)
    return audio


def refuse_short(file: Recording, found: int, promised: int) -> None:
    """Raises AudioError where far fewer samples were found than the recording's header promises."""
    if much_less(found, promised, file.sample_rate):
        stated, rate = file.frames / file.sample_rate, file.sample_rate
        raise AudioError(
            f"{file.name}: cut off at {found / rate:.2f} s, its header promises {stated:.2f} s. {HINT_COPY}"
        )


def mix_channels(audio: np.ndarray, channel: int | None, name: str) -> np.ndarray:
    """One channel (S,) of (S, channels): the one asked for, or the average of all.

    Raises AudioError for a channel that is not there, and for samples that are NaN, infinite or too large to compute with.
    """
    channels = audio.shape[1]
    if channel is None:
        audio = audio[:, 0] if channels == 1 else audio.mean(axis=1)
    elif isinstance(channel, int) and 0 <= channel < channels:
        audio = audio[:, channel]
    else:
        raise AudioError(f'{name}: no channel {channel}; it has {channels}. "channel" in the manifest counts from 0')
    if audio.size and not max(audio.max(), -audio.min()) <= LARGEST_SAMPLE:
        raise AudioError(
            f"{name}: some of its samples are NaN or infinite, or beyond {LARGEST_SAMPLE:.0g}. {HINT_COPY}"
        )
    return np.ascontiguousarray(audio)


def resample(audio: np.ndarray, rate: float, new_rate: float, quality: str = "HQ") -> np.ndarray:
    """A waveform at another sample rate; quality as soxr names it (QQ, LQ, MQ, HQ, VHQ)."""
    return audio if rate == new_rate else soxr.resample(audio, rate, new_rate, quality=quality)


class Resampler:
    """Another sample rate for a waveform that arrives in blocks: `resampler(block)` is what is known so far of the result."""

    def __init__(self, rate: float, new_rate: float, quality: str = "HQ"):
        self.stream = None if rate == new_rate else soxr.ResampleStream(rate, new_rate, 1, quality=quality)

    def __call__(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """The next samples (float32) at the new rate; with `last` also those that waited for more input."""
        return self.stream.resample_chunk(block, last=last) if self.stream else block


def audio_blocks(
    file: Recording, sample_rate: int, *, seconds: float = 20.0, utterance: Utterance | None = None, begin: int = 0
) -> Iterator[np.ndarray]:
    """Yields an open recording as consecutive blocks (S,) float32, mono, at `sample_rate`, each of about `seconds`.

    Of an utterance only its segment and channel. begin: the second of the recording or segment from which on. The whole is never
    held. Raises AudioError for what cannot be decoded, where it is cut off after its last block.
    """
    frames = max(1, min(round(seconds * file.sample_rate), MAX_BLOCK_SAMPLES // file.channels))
    resampler = Resampler(file.sample_rate, sample_rate)
    start = round(utterance.offset * file.sample_rate) if utterance else 0
    end = start + round(utterance.duration * file.sample_rate) if utterance and utterance.duration > 0 else file.frames
    end, channel = min(end, file.frames), utterance.more.get("channel") if utterance else None
    for first in range(start + begin * file.sample_rate, end, frames):
        wanted = min(frames, end - first)
        block = file.read(first, wanted)
        last = len(block) < wanted or first + wanted == end
        yield resampler(mix_channels(block, channel, file.name), last)
        if len(block) < wanted:
            return refuse_short(file, first + len(block), file.frames)
