"""Word and character errors: the alignment of two texts with the fewest edits, and its counts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from carnelian.errors import CarnelianError
from carnelian.jit import compiled

HIT, SUBSTITUTION, DELETION, INSERTION = range(4)
EDIT_KINDS = ("hit", "substitution", "deletion", "insertion")
FEWEST = (1, 1, 1)  # costs of a substitution, a deletion and an insertion
SCLITE = (4, 3, 3)  # those of NIST's sclite, which prefers a deletion and an insertion to a poor substitution


@dataclass(frozen=True, slots=True)
class Errors:
    """Counts of an alignment; they add up with `+` over utterances."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def total(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_words(self) -> int:
        """Words (or characters) of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per reference word, 0 to any height; infinite where words were found in silence."""
        return self.total / self.reference_words if self.reference_words else math.inf if self.total else 0.0

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


class Edit(NamedTuple):
    """One step of an alignment; `reference` is None for an insertion, `hypothesis` for a deletion."""

    kind: str
    reference: str | None
    hypothesis: str | None


def count_errors(reference: str, hypothesis: str, costs: tuple[int, int, int] = FEWEST) -> Errors:
    """The word errors of a hypothesis; words are what white space parts."""
    return count(reference.split(), hypothesis.split(), costs)


def wer(references: str | Sequence[str], hypotheses: str | Sequence[str]) -> float:
    """Returns the word error rate of one hypothesis, or of a list over all its words: 0.05 is 5 %. Words are separated by white space.

    The texts are compared as they are, without normalisation. Raises CarnelianError if the lists differ in length.
    """
    if isinstance(references, str) != isinstance(hypotheses, str):
        raise CarnelianError("wer: one argument is a text and the other a list. Give two texts, or two lists of texts")
    if isinstance(references, str) and isinstance(hypotheses, str):
        references, hypotheses = [references], [hypotheses]
    if len(references) != len(hypotheses):
        raise CarnelianError(f"wer: {len(references)} references and {len(hypotheses)} hypotheses. Give one for each")
    return sum((count_errors(one, other) for one, other in zip(references, hypotheses)), Errors()).rate


def count_character_errors(reference: str, hypothesis: str) -> Errors:
    """The character errors of a hypothesis; a space between words is a character."""
    return count(" ".join(reference.split()), " ".join(hypothesis.split()))


def count(reference: Sequence[str], hypothesis: Sequence[str], costs: tuple[int, int, int] = FEWEST) -> Errors:
    """The errors between two sequences of words or characters."""
    if reference == hypothesis:
        return Errors(hits=len(reference))
    cost, substitutions = distance.for_work(len(reference) * len(hypothesis))(numbered(reference, hypothesis), costs)
    longer = len(reference) - len(hypothesis)  # deletions less insertions
    insertions = (cost - costs[0] * substitutions - costs[1] * longer) // (costs[1] + costs[2])
    deletions = insertions + longer
    return Errors(len(reference) - substitutions - deletions, substitutions, deletions, insertions)


def align_words(
    reference: Sequence[str], hypothesis: Sequence[str], costs: tuple[int, int, int] = FEWEST
) -> list[Edit]:
    """The cheapest edits that turn the reference into the hypothesis, in order."""
    edits, r, h = [], 0, 0
    for step in alignment.for_work(len(reference) * len(hypothesis))(numbered(reference, hypothesis), costs):
        spoken = reference[r] if step != INSERTION else None
        found = hypothesis[h] if step != DELETION else None
        edits.append(Edit(EDIT_KINDS[step], spoken, found))
        r, h = r + (step != INSERTION), h + (step != DELETION)
    return edits


def numbered(*sequences: Sequence[str]) -> tuple[np.ndarray, ...]:
    """The sequences with every distinct word as one number."""
    numbers: dict[str, int] = {}
    return tuple(
        np.array([numbers.setdefault(word, len(numbers)) for word in sequence], dtype=np.int32)
        for sequence in sequences
    )


@compiled()
def distance(words, costs):
    """The cost of the alignment that `alignment` gives, and its substitutions; memory grows with the hypothesis only."""
    reference, hypothesis = words
    substitution, deletion, insertion = costs
    cost = np.arange(len(hypothesis) + 1) * insertion
    substitutions = np.zeros(len(hypothesis) + 1, dtype=np.int64)
    for r in range(len(reference)):
        diagonal, replaced = cost[0], np.int64(0)
        cost[0] = (r + 1) * deletion
        for h in range(1, len(hypothesis) + 1):
            unlike = reference[r] != hypothesis[h - 1]
            best, count = diagonal + (substitution if unlike else 0), replaced + unlike
            diagonal, replaced = cost[h], substitutions[h]
            if cost[h - 1] + insertion < best:
                best, count = cost[h - 1] + insertion, substitutions[h - 1]
            if diagonal + deletion < best:
                best, count = diagonal + deletion, replaced
            cost[h], substitutions[h] = best, count
    return cost[-1], substitutions[-1]


@compiled()
def alignment(words, costs):
    """The steps (HIT, SUBSTITUTION, ...) of the cheapest alignment, uint8; Wagner and Fischer's dynamic programme.

    Among equally cheap ones it takes, from the end backwards, a hit or substitution before an insertion before
    a deletion, as sclite does. One byte is held per pair of words.
    """
    reference, hypothesis = words
    substitution, deletion, insertion = costs
    R, H = len(reference), len(hypothesis)
    steps = np.empty((R + 1, H + 1), dtype=np.uint8)
    cost = np.arange(H + 1) * insertion
    steps[0] = INSERTION
    for r in range(1, R + 1):
        diagonal, cost[0] = cost[0], r * deletion
        steps[r, 0] = DELETION
        for h in range(1, H + 1):
            same = reference[r - 1] == hypothesis[h - 1]
            best, step = diagonal + (0 if same else substitution), HIT if same else SUBSTITUTION
            diagonal = cost[h]
            if cost[h - 1] + insertion < best:
                best, step = cost[h - 1] + insertion, INSERTION
            if diagonal + deletion < best:
                best, step = diagonal + deletion, DELETION
            cost[h], steps[r, h] = best, step
    path = np.empty(R + H, dtype=np.uint8)
    length, r, h = 0, R, H
    while r or h:
        step = steps[r, h]
        path[length], length = step, length + 1
        r, h = r - (step != INSERTION), h - (step != DELETION)
    return path[:length][::-1]
