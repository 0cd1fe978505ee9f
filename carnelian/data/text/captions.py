"""Transcripts as text, JSON lines, SubRip and WebVTT subtitles, and NIST's CTM.

Each writer takes the recording's name and its transcript (`carnelian.data.transcript`), and returns text that ends with a newline;
text, JSON lines and CTM of several recordings may follow each other in one file.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
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


def text(name: str, transcript: Any) -> str:
    """The words as a line of text."""
    return transcript.text + "\n"


def json_line(name: str, transcript: Any) -> str:
    """One JSON object a line: the recording, its duration, text, and words with times and confidence."""
    words = [asdict(word) | {"confidence": round(word.confidence, 4)} for word in transcript.words]
    keys = {"audio_filepath": name, "duration": round(transcript.duration, 3), "text": transcript.text, "words": words}
    return json.dumps(keys, ensure_ascii=False) + "\n"


def srt(name: str, transcript: Any) -> str:
    """SubRip subtitles."""
    return "".join(
        f"{number}\n{clock(each.start, ',')} --> {clock(each.end, ',')}\n" + "\n".join(each.lines) + "\n\n"
        for number, each in enumerate(captions(transcript), 1)
    )


def vtt(name: str, transcript: Any) -> str:
    """WebVTT subtitles (w3.org/TR/webvtt1)."""
    escape = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    return "WEBVTT\n\n" + "".join(
        f"{clock(each.start, '.')} --> {clock(each.end, '.')}\n" + "\n".join(each.lines).translate(escape) + "\n\n"
        for each in captions(transcript)
    )


def ctm(name: str, transcript: Any) -> str:
    """NIST's time-marked conversation: a line per word with recording, channel, start, duration, word, confidence."""
    recording = re.sub(r"\s", "_", name) or "audio"
    return "".join(
        f"{recording} 1 {word.start:.3f} {word.end - word.start:.3f} {word.text} {word.confidence:.4f}\n"
        for word in transcript.words
    )


def clock(seconds: float, point: str) -> str:
    """A time as hours:minutes:seconds and milliseconds."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


FORMATS: dict[str, Callable[[str, Any], str]] = {
    "text": text,
    "jsonl": json_line,
    "srt": srt,
    "vtt": vtt,
    "ctm": ctm,
}
