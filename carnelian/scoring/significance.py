"""Whether one of two recognizers is really better: the matched-pairs test on segments (Gillick and Cox, 1989)."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from carnelian.scoring.wer import SCLITE, align_words

BETWEEN = 2
"""Words that both have right between two segments, so that errors of one do not bring on those of the next."""


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """The test's outcome; `mean` is of first minus second errors per segment, `probability` that of a difference
    this large at random (two-sided), `z` the statistic that beyond 1.96 says "different" at 95 %."""

    segments: int
    mean: float
    deviation: float
    z: float
    probability: float


def matched_pairs(references: Iterable[str], first: Iterable[str], second: Iterable[str]) -> MatchedPairs:
    """Compares the hypotheses of two recognizers for the same references, as NIST's `sc_stats -t mapsswe` does."""
    differences = [
        ours - theirs
        for reference, one, other in zip(references, first, second, strict=True)
        if one != reference or other != reference  # for speed: without errors there is no segment
        for ours, theirs in segments(reference.split(), one.split(), other.split())
    ]
    count = len(differences)
    mean = sum(differences) / count if count else 0.0
    variance = sum((each - mean) ** 2 for each in differences) / (count - 1) if count > 1 else 0.0
    if variance:
        z = mean / math.sqrt(variance / count)
    else:
        z = math.copysign(math.inf, mean) if mean and count > 1 else 0.0
    return MatchedPairs(count, mean, math.sqrt(variance), z, math.erfc(abs(z) / math.sqrt(2)))


def segments(reference: Sequence[str], first: Sequence[str], second: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The errors of both in each segment of a sentence that has some; between segments lie words that both have right."""
    ours, theirs, right = 0, 0, 0
    positions = zip(errors_at_positions(reference, first), errors_at_positions(reference, second))
    for position, (one, other) in enumerate(positions):
        if one or other:
            if right >= BETWEEN and (ours or theirs):
                yield ours, theirs
                ours = theirs = 0
            ours, theirs, right = ours + one, theirs + other, 0
        else:
            right += position % 2
    if ours or theirs:
        yield ours, theirs


def errors_at_positions(reference: Sequence[str], hypothesis: Sequence[str]) -> list[int]:
    """Errors before the first word, at it, between it and the second, at that, ...: 2 R + 1 counts."""
    errors, position = [0] * (2 * len(reference) + 1), 0
    for edit in align_words(reference, hypothesis, SCLITE):
        if edit.kind == "insertion":
            errors[position] += 1
        else:
            errors[position + 1] += edit.kind != "hit"
            position += 2
    return errors
