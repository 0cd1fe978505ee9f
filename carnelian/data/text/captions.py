"""Transcripts as text, JSON lines, SubRip and WebVTT subtitles, and NIST's CTM.

Each writer takes the recording's name and its transcript (`carnelian.data.transcript`), or those of its channels and their
numbers, and returns text that ends with a newline; text, JSON lines and CTM of several recordings may follow each other in one file.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from string import ascii_uppercase
from textwrap import wrap
from typing import Any

WIDTH, LINES = 42, 2  # of a caption that is easily read, in characters and lines
LONGEST, PAUSE = 6.0, 0.8  # seconds: of a caption at most, and between words where the next caption begins


@dataclass(frozen=True, slots=True)
class Caption:
    """Lines to be shown from `start` to `end` (seconds)."""

    start: float
    end: float
    lines: tuple[str, ...]


def captions(transcript: Any) -> Iterator[Caption]:
    """A transcript's words parted at pauses and where a caption is full; without word times, the whole as one."""
    if not transcript.words:
        if transcript.text:
            yield Caption(0.0, transcript.duration, tuple(wrap(transcript.text, WIDTH)))
        return
    shown: list[Any] = []
    for word in transcript.words:
        if shown and not fits_on_lines(shown, word):
            yield caption(shown)
            shown = []
        shown.append(word)
    yield caption(shown)


def fits_on_lines(shown: list[Any], word: Any) -> bool:
    """Whether a caption has room and time for a further word."""
    lines = wrap(" ".join(each.text for each in [*shown, word]), WIDTH)
    soon = word.start - shown[-1].end < PAUSE
    return soon and len(lines) <= LINES and word.end - shown[0].start <= LONGEST


def caption(words: list[Any]) -> Caption:
    """Words as a caption."""
    return Caption(words[0].start, words[-1].end, tuple(wrap(" ".join(word.text for word in words), WIDTH)))


def text(name: str, *sides: Any, channels: Sequence[int] = ()) -> str:
    """The words as a line of text; of separate channels a line each, "A: hello"."""
    labels = [f"{ascii_uppercase[channel]}: " for channel in channels] if len(sides) > 1 else [""]
    return "".join(f"{label}{side.text}\n" for label, side in zip(labels, sides))


def json_line(name: str, *sides: Any, channels: Sequence[int] = (), offset: float = 0.0) -> str:
    """One JSON object a line: the recording, its duration, text, and words with times and confidence.

    A chosen channel is in "channel", as in manifests: 0 is the first. Of a segment, "offset" is where it begins; the times of the
    words are those of the recording.
    """
    lines = []
    for side, channel in zip_longest(sides, channels):
        words = [asdict(word) | {"confidence": round(word.confidence, 4)} for word in side.words]
        place = {"offset": round(offset, 3)} if offset else {}
        keys = {"audio_filepath": name, **place, "duration": round(side.duration, 3), "text": side.text, "words": words}
        lines.append(json.dumps(keys | ({} if channel is None else {"channel": channel}), ensure_ascii=False) + "\n")
    return "".join(lines)


def labelled_captions(sides: Sequence[Any], channels: Sequence[int]) -> list[tuple[str, Caption]]:
    """The captions of all channels in the order of their times, with the speaker's letter where there are several."""
    labels = [ascii_uppercase[channel] for channel in channels] if len(sides) > 1 else [""]
    pairs = [(label, each) for label, side in zip(labels, sides) for each in captions(side)]
    return sorted(pairs, key=lambda pair: pair[1].start)


def srt(name: str, *sides: Any, channels: Sequence[int] = ()) -> str:
    """SubRip subtitles; of separate channels with "A: " and "B: " before the words."""
    return "".join(
        f"{number}\n{clock(each.start, ',')} --> {clock(each.end, ',')}\n"
        + (f"{label}: " if label else "")
        + "\n".join(each.lines)
        + "\n\n"
        for number, (label, each) in enumerate(labelled_captions(sides, channels), 1)
    )


def vtt(name: str, *sides: Any, channels: Sequence[int] = ()) -> str:
    """WebVTT subtitles (w3.org/TR/webvtt1); of separate channels with a voice tag for each speaker, `<v A>`."""
    escape = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    return "WEBVTT\n\n" + "".join(
        f"{clock(each.start, '.')} --> {clock(each.end, '.')}\n"
        + (f"<v {label}>" if label else "")
        + "\n".join(each.lines).translate(escape)
        + "\n\n"
        for label, each in labelled_captions(sides, channels)
    )


def ctm(name: str, *sides: Any, channels: Sequence[int] = ()) -> str:
    """NIST's time-marked conversation: a line per word with recording, channel, start, duration, word, confidence.

    A chosen channel is A, B, ..., as NIST's references of telephone calls call it; otherwise the channel is 1.
    """
    recording = re.sub(r"\s", "_", name) or "audio"
    return "".join(
        f"{recording} {'1' if channel is None else ascii_uppercase[channel]} "
        f"{word.start:.3f} {word.end - word.start:.3f} {word.text} {word.confidence:.4f}\n"
        for side, channel in zip_longest(sides, channels)
        for word in side.words
    )


def clock(seconds: float, point: str) -> str:
    """A time as hours:minutes:seconds and milliseconds."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


FORMATS: dict[str, Callable[..., str]] = {
    "text": text,
    "jsonl": json_line,
    "srt": srt,
    "vtt": vtt,
    "ctm": ctm,
}
