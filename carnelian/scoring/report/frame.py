"""One HTML file that needs no network: the frame of the pages, with its list of utterances, compressed in parts.

The page opens a part when it is looked at, so that 300,000 utterances open at once and stay under 50 MB.
"""

import base64
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from carnelian.files import written

UTTERANCES_PER_PART = 2000  # that are compressed together
MOST_BYTES = 48_000_000  # of a page


@dataclass(frozen=True, slots=True)
class Clip:
    """Sound to play in the page: a file of a browser's format, and the waveform's outline, values from 0 to 1."""

    content: bytes
    mime: str
    outline: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SampledAudio:
    """Clips to play, and signal-to-noise ratios in decibels, each of some utterances by their index."""

    clips: dict[int, Clip] = field(default_factory=dict)
    ratios: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReportUtterance:
    """An utterance as the pages show it."""

    name: str
    reference: str
    duration: float
    subset: str = ""
    speaker: str = ""


@dataclass(frozen=True)
class Column:
    """A column of the list of utterances, by which it is sorted.

    values: of each utterance, or of each system those of each utterance; NaN for none. digits: after the point. names: what values
    stand for, where they are indices of names.
    """

    key: str
    title: str
    values: np.ndarray
    digits: int = 0
    names: Sequence[str] = ()


def named_column(key: str, title: str, names: Sequence[str]) -> Column:
    """Returns a column of names, such as speakers; empty ones are none."""
    known = sorted(set(names) - {""})
    number = {name: index for index, name in enumerate(known)}
    return Column(key, title, np.array([number.get(name, np.nan) for name in names]), names=known)


def base_columns(utterances: Sequence[ReportUtterance], audio: SampledAudio) -> list[Column]:
    """Returns the columns that every page has: duration, signal-to-noise ratio, speaker and subset."""
    columns = [
        Column("duration", "Seconds", np.array([each.duration for each in utterances]), 1),
        Column("snr", "dB", np.array([audio.ratios.get(index, np.nan) for index in range(len(utterances))])),
        named_column("speaker", "Speaker", [each.speaker for each in utterances]),
        named_column("subset", "Subset", [each.subset for each in utterances]),
    ]
    return [each for each in columns if np.isfinite(each.values).any() and len(each.names) != 1]


def write_page(
    path: Path,
    page: str,
    title: str,
    figures: Mapping[str, Any],
    row: Callable[[int], list[Any]],
    columns: Sequence[Column],
    order: np.ndarray,
    clips: Mapping[int, Clip],
    advance: Callable[[float], None],
) -> None:
    """Writes one HTML file: PAGE.html and PAGE.js of this package's `page` in the frame, with their figures.

    row: what the list shows of the utterance with this index, as JSON. order: indices of the utterances as the page lists them at
    first; those at its end are left out, and counted, where the file would grow beyond MOST_BYTES. advance: called with the
    utterances done.
    """
    folder = files("carnelian.scoring.report") / "page"
    frame, body, style, shared, script = (
        (folder / name).read_text(encoding="utf-8")
        for name in ("frame.html", f"{page}.html", "frame.css", "frame.js", f"{page}.js")
    )
    columns = [Column("index", "#", np.arange(1, len(order) + 1)), *columns]
    played = [place for place, index in enumerate(order.tolist()) if index in clips]
    about = {"title": title, "utterances": len(order), "part": UTTERANCES_PER_PART, "clips": played, **figures}
    about["columns"] = [
        {
            "key": each.key,
            "title": each.title,
            "digits": each.digits,
            "names": each.names,
            "rows": len(np.atleast_2d(each.values)),
        }
        for each in columns
    ]
    sounds = "\n".join(
        f'<script type="application/json" id="clip-{place}">{clip_json(clips[order[place]])}</script>'
        for place in played
    )
    payload, values = plain_json(about), packed_numbers(columns, order)
    room = MOST_BYTES - sum(map(len, (frame, body, style, shared, script, sounds, payload, values)))
    parts = packed_rows(row, order, room, advance)
    text = frame.replace("<!--title-->", escaped(title))
    for mark, content in (
        ("/*style*/", style),
        ("/*script*/", shared + script),
        ("<!--body-->", body),
        ("<!--payload-->", payload),
        ("<!--values-->", values),
        ("<!--clips-->", sounds),
        ("<!--parts-->", "\n".join(f'<script type="application/json" class="part">{part}</script>' for part in parts)),
    ):
        text = text.replace(mark, content, 1)  # once: what a user wrote may look like a mark
    with written(path) as file:
        file.write(text)


def packed_rows(
    row: Callable[[int], list[Any]], order: np.ndarray, room: int, advance: Callable[[float], None]
) -> list[str]:
    """Returns the rows of the list in parts, each compressed, as many as fit into `room` bytes."""
    parts: list[str] = []
    for first in range(0, len(order), UTTERANCES_PER_PART):
        rows = [row(index) for index in order[first : first + UTTERANCES_PER_PART].tolist()]
        part = compressed(rows)
        room -= len(part)
        if room < 0:
            break
        parts.append(part)
        advance(len(rows))
    return parts


def packed_numbers(columns: Sequence[Column], order: np.ndarray) -> str:
    """Returns the values of columns in this order, one system after the other, as float32, compressed."""
    values = [np.atleast_2d(column.values)[:, order].astype("<f4").tobytes() for column in columns]
    return base64.b64encode(gzip.compress(b"".join(values), 6, mtime=0)).decode()


def compressed(value: Any) -> str:
    """Returns a value as JSON, compressed by gzip, in base64."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("utf-8", "backslashreplace"), 6, mtime=0)).decode()


def plain_json(value: Any) -> str:
    """Returns a value as JSON that can stand in a script element."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def clip_json(clip: Clip) -> str:
    """Returns a clip as JSON, its sound as a data: address."""
    address = f"data:{clip.mime};base64,{base64.b64encode(clip.content).decode()}"
    return plain_json({"audio": address, "outline": [round(value, 2) for value in clip.outline]})


def escaped(text: str) -> str:
    """Returns text that can stand in HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
