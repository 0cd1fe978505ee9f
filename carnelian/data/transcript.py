"""The results of a recognizer: hypotheses in output steps, transcripts in seconds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from typing import NamedTuple

from carnelian.data.text.captions import ctm, json_line, srt, vtt


class Span(NamedTuple):
    """A word of a hypothesis: its first and last output step, both inside the word, and its confidence from 0 to 1."""

    text: str
    first: int
    last: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Proposed words; scores are natural logarithms, `score` the one the search ranks by."""

    text: str
    score: float
    acoustic_score: float
    language_score: float = 0.0
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Word:
    """A word in time: seconds from the start of the utterance, confidence 0 to 1."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """The best hypothesis as text and timed words, with all hypotheses, best first.

    silences: (start, end) in seconds of where nobody speaks; None where that was not measured.
    """

    text: str
    words: tuple[Word, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = field(default=(), repr=False)
    duration: float = 0.0
    silences: tuple[tuple[float, float], ...] | None = field(default=None, repr=False)

    def to_srt(self) -> str:
        """Returns SubRip subtitles."""
        return srt("", self)

    def to_vtt(self) -> str:
        """Returns WebVTT subtitles."""
        return vtt("", self)

    def to_json(self, name: str = "audio") -> str:
        """Returns one line of JSON: the recording's name, its duration, the text, and the words with times and confidence."""
        return json_line(name, self)

    def to_ctm(self, name: str = "audio") -> str:
        """Returns a line of NIST's CTM for each word."""
        return ctm(name, self)

    def shifted(self, seconds: float) -> "Transcript":
        """Returns the transcript with its times later by `seconds`: in the time of the recording that holds the segment."""
        if not seconds:
            return self
        moved = tuple(
            replace(word, start=round(word.start + seconds, 3), end=round(word.end + seconds, 3)) for word in self.words
        )
        silences = self.silences and tuple((start + seconds, end + seconds) for start, end in self.silences)
        return replace(self, words=moved, silences=silences)

    def with_text(self, text: str) -> "Transcript":
        """Returns the transcript with a corrected text: its words keep their times where they stayed. `hypotheses` are as decoded."""
        if text == self.text:
            return self
        return replace(self, text=text, words=tuple(corrected(self.words, text.split(), self.duration)))


def corrected(before: Sequence[Word], texts: Sequence[str], duration: float) -> Iterator[Word]:
    """Yields the words of a corrected text: those that stayed as they were, others with the times of what they replace.

    Of a replacement the confidence is the mean of the replaced words', of an insertion 0: nothing was recognized there.
    """
    matcher = SequenceMatcher(None, [word.text for word in before], texts, autojunk=False)
    for kind, first, last, start, stop in matcher.get_opcodes():
        replaced = before[first:last]
        if kind == "equal":
            yield from replaced
            continue
        begin = replaced[0].start if replaced else before[first - 1].end if first else 0.0
        end = replaced[-1].end if replaced else before[last].start if last < len(before) else max(begin, duration)
        confidence = sum(word.confidence for word in replaced) / max(1, len(replaced))
        share = (end - begin) / max(1, stop - start)
        for index, text in enumerate(texts[start:stop]):
            yield Word(text, round(begin + index * share, 3), round(begin + (index + 1) * share, 3), confidence)


def merge_segments(segments: Sequence[Transcript]) -> Transcript:
    """Returns the transcript of a whole recording from those of its segments, whose times are already those of the recording."""
    if len(segments) == 1:
        return segments[0]
    words = sorted((word for segment in segments for word in segment.words), key=lambda word: word.start)
    text = " ".join(segment.text for segment in segments if segment.text)
    duration = max((segment.duration for segment in segments), default=0.0)
    return Transcript(text, tuple(words), (), duration, merge_silences(segments))


def merge_silences(segments: Sequence[Transcript]) -> tuple[tuple[float, float], ...] | None:
    """The silences of segments whose times are already those of the recording, in order; None where one was not measured."""
    if any(segment.silences is None for segment in segments):
        return None
    return tuple(sorted(silence for segment in segments for silence in segment.silences or ()))


def transcript(
    hypotheses: list[Hypothesis],
    *,
    seconds_per_step: float,
    duration: float,
    silences: tuple[tuple[float, float], ...] | None = None,
) -> Transcript:
    """Returns the transcript of one utterance from its hypotheses, best first; `seconds_per_step`: of audio, for an output step."""
    best = hypotheses[0]
    words = tuple(
        Word(
            span.text,
            round(span.first * seconds_per_step, 3),
            round(min((span.last + 1) * seconds_per_step, max(duration, (span.first + 1) * seconds_per_step)), 3),
            span.confidence,
        )
        for span in best.spans
    )
    return Transcript(best.text, words, tuple(hypotheses), duration, silences)
