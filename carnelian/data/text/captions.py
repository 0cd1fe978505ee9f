"""Transcripts as text, JSON lines, SubRip and WebVTT subtitles, and NIST's CTM.

Each writer takes the recording's name and its transcript (`carnelian.data.transcript`), or those of its channels and their
numbers, and returns text that ends with a newline; text, JSON lines and CTM of several recordings may follow each other in one file.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise, zip_longest
from string import ascii_uppercase
from textwrap import wrap
from typing import Any

WIDTH, LINES = 42, 2  # of a caption that is easily read, in characters and lines
LONGEST, PAUSE = 6.0, 0.8  # seconds: of a caption at most, and of the pause at which the next caption begins
SHORT_PAUSE = 0.2  # seconds: of a pause at which words that fit no caption are rather cut than where it is full
LOUD_WEIGHT = (
    0.5  # of what lies between two words and is not silent: between the letters of a long vowel there are blanks too
)


@dataclass(frozen=True, slots=True)
class Caption:
    """Lines to be shown from `start` to `end` (seconds), and the words that they hold."""

    start: float
    end: float
    lines: tuple[str, ...]
    words: tuple[Any, ...] = ()


def captions(transcript: Any) -> Iterator[Caption]:
    """A transcript's words parted at pauses and where a caption is full; without word times, the whole as one."""
    if not transcript.words:
        if transcript.text:
            yield Caption(0.0, transcript.duration, tuple(wrap(transcript.text, WIDTH)))
        return
    waits = pauses(transcript)
    for first, last in runs_of_words(waits, PAUSE):
        words, own = transcript.words[first:last], waits[first:last]
        if any(len(word.text) > WIDTH for word in words):
            words = [part for word in words for part in parts_of_word(word)]
            own = [0.0] * len(words)
        yield from filled_captions(words, own)


def pauses(transcript: Any) -> list[float]:
    """The seconds of silence before each word, 0 before the first; where silences were not measured, all between two words."""
    found, silences, at = [0.0], transcript.silences, 0
    for before, word in pairwise(transcript.words):
        gap = silent = max(0.0, word.start - before.end)
        if silences is not None:
            while at < len(silences) and silences[at][1] <= before.end:
                at += 1
            silent, next_one = 0.0, at
            while next_one < len(silences) and silences[next_one][0] < word.start:
                start, end = silences[next_one]
                silent += max(0.0, min(end, word.start) - max(start, before.end))
                next_one += 1
        found.append(silent + LOUD_WEIGHT * (gap - silent))
    return found


def runs_of_words(waits: Sequence[float], pause: float) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of the words that no pause of some length parts, from the pauses before each word."""
    bounds = [index for index, wait in enumerate(waits) if not index or wait >= pause]
    yield from pairwise([*bounds, len(waits)])


def parts_of_word(word: Any) -> Iterator[Any]:
    """A word, or where it is longer than a line, its parts, with shares of its time: an alphabet without a space writes such words."""
    parts = [word.text[first : first + WIDTH] for first in range(0, len(word.text), WIDTH)]
    share = (word.end - word.start) / len(parts)
    for index, text in enumerate(parts):
        start = word.start + index * share
        yield replace(word, text=text, start=round(start, 3), end=round(start + share, 3))


def filled_captions(words: Sequence[Any], waits: Sequence[float]) -> Iterator[Caption]:
    """Captions as full as can be, or cut at the longest pause in their second half; `waits`: the pauses before the words."""
    first = 0
    while first < len(words):
        last = first + 1
        while last < len(words) and fits_on_lines(words[first : last + 1]):
            last += 1
        if last < len(words):
            longest = max(range(first + (last - first) // 2 + 1, last + 1), key=lambda index: (waits[index], index))
            last = longest if waits[longest] >= SHORT_PAUSE else last
        shown = words[first:last]
        lines = tuple(wrap(" ".join(word.text for word in shown), WIDTH))
        yield Caption(shown[0].start, shown[-1].end, lines, tuple(shown))
        first = last


def fits_on_lines(words: Sequence[Any]) -> bool:
    """Whether words fit into a caption, in room and time."""
    lines = wrap(" ".join(word.text for word in words), WIDTH)
    return len(lines) <= LINES and words[-1].end - words[0].start <= LONGEST


def text(name: str, *sides: Any, channels: Sequence[int] = (), paragraph_pause: float = 0.0) -> str:
    """The words as a line of text, or as a line for each paragraph; of separate channels "A: hello".

    paragraph_pause: the seconds without speech at which a paragraph begins; 0: all is one line.
    """
    labels = [f"{ascii_uppercase[channel]}: " for channel in channels] if len(sides) > 1 else [""]
    return "".join(
        f"{label}{line}\n" for label, side in zip(labels, sides) for line in paragraphs(side, paragraph_pause)
    )


def paragraphs(transcript: Any, pause: float) -> list[str]:
    """A transcript's text, parted at the pauses of some seconds; as a whole for 0."""
    if not pause or not transcript.words:
        return [transcript.text]
    parted = runs_of_words(pauses(transcript), pause)
    return [" ".join(word.text for word in transcript.words[first:last]) for first, last in parted]


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
