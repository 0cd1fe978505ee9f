"""Recordings as waveforms: any format, rate and channels in, mono float32 out. The door to soundfile and soxr."""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from carnelian.data.containers import container_kind, decode_container
from carnelian.data.shards import INSIDE, inside_shard, read_bytes
from carnelian.data.sphere import read_header, read_sphere, sphere_shape
from carnelian.data.utterance import Utterance
from carnelian.errors import AudioError

Source = Utterance | str | Path | bytes | BinaryIO
#: suffixes of the recordings that are looked for in folders
AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".sph", ".aif", ".aiff", ".au"} | {
    *(".m4a", ".mp4", ".webm", ".mkv", ".aac", ".wma", ".amr")  # with the extra "av"
}
HINT_CONVERT = 'Give WAV, FLAC, OGG, MP3 or SPHERE, or convert it ("ffmpeg -i FILE out.wav")'
HINT_COPY = "Copy it again from its origin, or leave it out"
HINT_CHECK = 'Fix the manifest with "carnelian check"'
BLOCK_SAMPLES = 1 << 23  # of all channels together, in a block that is decoded at once


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a recording's header says; `duration` in seconds, `frames` in samples per channel."""

    duration: float
    sample_rate: int
    channels: int
    frames: int


def audio_info(source: Source) -> AudioInfo:
    """A recording's duration, sample rate, channels and frames, without decoding it.

    What libsndfile does not read is decoded, except compressed SPHERE files, whose header is believed.
    """
    if isinstance(source, str | Path) and (header := read_header(first_bytes(str(source)))):
        with suppress(ValueError):
            shape = sphere_shape(header)
            if "embedded-shorten" in shape.coding:
                return AudioInfo(shape.frames / shape.rate, shape.rate, shape.channels, shape.frames)
    with open_audio(source) as file:
        return AudioInfo(file.frames / file.samplerate, file.samplerate, file.channels, file.frames)


def load_audio(source: Source, sample_rate: int) -> np.ndarray:
    """A waveform (S,) float32 in [-1, 1], mono, at the asked rate.

    Channels are averaged, unless the utterance's manifest line has a "channel" (0 is the first). Of an utterance only
    its stretch of the file is read. Raises AudioError for what cannot be read.
    """
    utterance = source if isinstance(source, Utterance) else None
    with open_audio(source) as file:
        rate = file.samplerate
        first = round(utterance.offset * rate) if utterance else 0
        frames = round(utterance.duration * rate) if utterance and utterance.duration > 0 else file.frames - first
        if frames <= 0 or much_less(file.frames - first, frames, rate):
            wanted = f"{first / rate:.2f} to {(first + frames) / rate:.2f} s" if utterance else "any of it"
            raise AudioError(
                f"{name_of(source)}: it has {file.frames / rate:.2f} s of sound, asked for is {wanted}. {HINT_CHECK}"
            )
        audio = read_frames(file, first, min(frames, file.frames - first), name_of(source))
    audio = mix_channels(audio, utterance.more.get("channel") if utterance else None, name_of(source))
    return resample(audio, rate, sample_rate)


def as_waveform(samples: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """Returns samples in memory as a waveform (S,) float32 in [-1, 1] at `sample_rate`.

    samples: (S,), (1, S) or (S, 1), floats in [-1, 1] or integers of any width, `rate` a second. Raises AudioError for other shapes,
    NaN and infinity.
    """
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


def read_frames(file: soundfile.SoundFile, first: int, frames: int, name: str) -> np.ndarray:
    """`frames` samples (S, channels) float32 from the sample `first` of an open recording."""
    if first:
        file.seek(first)
    audio = decode_frames(file, frames, name)
    refuse_cut(first + len(audio), first + frames, file, name)
    return audio


def decode_frames(file: soundfile.SoundFile, frames: int, name: str) -> np.ndarray:
    """The next `frames` samples (S, channels) float32 of an open recording, or as many as there are."""
    try:
        return file.read(frames, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, MemoryError) as error:
        raise AudioError(f"{name}: broken or cut off; decoding failed ({reason(error)}). {HINT_COPY}") from None


def refuse_cut(found: int, promised: int, file: soundfile.SoundFile, name: str) -> None:
    """Raises AudioError where far fewer samples were found than the recording's header promises."""
    if much_less(found, promised, file.samplerate):
        rate = file.samplerate
        raise AudioError(
            f"{name}: cut off at {found / rate:.2f} s, its header promises {file.frames / rate:.2f} s. {HINT_COPY}"
        )


def much_less(found: int, promised: int, rate: int) -> bool:
    """Whether so many samples are missing that it is a fault: headers and manifests are often a little wrong."""
    return found + 0.1 * (promised + rate) < promised


def mix_channels(audio: np.ndarray, channel: int | None, name: str) -> np.ndarray:
    """One channel (S,) of (S, channels): the one asked for, or the average of all."""
    channels = audio.shape[1]
    if channel is None:
        audio = audio[:, 0] if channels == 1 else audio.mean(axis=1)
    elif isinstance(channel, int) and 0 <= channel < channels:
        audio = audio[:, channel]
    else:
        raise AudioError(f'{name}: no channel {channel}; it has {channels}. "channel" in the manifest counts from 0')
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


def audio_blocks(source: Source, sample_rate: int, *, seconds: float = 20.0) -> Iterator[np.ndarray]:
    """A recording as consecutive blocks (S,) float32, mono, at the asked rate, each of about so many seconds.

    The whole is never held. Raises AudioError for what cannot be read, where it is cut off after its last block.
    """
    name = name_of(source)
    with open_audio(source) as file:
        frames = max(1, min(round(seconds * file.samplerate), BLOCK_SAMPLES // file.channels))
        resampler = Resampler(file.samplerate, sample_rate)
        for first in range(0, file.frames, frames):
            wanted = min(frames, file.frames - first)
            block = decode_frames(file, wanted, name)
            last = len(block) < wanted or first + wanted == file.frames
            yield resampler(mix_channels(block, None, name), last)
            if len(block) < wanted:
                return refuse_cut(first + len(block), file.frames, file, name)


def encode_flac(audio: np.ndarray, sample_rate: int) -> bytes:
    """A waveform (S,) as a FLAC file of 16 bits."""
    file = io.BytesIO()
    soundfile.write(file, audio, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


@contextmanager
def open_audio(source: Source) -> Iterator[soundfile.SoundFile]:
    """The recording, open for reading; what is no recording is an AudioError."""
    name = name_of(source)
    given = source.audio_filepath if isinstance(source, Utterance) else source
    if isinstance(given, str | Path):
        given = find_recording(str(given), source.more if isinstance(source, Utterance) else {})
    if isinstance(given, str):
        if not os.path.isfile(given):
            found = "a folder" if os.path.isdir(given) else "no such file"
            raise AudioError(f"{name}: {found}. Give the path of a recording")
        if not os.path.getsize(given):
            raise AudioError(f"{name}: an empty file. {HINT_COPY}")
    try:
        file = soundfile.SoundFile(io.BytesIO(given) if isinstance(given, bytes) else given)
        promised = read_header(first_bytes(given)).get("sample_count", "") if file.format == "NIST" else ""
    except (soundfile.LibsndfileError, RuntimeError, TypeError, OSError) as error:
        file, promised = open_decoded(given, name, reason(error)), ""
    with file:
        if file.frames >= 1 << 62:
            raise AudioError(f"{name}: its header gives no length. {HINT_CONVERT}")
        if promised.isdigit() and much_less(file.frames, int(promised), file.samplerate):
            raise AudioError(f"{name}: cut off; {file.frames} samples of {promised} are there. {HINT_COPY}")
        for stated, found in re.findall(r"(\d+) \(should be (\d+)\)", file.extra_info):
            if int(found) < 0.9 * int(stated) and int(stated) < 0x7FFF0000:  # more: a stream of unknown length
                raise AudioError(f"{name}: cut off; {found} bytes of {stated} are there. {HINT_COPY}")
        yield file


def open_decoded(given: str | bytes | BinaryIO, name: str, found: str) -> soundfile.SoundFile:
    """A recording that libsndfile refuses (for the reason that was `found`), decoded here as a whole."""
    try:
        if isinstance(given, str):
            status = os.stat(given)
            decoded = decode_file(given, status.st_mtime_ns, status.st_size)
        else:
            decoded = decode_bytes(first_bytes(given, -1))
    except ValueError as error:
        hint = "Copy it again, or convert it with sph2pipe or w_decode" if "SPHERE" in str(error) else HINT_COPY
        raise AudioError(f"{name}: not read ({error}). {hint}") from None
    if not decoded:
        raise AudioError(f"{name}: not a recording that can be read ({found}). {HINT_CONVERT}")
    return soundfile.SoundFile(io.BytesIO(decoded))


@lru_cache(maxsize=4)  # utterances of one long telephone call are often read one after the other
def decode_file(path: str, changed: int, size: int) -> bytes:
    """A file's recording as W64; `changed` and `size` tell versions of the file apart."""
    return decode_bytes(first_bytes(path, -1))


def decode_bytes(content: bytes) -> bytes:
    """A recording that libsndfile does not read as W64, which it reads; empty for what is no recording."""
    if read_header(content):
        samples, rate = read_sphere(content)
    elif kind := container_kind(content):
        samples, rate = decode_container(content, kind)
    else:
        return b""
    file = io.BytesIO()
    subtype = "PCM_16" if samples.dtype == np.int16 else "FLOAT"
    soundfile.write(file, samples, rate, format="W64", subtype=subtype)
    return file.getvalue()


def first_bytes(given: str | bytes | BinaryIO, count: int = 1024) -> bytes:
    """The first bytes (-1: all) of a recording; none where it may not be read."""
    if isinstance(given, bytes):
        return given if count < 0 else given[:count]
    try:
        with open(given, "rb") if isinstance(given, str) else nullcontext(given) as file:
            place = file.tell()
            file.seek(0)
            content = file.read(count)
            file.seek(place)
            return content
    except OSError:
        return b""


def find_recording(path: str, more: dict) -> str | bytes:
    """A recording's path, or its bytes where it lies in a shard or at a URL."""
    if os.path.exists(path):
        return path
    if "shard_id" in more and INSIDE not in path:
        path = inside_shard(path, more["shard_id"])
    return read_bytes(path) if INSIDE in path or "://" in path else path


def name_of(source: Source) -> str:
    """What to call a recording in an error."""
    if isinstance(source, Utterance):
        return source.audio_filepath
    return str(source) if isinstance(source, str | Path) else str(getattr(source, "name", "audio"))


def reason(error: Exception) -> str:
    """What libsndfile found, without the file's name and the full stop."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")
