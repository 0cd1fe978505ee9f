"""What a recognizer says: hypotheses in output steps, transcripts in seconds."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Span(NamedTuple):
    """A word of a hypothesis: output steps `first` to `last` (both inside the word), confidence 0 to 1."""

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
    """The best hypothesis as text and timed words, with all hypotheses, best first."""

    text: str
    words: tuple[Word, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = field(default=(), repr=False)
    duration: float = 0.0


def transcript(hypotheses: list[Hypothesis], *, seconds_per_step: float, duration: float) -> Transcript:
    """Hypotheses of one utterance as a transcript; `seconds_per_step`: of audio that one output step covers."""
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
    return Transcript(best.text, words, tuple(hypotheses), duration)
