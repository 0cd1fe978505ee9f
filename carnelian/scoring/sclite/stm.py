"""STM, NIST's segment time marks: the reference of a recording, segment by segment, with its speakers and subsets."""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from carnelian.errors import ScoringError
from carnelian.file_kinds import misplaced
from carnelian.files import one_line, refuse_special, written

LABEL = re.compile(r';;\s*(LABEL|CATEGORY)\s+"([^"]*)"\s+"([^"]*)"\s+"([^"]*)"', re.I)
IGNORED = re.compile("IGNORE_TIME_SEGMENT_IN_SCORING|IGNORETIMESEGMENTINSCORING", re.I)


@dataclass(frozen=True, slots=True)
class StmSegment:
    """A part of one channel of a recording with the words spoken in it; times in seconds."""

    recording: str
    channel: str
    speaker: str
    start: float
    end: float
    text: str
    labels: tuple[str, ...] = ()

    @property
    def ignored(self) -> bool:
        """Whether neither its words nor those recognized in it count."""
        return bool(IGNORED.search(self.text))


@dataclass(frozen=True, slots=True)
class StmFile:
    """Segments in the file's order, and the titles of the labels that its comments define."""

    segments: tuple[StmSegment, ...]
    labels: dict[str, str]


def read_stm(path: str | Path, encoding: str = "utf-8") -> StmFile:
    """The segments of an STM file: `recording channel speaker start end [<label,label>] words`; `;;` begins a comment."""
    segments: list[StmSegment] = []
    labels: dict[str, str] = {}
    for number, line in numbered_lines(path, encoding):
        if line.startswith(";;"):
            if (found := LABEL.match(line)) and found[1].upper() == "LABEL":
                labels[found[2].lower()] = found[3]
            continue
        fields = line.split(None, 5)
        try:
            recording, channel, speaker, start, end = fields[:5]
            times = finite_seconds(start), finite_seconds(end)
        except ValueError:
            raise ScoringError(
                f'{path}:{number}: "{one_line(line.strip(), 60)}" is no STM line. Give: recording channel speaker start end '
                "[<labels>] words"
            ) from None
        text = fields[5].strip() if len(fields) > 5 else ""
        names: tuple[str, ...] = ()
        if text.startswith("<"):
            first, _, text = text.partition(" ")
            names = tuple(name.lower() for name in re.split("[<,>]", first) if name)
        segments.append(StmSegment(recording, channel, speaker, *times, text.strip(), names))
    return StmFile(tuple(segments), labels)


def finite_seconds(text: str) -> float:
    """A time. ValueError for what is none, or not finite."""
    time = float(text)
    if not math.isfinite(time):
        raise ValueError(f"{text} is no time")
    return time


def write_stm(path: str | Path, segments: Iterable[StmSegment]) -> None:
    """Writes segments as an STM file, sorted as sclite expects them."""
    with written(path) as file:
        for each in sorted(segments, key=lambda each: (each.recording, each.channel, each.start)):
            labels = f" <{','.join(each.labels)}>" if each.labels else ""
            times = f"{each.start:.3f} {each.end:.3f}"
            file.write(f"{each.recording} {each.channel} {each.speaker} {times}{labels} {each.text}".rstrip() + "\n")


def numbered_lines(path: str | Path, encoding: str) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not empty, with their numbers from 1 on."""
    for number, line in enumerate(read_text(path, encoding).split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r")


def read_text(path: str | Path, encoding: str) -> str:
    """The text of a file without a byte order mark. ScoringError where it is not text in this encoding."""
    refuse_special(path, ScoringError)
    try:
        return Path(path).read_text(encoding=encoding).removeprefix("\ufeff")
    except LookupError:
        raise ScoringError(f'"{encoding}": no such encoding. Known: utf-8, latin-1, gb18030, euc-jp, ...') from None
    except UnicodeDecodeError as error:
        if other := misplaced(path, "a text of transcripts"):
            raise ScoringError(one_line(other)) from None
        raise ScoringError(
            f"{path}: byte 0x{error.object[error.start]:02x} at {error.start} is not {encoding}. Give --encoding"
        ) from None
    except OSError as error:
        raise ScoringError(f"{path}: cannot be read ({error.strerror}). Give a file") from None
