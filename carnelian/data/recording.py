"""Recordings in their files: opened, with their true length, and read from any place. The only importer of soundfile."""

import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from carnelian.data.containers import container_kind, decode_container
from carnelian.data.lengths.joined import fill_au, fill_caf, fill_wav, flac_parts, flac_starts, ogg_parts, wav_parts
from carnelian.data.lengths.mp3 import has_true_length, read_mp3, segment, true_frames
from carnelian.data.shards import INSIDE, inside_shard, read_bytes
from carnelian.data.sphere import read_header, read_sphere
from carnelian.data.utterance import Utterance
from carnelian.errors import AudioError
from carnelian.files import one_line, reading

Source = Utterance | str | Path | bytes | BinaryIO
Given = str | bytes | BinaryIO
#: cut(first, frames): a file with those samples, and how many samples it has before them
Cut = Callable[[int, int], tuple[bytes, int]]
#: suffixes of the recordings that are looked for in folders
AUDIO_SUFFIXES = {
    *(
        ".wav",
        ".wave",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".sph",
        ".nist",
        ".aif",
        ".aiff",
        ".aifc",
        ".au",
        ".snd",
    ),
    *(".caf", ".w64", ".rf64"),
    *(".m4a", ".mp4", ".webm", ".mkv", ".aac", ".wma", ".amr"),  # with the extra "av"
}
#: suffixes of recordings that cannot be read here, which a folder's reader counts
UNREAD_SUFFIXES = {".mka", ".3gp", ".ape", ".wv", ".m4b", ".mov", ".ra", ".dss", ".ds2", ".spx", ".ac3", ".avi"}
ENCODINGS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
HINT_CONVERT = 'Give WAV, FLAC, OGG, MP3 or SPHERE, or convert it ("ffmpeg -i FILE out.wav")'
HINT_COPY = "Copy it again from its origin, or leave it out"
SAMPLE_RATES = (1_000, 1_000_000)  # of any recording of speech; the lowest bounds what resampling makes of a small file
BLOCK_SAMPLES = 1 << 20
CHECKED_BYTES = 4096  # of an MP3 file: its first frame, after a short tag
UNKNOWN_LENGTH = 1 << 62  # what libsndfile says where a header gives no length
#: what libsndfile notes about bytes after the sound
MORE_SOUND = re.compile(r"Exiting parser|Unknown chunk|RIFF : \d+ \(should be")
#: libsndfile's note on a size in a header that is not the file's; a wrong byte rate, as flite's voice kal writes, says nothing of it
WRONG_SIZE = re.compile(r"^(?!\s*(?:Bytes/sec|Block Align)).*?(\d+) \(should be (\d+)\)", re.MULTILINE)
SPLITTERS = {"OGG": ogg_parts, "FLAC": flac_parts}


class Recording:
    """An open recording: `frames` samples per channel at `sample_rate`, in one or several parts, read from any place.

    cut: where the format's own seeking is not exact, a function that gives a file which begins a little before a place.
    """

    def __init__(self, name: str, parts: list[soundfile.SoundFile], cut: Cut | None = None):
        self.name, self.parts, self.cut = name, parts, cut
        self.sample_rate, self.channels = parts[0].samplerate, parts[0].channels
        self.frames = sum(part.frames for part in parts)
        self.places = [0] * len(parts)
        if len({(part.samplerate, part.channels) for part in parts}) > 1:
            raise AudioError(f"{name}: joined of parts with several sample rates or channel counts. {HINT_CONVERT}")
        check_sample_rate(self.sample_rate, name, HINT_COPY)
        if self.frames >= UNKNOWN_LENGTH:
            raise AudioError(f"{name}: its header gives no length. {HINT_CONVERT}")

    def read(self, first: int, frames: int) -> np.ndarray:
        """Returns samples (S, channels) float32 from the sample `first` on; fewer than `frames` where the sound ends."""
        try:
            if self.cut and first and first != self.places[0]:
                content, skipped = self.cut(first, frames)
                with soundfile.SoundFile(io.BytesIO(content)) as part:
                    return part.read(skipped + frames, dtype="float32", always_2d=True)[skipped:]
            pieces = []
            for index, part in enumerate(self.parts):
                wanted = min(frames, part.frames - first)
                if wanted > 0:
                    pieces.append(self.read_part(index, first, wanted))
                    frames -= wanted
                    if len(pieces[-1]) < wanted:
                        break
                first = max(0, first - part.frames)
        except (soundfile.LibsndfileError, RuntimeError, ValueError, MemoryError) as error:
            raise AudioError(
                f"{self.name}: broken or cut off; decoding failed ({reason(error)}). {HINT_COPY}"
            ) from None
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros((0, self.channels), np.float32), *pieces])

    def read_part(self, index: int, first: int, frames: int) -> np.ndarray:
        """Samples of one part; where its format knows no seeking, those before are read and dropped."""
        part = self.parts[index]
        if part.seekable() and self.places[index] != first:
            part.seek(first)
        elif self.places[index] < first:
            for at in range(self.places[index], first, BLOCK_SAMPLES):
                part.read(min(BLOCK_SAMPLES, first - at), dtype="float32")
        elif self.places[index] > first:
            raise ValueError("this format can only be read forwards")
        audio = part.read(frames, dtype="float32", always_2d=True)
        self.places[index] = first + len(audio)
        return audio


def check_sample_rate(rate: float, name: str, hint: str) -> None:
    """Raises AudioError for a sample rate that no recording of speech has. hint: what to do."""
    low, high = SAMPLE_RATES
    if not low <= rate <= high:
        raise AudioError(f"{name}: {rate:.15g} samples per second; expected {low:,} to {high:,}. {hint}")


@contextmanager
def open_audio(source: Source) -> Iterator[Recording]:
    """Gives the recording, open for reading. Raises AudioError of one line for what is no recording."""
    name = name_of(source)
    given = source.audio_filepath if isinstance(source, Utterance) else source
    if isinstance(given, str | Path):
        with reading(name, "a recording", AudioError):
            given = find_recording(str(given), source.more if isinstance(source, Utterance) else {})
    if isinstance(given, str):
        refuse_no_file(given, name)
    with reading(name, "a recording", AudioError):
        recording = open_recording(given, name)
    try:
        yield recording
    finally:
        for part in recording.parts:
            part.close()


def open_recording(given: Given, name: str) -> Recording:
    """The recording, open for reading: as libsndfile reads it, or completed, or decoded here."""
    try:
        recording = open_mp3(given, name)
        if recording is None:
            file = open_soundfile(given)
            recording = whole_recording(file, given, name)
    except (soundfile.LibsndfileError, RuntimeError, TypeError, OSError, ValueError, AssertionError) as error:
        recording = open_refused(given, name, error)
    return recording


def open_soundfile(given: Given) -> soundfile.SoundFile:
    """A recording as libsndfile opens it; also where its path's bytes are no UTF-8."""
    if isinstance(given, str):
        return soundfile.SoundFile(os.fsencode(given) if os.name == "posix" else given)
    return soundfile.SoundFile(io.BytesIO(given) if isinstance(given, bytes) else given)


def refuse_no_file(path: str, name: str) -> None:
    """Raises AudioError for a path at which no file lies, or an empty one, or something that is no file, such as a FIFO."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in it
        raise AudioError(one_line(f"{name}: no such file. Give the path of a recording")) from None
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a FIFO, socket or device"
        raise AudioError(f"{name}: {what}. Give the path of a recording")
    if not found.st_size:
        raise AudioError(f"{name}: an empty file. {HINT_COPY}")


def open_refused(given: Given, name: str, error: Exception) -> Recording:
    """Opens what libsndfile refuses: formats that are decoded as a whole, joined WAV, and a length that was never filled in."""
    try:
        if isinstance(given, str):
            found = os.stat(given)
            decoded = decode_file(given, found.st_mtime_ns, found.st_size)
        else:
            decoded = decode_bytes(read_bytes_of(given))
    except ValueError as fault:
        hint = "Copy it again, or convert it with sph2pipe or w_decode" if "SPHERE" in str(fault) else HINT_COPY
        raise AudioError(one_line(f"{name}: not read ({fault}). {hint}")) from None
    content = b"" if decoded else read_bytes_of(given)
    parts = [part for part in [decoded or fill_caf(content)] if part] or wav_parts(content)
    frames = read_mp3(content)
    if not parts and frames and sum(frames.sizes) > len(content) / 2:
        parts = [true_frames(content, frames)[0]]
    try:
        if parts:
            return Recording(name, [soundfile.SoundFile(io.BytesIO(part)) for part in parts])
    except (soundfile.LibsndfileError, RuntimeError):
        pass
    raise AudioError(one_line(f"{name}: not a recording that can be read ({reason(error)}). {HINT_CONVERT}"))


@lru_cache(maxsize=4)  # utterances of one long telephone call are often read one after the other
def decode_file(path: str, changed: int, size: int) -> bytes:
    """A file's recording as W64; `changed` and `size` tell versions of the file apart."""
    return decode_bytes(read_bytes_of(path))


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


def open_mp3(given: Given, name: str) -> Recording | None:
    """The recording in an MP3 file, known by its name or first bytes; None for any other. Its frames are counted where need be."""
    first = b""
    if not isinstance(given, str) or given.lower().endswith(".mp3"):
        first = read_bytes_of(given, CHECKED_BYTES)
    if not first.startswith((b"ID3", b"\xff")):
        return None
    if has_true_length(first, content_size(given)):
        file = open_soundfile(given)
        return Recording(name, [file], partial(cut_mp3, given))
    content = read_bytes_of(given)
    frames = read_mp3(content)
    if frames is None:
        return None
    if much_less(len(frames.starts), frames.information.frames, 0):
        found, promised = len(frames.starts), frames.information.frames
        raise AudioError(f"{name}: cut off; {found} frames of {promised} are there. {HINT_COPY}")
    file = soundfile.SoundFile(io.BytesIO(true_frames(content, frames)[0]))
    return Recording(name, [file], partial(segment, content, frames))


def whole_recording(file: soundfile.SoundFile, given: Given, name: str) -> Recording:
    """The recording with all its parts and its true length, where the header may give that of a part, or none."""
    notes = file.extra_info
    refuse_cut(file, given, name, notes)
    try:
        if parts := parts_of(file, given, notes):
            return Recording(name, [soundfile.SoundFile(io.BytesIO(part)) for part in parts])
    except ValueError as error:
        raise AudioError(f"{name}: cut off; {error}. {HINT_COPY}") from None
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{name}: broken or cut off ({reason(error)}). {HINT_COPY}") from None
    return Recording(name, [file])


def parts_of(file: soundfile.SoundFile, given: Given, notes: str) -> list[bytes]:
    """The parts of a recording, completed; empty where the file as it is has one part and its length."""
    unknown = not 0 < file.frames < UNKNOWN_LENGTH
    if file.format in ("OGG", "FLAC"):
        if isinstance(given, str) and not unknown:
            found = os.stat(given)
            if has_one_part(given, file.format, found.st_size, found.st_mtime_ns):
                return []
        parts = SPLITTERS[file.format](read_bytes_of(given))
        return parts if unknown or len(parts) > 1 else []
    if file.format in ("WAV", "WAVEX", "RF64") and (unknown or MORE_SOUND.search(notes)):
        content = read_bytes_of(given)
        return [part for part in [fill_wav(content)] if part]
    if file.format == "AU" and unknown:
        return [part for part in [fill_au(read_bytes_of(given))] if part]
    return []


@lru_cache(maxsize=1 << 14)  # a long recording is opened for each of its segments
def has_one_part(path: str, kind: str, size: int, changed: int) -> bool:
    """Whether an Ogg or FLAC file is one recording, not several that were joined. Raises ValueError for one that is cut off."""
    if kind == "FLAC":
        with open(path, "rb") as file:
            return len(flac_starts(file)) == 1
    return len(SPLITTERS[kind](read_bytes_of(path))) == 1


def cut_mp3(given: Given, first: int, frames: int) -> tuple[bytes, int]:
    """`segment` of an MP3 file."""
    content = read_bytes_of(given)
    found = read_mp3(content)
    if found is None:
        raise ValueError("no frames of layer III in it")
    return segment(content, found, first, frames)


def refuse_cut(file: soundfile.SoundFile, given: Given, name: str, notes: str) -> None:
    """Raises AudioError for a recording whose file is shorter than its header says."""
    promised = read_header(read_bytes_of(given, 1024)).get("sample_count", "") if file.format == "NIST" else ""
    if promised.isdigit() and much_less(file.frames, int(promised[:18]), file.samplerate):
        raise AudioError(f"{name}: cut off; {file.frames} samples of {promised[:18]} are there. {HINT_COPY}")
    for stated, found in WRONG_SIZE.findall(notes) if "should be" in notes else ():
        if int(found) < 0.9 * int(stated) and int(stated) < 0x7FFF0000:  # more: a stream of unknown length
            raise AudioError(f"{name}: cut off; {found} bytes of {stated} are there. {HINT_COPY}")


def read_bytes_of(given: Given, count: int = -1) -> bytes:
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
    except (OSError, ValueError):
        return b""


def content_size(given: Given) -> int:
    """The bytes of a recording."""
    if isinstance(given, bytes):
        return len(given)
    if isinstance(given, str):
        return os.path.getsize(given)
    place = given.tell()
    size = given.seek(0, os.SEEK_END)
    given.seek(place)
    return size


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


def encode_audio(audio: np.ndarray, sample_rate: int, kind: str) -> bytes:
    """A waveform (S,) as a file of a kind of ENCODINGS: wav and flac of 16 bits, ogg, or mp3, which every browser plays."""
    file, (container, subtype) = io.BytesIO(), ENCODINGS[kind]
    soundfile.write(file, audio, sample_rate, format=container, subtype=subtype)
    return file.getvalue()


def much_less(found: int, promised: int, rate: int) -> bool:
    """Returns whether so much is missing that it is a fault; headers and manifests are often a little wrong."""
    return found + 0.1 * (promised + rate) < promised
