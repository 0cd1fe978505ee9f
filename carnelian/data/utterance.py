"""An utterance: a stretch of speech in a file, and what was said; and manifests, the JSON-lines lists of them."""

import json
import math
import mmap
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from carnelian.errors import ManifestError

KEYS = ("audio_filepath", "duration", "text", "offset")


@dataclass(frozen=True, slots=True)
class Utterance:
    """A stretch of a recording: `duration` seconds from `offset` of the file, and its reference text.

    `more` holds the manifest's other keys (speaker, lang, ...), which are kept when it is written again.
    """

    audio_filepath: str
    duration: float
    text: str = ""
    offset: float = 0.0
    more: dict = field(default_factory=dict)


def read_manifest(path: str | Path) -> Iterator[Utterance]:
    """The utterances of a JSON-lines manifest, in its order; relative audio paths start at the manifest's folder."""
    folder = str(Path(path).parent)
    with open_manifest(path) as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield parse_line(line, path, number, folder)


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> int:
    """Writes a manifest and gives the number of its utterances; audio below its folder is named relative to it."""
    path = Path(path)
    folder = os.path.abspath(path.parent)
    os.makedirs(folder, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    count = 0
    try:
        with open(beside, "w", encoding="utf-8", newline="\n") as file:
            for utterance in utterances:
                file.write(manifest_line(utterance, folder) + "\n")
                count += 1
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return count


def manifest_line(utterance: Utterance, folder: str) -> str:
    """An utterance as a line of JSON; a path below the (absolute) folder becomes relative to it."""
    audio = utterance.audio_filepath
    absolute = os.path.abspath(audio)
    if absolute.startswith(folder + os.sep):
        audio = absolute[len(folder) + 1 :]
    elif "://" not in audio:
        audio = absolute
    keys: dict = {"audio_filepath": audio, "duration": round(utterance.duration, 6), "text": utterance.text}
    if utterance.offset:
        keys["offset"] = round(utterance.offset, 6)
    return json.dumps(keys | utterance.more, ensure_ascii=False)


def open_manifest(path: str | Path):
    """The manifest's file, open for reading bytes."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise ManifestError(
            f'{path}: {error.strerror or error}. Give the path of a manifest; "carnelian prepare" writes them'
        ) from None


def parse_line(line: bytes, path: str | Path, number: int, folder: str) -> Utterance:
    """The utterance that a manifest's line describes; a bad line is a ManifestError that names it."""
    try:
        keys = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise bad_line(path, number, str(error)) from None
    if not isinstance(keys, dict):
        raise bad_line(path, number, f"a JSON {type(keys).__name__}")
    for key in ("audio_filepath", "duration"):
        if key not in keys:
            raise bad_line(path, number, f'no "{key}"')
    audio, duration, offset, text = (
        keys.pop("audio_filepath"),
        keys.pop("duration"),
        keys.pop("offset", 0.0),
        keys.pop("text", ""),
    )
    if not isinstance(audio, str) or not audio:
        raise bad_line(path, number, f'"audio_filepath" is {json.dumps(audio)}')
    for key, value in (("duration", duration), ("offset", 0.0 if offset is None else offset)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise bad_line(path, number, f'"{key}" is {json.dumps(value)}')
    if not isinstance(text, str):
        raise bad_line(path, number, f'"text" is {json.dumps(text)[:40]}')
    if "://" not in audio:
        audio = os.path.join(folder, os.path.expanduser(audio))
    return Utterance(audio, float(duration), text, float(offset or 0.0), keys)


def bad_line(path: str | Path, number: int, found: str) -> ManifestError:
    """The error for a line that is not an utterance."""
    return ManifestError(
        f'{path}:{number}: not an utterance ({found}). Each line must be a JSON object with "audio_filepath" and '
        '"duration"; write manifests with "carnelian prepare".'
    )


class Manifest:
    """One or several manifests as a sequence of utterances that is indexed, not loaded.

    `durations` (float32, seconds) and `offsets` (int64, where each line starts in its file) are all it keeps in memory.
    """

    def __init__(self, *paths: str | Path):
        self.paths = [str(path) for path in paths]
        scanned = [scan_manifest(path) for path in self.paths]
        self.offsets = np.concatenate([offsets for offsets, _ in scanned])
        self.durations = np.concatenate([durations for _, durations in scanned])
        self.firsts = np.cumsum([0] + [len(offsets) for offsets, _ in scanned]).tolist()
        self.maps: dict[int, mmap.mmap] = {}

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: int) -> Utterance:
        index = range(len(self))[index]
        which = bisect_right(self.firsts, index) - 1
        path = self.paths[which]
        if which not in self.maps:
            with open_manifest(path) as file:
                self.maps[which] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        mapped, start = self.maps[which], int(self.offsets[index])
        end = mapped.find(b"\n", start)
        line = mapped[start : end if end >= 0 else len(mapped)]
        try:
            return parse_line(line, path, 0, str(Path(path).parent))
        except ManifestError:
            return parse_line(line, path, mapped[:start].count(b"\n") + 1, str(Path(path).parent))

    def __iter__(self) -> Iterator[Utterance]:
        return (self[index] for index in range(len(self)))

    def __getstate__(self) -> dict:
        return self.__dict__ | {"maps": {}}


def scan_manifest(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Where each utterance's line starts (int64) and its duration (float32)."""
    offsets, durations, position, folder = [], [], 0, str(Path(path).parent)
    with open_manifest(path) as file:
        for number, line in enumerate(file, 1):
            start, position = position, position + len(line)
            if number == 1 and line.startswith(b"\xef\xbb\xbf"):
                start, line = 3, line[3:]
            if line.strip():
                offsets.append(start)
                durations.append(parse_line(line, path, number, folder).duration)
    return np.array(offsets, np.int64), np.array(durations, np.float32)
