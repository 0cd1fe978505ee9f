"""Word and character errors: the alignment of two texts with the fewest edits, and its counts."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from itertools import count as count_from_zero
from typing import NamedTuple, TypeAlias

import numpy as np

from carnelian.errors import ScoringError
from carnelian.jit import compiled

HIT, SUBSTITUTION, DELETION, INSERTION = range(4)
EDIT_KINDS = ("hit", "substitution", "deletion", "insertion")
LETTERS = bytes.maketrans(bytes(range(4)), b"hsdi")  # of the kinds, in this order
KIND_OF_LETTER = dict(zip("hsdi", EDIT_KINDS))
ANY_STEP, ERROR_STEP = re.compile("."), re.compile("[^h]")
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


def errors_of_edits(edits: Iterable[Edit]) -> Errors:
    """The counts of an alignment."""
    kinds = Counter(edit.kind for edit in edits)
    return Errors(kinds["hit"], kinds["substitution"], kinds["deletion"], kinds["insertion"])


def count_errors(reference: str, hypothesis: str, costs: tuple[int, int, int] = FEWEST) -> Errors:
    """The word errors of a hypothesis; words are separated by white space."""
    return count(reference.split(), hypothesis.split(), costs)


def count_character_errors(reference: str, hypothesis: str) -> Errors:
    """The character errors of a hypothesis; a space between words is a character."""
    return count(" ".join(reference.split()), " ".join(hypothesis.split()))


def count(reference: Sequence[str], hypothesis: Sequence[str], costs: tuple[int, int, int] = FEWEST) -> Errors:
    """The errors between two sequences of words or characters."""
    if reference == hypothesis:
        return Errors(hits=len(reference))
    one, other = numbered(reference, hypothesis)
    count_pair = counts_of_pair.for_work(len(reference) * len(hypothesis))
    return Errors(*map(int, count_pair(one, other, costs)))


def wer(references: str | Sequence[str], hypotheses: str | Sequence[str]) -> float:
    """The word error rate of a text, or of all texts of a list together; 0.05 is 5 %.

    Texts are compared as they stand: normalise both sides first where they are written in different ways. Infinite
    where there are words in the hypotheses and none in the references.
    """
    return rate_of(references, hypotheses, words_of_texts)


def cer(references: str | Sequence[str], hypotheses: str | Sequence[str]) -> float:
    """The character error rate, likewise; a space between words is a character."""
    return rate_of(references, hypotheses, characters_of_texts)


def rate_of(references: str | Sequence[str], hypotheses: str | Sequence[str], split: "Split") -> float:
    """The error rate of texts in the units into which `split` divides them."""
    if isinstance(references, str) != isinstance(hypotheses, str):
        raise ScoringError("one side is a text and the other a list of texts. Give two texts, or two lists")
    if isinstance(references, str):
        references, hypotheses = [references], [str(hypotheses)]
    return Errors(*map(int, counts_of_texts(references, hypotheses, split).sum(axis=0))).rate


def errors_of_texts(
    references: Sequence[str], hypotheses: Sequence[str], costs: tuple[int, int, int] = FEWEST
) -> list[Errors]:
    """The word errors of each of many texts; much faster than one by one."""
    return [Errors(*counts) for counts in counts_of_texts(references, hypotheses, words_of_texts, costs).tolist()]


def errors_by_group(groups: Iterable[str], errors: Iterable[Errors]) -> dict[str, Errors]:
    """The errors of each group (speaker, subset) together, in the order of their first texts."""
    totals: dict[str, Errors] = {}
    for group, each in zip(groups, errors, strict=True):
        totals[group] = totals.get(group, Errors()) + each
    return totals


def character_errors_of_texts(references: Sequence[str], hypotheses: Sequence[str]) -> Errors:
    """The character errors of many texts together."""
    return Errors(*map(int, counts_of_texts(references, hypotheses, characters_of_texts).sum(axis=0)))


def counts_of_texts(
    references: Sequence[str], hypotheses: Sequence[str], split: "Split", costs: tuple[int, int, int] = FEWEST
) -> np.ndarray:
    """Hits, substitutions, deletions and insertions (N, 4) int64 of each pair of texts.

    All pairs are counted in one compiled call: benchmarks/scoring.py.
    """
    references, hypotheses = list(references), list(hypotheses)
    if len(references) != len(hypotheses):
        raise ScoringError(f"{len(references)} references beside {len(hypotheses)} hypotheses. Give one for each")
    (units, offsets), (others, other_offsets) = split(references, hypotheses)
    counts = np.empty((len(references), 4), dtype=np.int64)
    count_pair = counts_of_pair.for_work(len(units) * len(others))
    if count_pair is not counts_of_pair.function:
        counts_of_pairs(units, offsets, others, other_offsets, costs, counts)
        return counts
    for n in range(len(counts)):  # few words, or no Numba
        one, other = units[offsets[n] : offsets[n + 1]], others[other_offsets[n] : other_offsets[n + 1]]
        counts[n] = count_pair(one, other, costs)
    return counts


BETWEEN_TEXTS = "\0|\0"
Units: TypeAlias = "tuple[np.ndarray, np.ndarray]"
"""The units of many texts in a row, as numbers (M,), and where each text begins and the last ends (N + 1,) int64."""
Split: TypeAlias = "Callable[[Sequence[str], Sequence[str]], tuple[Units, Units]]"


def words_of_texts(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[Units, Units]:
    """The words of both sides as numbers, equal words as equal ones; words are separated by white space."""
    numbers: defaultdict[str, int] = defaultdict(count_from_zero().__next__)
    mark = numbers[BETWEEN_TEXTS]
    sides = []
    for texts in (references, hypotheses):
        words = f" {BETWEEN_TEXTS} ".join(texts).split()  # once for all texts: six times as fast as text by text
        units = np.fromiter(map(numbers.__getitem__, words), np.int32, len(words))
        marks = np.flatnonzero(units == mark)
        if len(marks) != max(len(texts) - 1, 0):
            raise ScoringError(f"a text has {BETWEEN_TEXTS!r} as a word. Take it out")
        offsets = np.concatenate([[0], marks - np.arange(len(marks)), [len(units) - len(marks)]])
        sides.append((units[units != mark], offsets[: len(texts) + 1].astype(np.int64)))
    return sides[0], sides[1]


def characters_of_texts(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[Units, Units]:
    """The characters of both sides as code points; white space of any length is one space."""
    sides = []
    for texts in (references, hypotheses):
        plain = [" ".join(text.split()) for text in texts]
        offsets = np.fromiter(accumulate(map(len, plain), initial=0), np.int64, len(plain) + 1)
        letters = "".join(plain).encode("utf-32-le", "surrogatepass")
        sides.append((np.frombuffer(letters, dtype=np.int32), offsets))
    return sides[0], sides[1]


def align_words(
    reference: Sequence[str], hypothesis: Sequence[str], costs: tuple[int, int, int] = FEWEST
) -> list[Edit]:
    """The cheapest edits that turn the reference into the hypothesis, in order."""
    align = alignment.for_work(len(reference) * len(hypothesis))
    steps = align(numbered(reference, hypothesis), costs).tobytes().translate(LETTERS).decode()
    return edits_of_steps(steps, reference, hypothesis)


def steps_of_texts(
    references: Sequence[str], hypotheses: Sequence[str], costs: tuple[int, int, int] = FEWEST
) -> list[str]:
    """The cheapest alignment of each of many texts as a string of h(it), s(ubstitution), d(eletion) and i(nsertion)."""
    (units, offsets), (others, other_offsets) = words_of_texts(references, hypotheses)
    align = alignment.for_work(len(units) * len(others))
    found = []
    for n in range(len(references)):
        one, other = units[offsets[n] : offsets[n + 1]], others[other_offsets[n] : other_offsets[n + 1]]
        if references[n] == hypotheses[n]:
            found.append("h" * len(one))
        else:
            found.append(align((one, other), costs).tobytes().translate(LETTERS).decode())
    return found


def edits_of_steps(steps: str, reference: Sequence[str], hypothesis: Sequence[str], hits: bool = True) -> list[Edit]:
    """The edits that such a string stands for; without `hits` only the errors."""
    edits, inserted, deleted = [], 0, 0
    for match in (ANY_STEP if hits else ERROR_STEP).finditer(steps):
        step, at = match[0], match.start()
        spoken = reference[at - inserted] if step != "i" else None
        found = hypothesis[at - deleted] if step != "d" else None
        edits.append(Edit(KIND_OF_LETTER[step], spoken, found))
        inserted, deleted = inserted + (step == "i"), deleted + (step == "d")
    return edits


def numbered(*sequences: Sequence[str]) -> tuple[np.ndarray, ...]:
    """The sequences with every distinct word as one number."""
    numbers: dict[str, int] = {}
    return tuple(
        np.array([numbers.setdefault(word, len(numbers)) for word in sequence], dtype=np.int32)
        for sequence in sequences
    )


@compiled(nogil=True)
def counts_of_pair(reference, hypothesis, costs):
    """Hits, substitutions, deletions and insertions of the alignment that `alignment` gives.

    The table of costs is filled within `band` words of the diagonals through both ends, and again, twice as wide, where
    a path outside of them could be as cheap: so it is exact, and fast where there are few errors. Memory grows with the
    hypothesis only.
    """
    substitution, deletion, insertion = costs
    R, H = len(reference), len(hypothesis)
    longer = R - H  # deletions less insertions
    apart = longer * deletion if longer > 0 else -longer * insertion
    far = 1 << 40
    band = 4
    while True:
        before, after = band + max(0, longer), band + max(0, -longer)  # words behind and ahead of the diagonal
        cost = np.full(H + 1, far, dtype=np.int64)
        substitutions = np.zeros(H + 1, dtype=np.int64)
        for h in range(min(H, after) + 1):
            cost[h] = h * insertion
        for r in range(1, R + 1):
            first, last = max(1, r - before), min(H, r + after)
            diagonal, replaced = cost[first - 1], substitutions[first - 1]
            left, left_replaced = r * deletion if first == 1 and r <= before else far, 0
            cost[first - 1], substitutions[first - 1] = left, left_replaced
            word = reference[r - 1]
            for h in range(first, last + 1):
                unlike = word != hypothesis[h - 1]
                best, changed = diagonal + (substitution if unlike else 0), replaced + unlike
                diagonal, replaced = cost[h], substitutions[h]
                if left + insertion < best:
                    best, changed = left + insertion, left_replaced
                if diagonal + deletion < best:
                    best, changed = diagonal + deletion, replaced
                cost[h], substitutions[h] = best, changed
                left, left_replaced = best, changed
        if cost[H] < apart + (band + 1) * (deletion + insertion) or band >= max(R, H):
            break
        band *= 2
    replaced = substitutions[H]
    inserted = (cost[H] - substitution * replaced - deletion * longer) // (deletion + insertion)
    deleted = inserted + longer
    return R - replaced - deleted, replaced, deleted, inserted


compiled_pair = counts_of_pair  # under this name compiled code calls it: there, jit puts the compiled function


@compiled(nogil=True)
def counts_of_pairs(units, offsets, others, other_offsets, costs, counts):
    """Fills counts (N, 4) with the hits, substitutions, deletions and insertions of many pairs of texts."""
    for n in range(len(counts)):
        reference = units[offsets[n] : offsets[n + 1]]
        hypothesis = others[other_offsets[n] : other_offsets[n + 1]]
        counts[n, 0], counts[n, 1], counts[n, 2], counts[n, 3] = compiled_pair(reference, hypothesis, costs)


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
