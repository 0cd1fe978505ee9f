"""Utterances: segments of recordings with their transcripts; and manifests, the JSON-lines lists of them."""

import json
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np

from carnelian.data.shards import fetch
from carnelian.errors import ManifestError
from carnelian.file_kinds import misplaced
from carnelian.files import one_line, reason_of, refuse_special, written
from carnelian.jit import compiled, has_numba

BOM = b"\xef\xbb\xbf"
READ_BYTES = 1 << 20
NEWLINE, QUOTE, COLON, COMMA, BACKSLASH, OPEN, CLOSE = b'\n":,\\{}'
AUDIO, DURATION, TEXT, OFFSET = b"audio_filepath", b"duration", b"text", b"offset"
SHARD = b"shard_id"

#: keys that other toolkits have for the text, in the order in which they are tried; "text_filepath" is NeMo's for a file with it
TEXT_KEYS = ("text", "transcript", "transcription", "sentence", "normalized_text", "text_filepath")
FEW_LINES = 5000
READ_AHEAD = 4096  # read at once where a line begins
LONGEST_DURATION = 1e7  # seconds; more is no recording


@dataclass(frozen=True, slots=True)
class Utterance:
    """A segment of a recording: `duration` seconds from second `offset` of the file, and its transcript.

    more: the other keys of its line in the manifest (speaker, lang, channel, ...), which are kept when it is written again.
    """

    audio_filepath: str
    duration: float
    text: str = ""
    offset: float = 0.0
    more: dict = field(default_factory=dict, hash=False)


def read_manifest(path: str | Path) -> Iterator[Utterance]:
    """The utterances of a JSON-lines manifest, in its order; relative audio paths start at the manifest's folder."""
    folder = os.path.dirname(path)
    with open_manifest(path) as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(BOM) if number == 1 else line
            if line.strip():
                try:
                    yield parse_line(line, folder)
                except ValueError as error:
                    raise bad_line(path, number, error) from None


def take_text(keys: dict, folder: str) -> str:
    """Takes the text out of a line's keys: under "text", or another of TEXT_KEYS; ValueError for one that is no string."""
    name = next((name for name in TEXT_KEYS if name in keys), "text")
    text = keys.pop(name, "")
    if not isinstance(text, str):
        raise ValueError(f'"{name}" is {json.dumps(text)[:40]}')
    if name == "text_filepath" and text:
        path = os.path.join(folder, os.path.expanduser(text))
        try:
            refuse_special(path, ManifestError)
            with open(path, encoding="utf-8-sig") as file:
                text = " ".join(file.read().split())
        except (OSError, ValueError, ManifestError) as error:
            raise ValueError(f'its "text_filepath" {text}: {reason_of(error)}') from None
    return text


def refuse_no_texts(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Raises ManifestError where no utterance has a text, with the keys that the first one has; looks no further than a text."""
    first = None
    for utterance in utterances:
        first = first or utterance
        if utterance.text.strip():
            return
    keys = ", ".join(("audio_filepath", "duration", *(first.more if first else ())))
    raise ManifestError(one_line(f'{path}: no line has a text. Its keys are {keys}; the text is expected under "text"'))


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> int:
    """Writes a manifest and gives the number of its utterances; audio below its folder is named relative to it."""
    folder, count = os.path.abspath(Path(path).parent), 0
    with written(path, newline="\n") as file:
        for utterance in utterances:
            file.write(manifest_line(utterance, folder) + "\n")
            count += 1
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
    line = json.dumps(keys | utterance.more, ensure_ascii=False)
    # a name of bytes that are no UTF-8 is escaped as Python has it, and found again when it is read
    return line if line.isascii() or is_unicode(line) else json.dumps(keys | utterance.more)


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def open_manifest(path: str | Path) -> IO[bytes]:
    """The manifest's file, or a copy of what is at a URL, open for reading bytes."""
    try:
        refuse_special(path, ManifestError)
        return fetch(str(path)) if "://" in str(path) else open(path, "rb")
    except (OSError, ValueError) as error:
        raise ManifestError(
            one_line(f'{path}: {reason_of(error)}. Give the path of a manifest; "carnelian prepare" writes them')
        ) from None


def parse_line(line: bytes, folder: str) -> Utterance:
    """The utterance that a manifest's line describes; a ValueError that says what was found where it is none."""
    try:
        keys = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(keys, dict):
        raise ValueError(f"a JSON {type(keys).__name__}")
    for key in ("audio_filepath", "duration"):
        if key not in keys:
            raise ValueError(f'no "{key}"')
    audio, duration = keys.pop("audio_filepath"), keys.pop("duration")
    offset = keys.pop("offset", None) or 0.0
    if not isinstance(audio, str) or not audio or "\0" in audio:
        raise ValueError(f'"audio_filepath" is {json.dumps(audio)[:40]}')
    for key, value in (("duration", duration), ("offset", offset)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_DURATION:
            raise ValueError(f'"{key}" is {json.dumps(value)[:40]}')
    text = take_text(keys, folder)
    if not isinstance(keys.get("shard_id", 0), int) or not 0 <= keys.get("shard_id", 0) < 1 << 31:
        raise ValueError(f'"shard_id" is {json.dumps(keys["shard_id"])[:40]}')
    if "://" not in audio:
        audio = os.path.join(folder, os.path.expanduser(audio))
    return Utterance(audio, float(duration), text, float(offset), keys)


def bad_line(path: str | Path, number: int, found: object) -> ManifestError:
    """The error for a line that is not an utterance; where the whole file is of another kind, for that."""
    if other := misplaced(path, "a manifest"):
        return ManifestError(one_line(other))
    return ManifestError(
        one_line(f"{path}:{number}", 120) + f": not an utterance ({one_line(str(found), 90)}). "
        'Expected a JSON object with "audio_filepath" and "duration"'
    )


class Manifest:
    """One or several manifests as a sequence of utterances that is indexed, not loaded.

    `durations` (N,) float32 in seconds, `offsets` (N,) int64, the bytes of its file before each line, and `shards`
    (N,) int32, a number for each tar of a sharded corpus and -1 for files of their own, are all that stays in memory.
    """

    def __init__(self, *paths: str | Path):
        self.files: dict[str, IO[bytes]] = {}  # opened when a line of them is first read
        self.paths = [str(path) for path in paths]
        scanned = [scan_manifest(path) for path in self.paths]
        self.offsets, self.durations, self.shards = (np.concatenate(parts) for parts in zip(*scanned))
        self.firsts = np.cumsum([0] + [len(offsets) for offsets, _, _ in scanned]).tolist()
        for first, after in pairwise(self.firsts):  # two manifests' shards of one number are two
            own = self.shards[first:after]
            own[own >= 0] += self.shards[:first].max(initial=-1) + 1

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: int) -> Utterance:
        index = range(len(self))[index]
        path, start = self.paths[bisect_right(self.firsts, index) - 1], int(self.offsets[index])
        if path not in self.files:
            self.files[path] = open_manifest(path)
        file = self.files[path].fileno()
        try:
            return parse_line(read_line(file, start), os.path.dirname(path))
        except ValueError as error:
            number = 1 + sum(os.pread(file, READ_BYTES, at).count(b"\n") for at in range(0, start, READ_BYTES))
            raise bad_line(path, number, error) from None

    def __iter__(self) -> Iterator[Utterance]:
        return (self[index] for index in range(len(self)))

    def __getstate__(self) -> dict:
        return self.__dict__ | {"files": {}}

    def __del__(self) -> None:
        for file in self.files.values():
            file.close()


def read_line(file: int, start: int) -> bytes:
    """The line that begins at a byte of a file. It is read: where a mapped file is cut meanwhile, the process would end (SIGBUS)."""
    line = os.pread(file, READ_AHEAD, start)
    while b"\n" not in line and (more := os.pread(file, max(READ_AHEAD, len(line)), start + len(line))):
        line += more
    return line.partition(b"\n")[0]


def scan_manifest(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts of the utterances' lines (int64), durations (float32) and shards (int32), a few megabytes at a time."""
    folder, position, lines = os.path.dirname(path), 0, 1
    offsets, durations, shards = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)], [np.zeros(0, np.int32)]
    with open_manifest(path) as file:
        while block := file.read(READ_BYTES) + file.readline():
            first = len(BOM) if position == 0 and block.startswith(BOM) else 0
            count = block.count(b"\n")
            starts, seconds, numbers = scan_block(block, first, count + 1)
            for index in np.flatnonzero(np.isnan(seconds)):
                start = int(starts[index])
                try:
                    utterance = parse_line(line_at(block, start), folder)
                except ValueError as error:
                    raise bad_line(path, lines + block.count(b"\n", 0, start), error) from None
                seconds[index], numbers[index] = utterance.duration, utterance.more.get("shard_id", -1)
            offsets.append(position + starts)
            durations.append(seconds)
            shards.append(numbers)
            position, lines = position + len(block), lines + count
    return np.concatenate(offsets), np.concatenate(durations), np.concatenate(shards)


def scan_block(block: bytes, first: int, lines: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`scan_lines`, or for a few lines, where compiled code would not pay, their starts alone: `parse_line` reads the rest."""
    if (lines > FEW_LINES or len(block) > READ_BYTES) and has_numba():
        return scan_lines(np.frombuffer(block, np.uint8), first, lines)
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == NEWLINE) + 1
    starts = np.array([start for start in (first, *ends[ends > first]) if line_at(block, start).strip()], np.int64)
    return starts, np.full(len(starts), np.nan, np.float32), np.full(len(starts), -1, np.int32)


def line_at(text: bytes, start: int) -> bytes:
    """The line that starts there."""
    end = text.find(b"\n", start)
    return text[start : end if end >= 0 else len(text)]


@compiled(nogil=True)
def scan_lines(text: np.ndarray, at: int, lines: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts, durations and shards (-1: none) of the at most `lines` lines in text (uint8) from `at` on, but for blanks.

    The duration is nan where the line is not a plain object of strings and numbers: `parse_line` judges those.
    """
    starts, durations, shards = np.empty(lines, np.int64), np.empty(lines, np.float32), np.empty(lines, np.int32)
    count = 0
    while at < len(text):
        start, at = at, skip_space(text, at)
        if at < len(text) and text[at] != NEWLINE:
            starts[count] = start
            durations[count], shards[count], at = scan_line(text, at)
            count += 1
        while at < len(text) and text[at] != NEWLINE:
            at += 1
        at += 1
    return starts[:count], durations[:count], shards[:count]


@compiled(nogil=True)
def scan_line(text: np.ndarray, at: int) -> tuple[float, int, int]:
    """Duration (nan for any odd object) and shard of the JSON object that begins here, and the place after it."""
    size, duration, shard, has_audio, separator = len(text), np.nan, -1, False, OPEN
    while at < size and text[at] == separator:
        key = skip_space(text, at + 1)
        end = skip_string(text, key)
        colon = skip_space(text, end)
        at = skip_space(text, colon + 1)
        if end == 0 or at >= size or text[colon] != COLON:
            return np.nan, -1, key
        name = text[key + 1 : end - 1]
        if text[at] == QUOTE:
            value, at = at, skip_string(text, at)
            if at == 0 or is_word(name, DURATION) or is_word(name, OFFSET) or is_word(name, SHARD):
                return np.nan, -1, value
            has_audio |= is_word(name, AUDIO) and at > value + 2
        else:
            number, at = scan_number(text, at)
            if not number >= 0 or is_word(name, AUDIO) or is_word(name, TEXT):
                return np.nan, -1, at
            if is_word(name, DURATION):
                duration = number
            elif is_word(name, SHARD):
                shard = int(min(number, 1 << 31))
                if shard != number or shard >> 31:
                    return np.nan, -1, at
        at, separator = skip_space(text, at), COMMA
    if at >= size or text[at] != CLOSE or not has_audio:
        return np.nan, -1, at
    at = skip_space(text, at + 1)
    return (duration if at == size or text[at] == NEWLINE else np.nan), shard, at


@compiled(nogil=True)
def skip_space(text: np.ndarray, at: int) -> int:
    """The next place in the line that holds no space."""
    while at < len(text) and (text[at] == 32 or text[at] == 9 or text[at] == 13):
        at += 1
    return at


@compiled(nogil=True)
def skip_string(text: np.ndarray, at: int) -> int:
    """The place after the JSON string that begins here; 0 where none does."""
    if at >= len(text) or text[at] != QUOTE:
        return 0
    at += 1
    while at < len(text) and text[at] != QUOTE:
        if text[at] < 32:
            return 0
        at += 2 if text[at] == BACKSLASH else 1
    return at + 1 if at < len(text) else 0


@compiled(nogil=True)
def scan_number(text: np.ndarray, at: int) -> tuple[float, int]:
    """The plain decimal number that begins here, and the place after it; nan where none does."""
    value, scale, first = 0.0, 0.0, at
    while at < len(text) and (48 <= text[at] <= 57 or (text[at] == 46 and scale == 0)):
        if text[at] == 46:
            scale = 1.0
        else:
            value, scale = value * 10 + (text[at] - 48), scale * 10
        at += 1
    return (value / scale if scale else value) if at > first else np.nan, at


@compiled(nogil=True)
def is_word(text: np.ndarray, word: bytes) -> bool:
    """Whether the text is the word."""
    if len(text) != len(word):
        return False
    for index in range(len(word)):  # noqa: SIM110 (a generator does not compile)
        if text[index] != word[index]:
            return False
    return True
