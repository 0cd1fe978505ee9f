"""Modified Kneser-Ney estimation with interpolation (Chen & Goodman 1998), as KenLM's lmplz defines it (Heafield 2013)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from carnelian.errors import LanguageModelError
from carnelian.jit import cached
from carnelian.ngram.counts import Counts, Level, Scratch, count_ngrams, silent
from carnelian.ngram.model import NGram, NGramBlock, NGramBuilder
from carnelian.ngram.words import START, UNKNOWN

FALLBACK = (0.5, 1.0, 1.5)
LARGEST_ORDER = 20
ROWS_AT_ONCE = 1 << 18


@dataclass
class Estimate:
    """An estimated model by levels; probabilities and back-offs are plain, kept tells which n-grams were not pruned.

    discounts: per order those of counts 1, 2 and 3 or more; fallback: the orders where they could not be computed.
    """

    counts: Counts
    probabilities: list[np.ndarray]
    backoffs: list[np.ndarray]
    kept: list[np.ndarray]
    discounts: list[tuple[float, ...]]
    fallback: list[int]

    @property
    def sizes(self) -> list[int]:
        """How many n-grams of each length the model has."""
        return [int(np.count_nonzero(kept)) for kept in self.kept]

    def blocks(self, order: int) -> Iterator[NGramBlock]:
        """The n-grams of one length that are kept, sorted by context, a bounded number at a time."""
        levels = self.counts.levels[:order]
        for low in range(0, len(levels[-1]), ROWS_AT_ONCE):
            high = min(low + ROWS_AT_ONCE, len(levels[-1]))
            kept = self.kept[order - 1][low:high]
            if not kept.any():
                continue
            numbers = np.flatnonzero(kept) + low
            rows = np.empty((len(numbers), order), np.int32)
            for column in range(order - 1, -1, -1):
                rows[:, column] = levels[column].word[numbers]
                if column:
                    _parents(levels[column].first, numbers)
            probabilities = np.log(np.minimum(self.probabilities[order - 1][low:high][kept], 1))
            last = order > len(self.backoffs)
            backoffs = np.zeros_like(probabilities) if last else np.log(self.backoffs[order - 1][low:high][kept])
            yield NGramBlock(rows, probabilities, backoffs)

    def model(self, advance: Callable[..., None] = silent) -> NGram:
        """The model for the search; `advance` is called with the number of n-grams added."""
        sizes = self.sizes
        unigrams = NGramBlock(*(np.concatenate(part) for part in zip(*self.blocks(1))))
        words = self.counts.text.tobytes().decode().split("\n")
        kept = unigrams.words[:, 0]
        renumber = np.full(len(words), -1, np.int32)
        renumber[kept] = np.arange(len(kept))
        builder = NGramBuilder(
            [words[word] for word in kept], unigrams.probabilities, unigrams.backoffs, sum(sizes[1:])
        )
        for order in range(2, len(sizes) + 1):
            for block in self.blocks(order):
                builder.add(renumber[block.words], block.probabilities, block.backoffs)
                advance(len(block.words))
        return builder.finish()


@cached
def _parents(first, numbers):
    """Replace the rising numbers of n-grams by those of their contexts."""
    parent = np.searchsorted(first, numbers[0], side="right") - 1
    for index in range(numbers.shape[0]):
        while first[parent + 1] <= numbers[index]:
            parent += 1
        numbers[index] = parent


@cached
def _add_extensions(suffix, low, high, adjusted):
    """Count the different words before each of the n-grams low to high; suffix: of the n-grams one word longer."""
    for index in range(suffix.shape[0]):
        if low <= suffix[index] < high:
            adjusted[suffix[index]] += 1


@cached
def _tally(adjusted):
    """How many n-grams have the adjusted counts 0, 1, 2, 3 and 4."""
    tally = np.zeros(5, np.int64)
    for index in range(adjusted.shape[0]):
        if adjusted[index] < 5:
            tally[adjusted[index]] += 1
    return tally


@cached
def _keep(first, word, count, limit, allowed, above, inside, kept):
    """Which n-grams are kept: those of more than `limit`, whose words are all allowed (`inside`; `above`: contexts)."""
    for context in range(first.shape[0] - 1):
        for index in range(first[context], first[context + 1]):
            inside[index] = above[context] and allowed[word[index]]
            kept[index] = inside[index] and count[index] > limit


@cached
def _discount(first, adjusted, kept, discounts, probabilities, backoffs):
    """Discounted probabilities of each context's n-grams, and the weight that its shorter context gets.

    What pruning takes away goes to that weight as well. discounts: (4,), of the counts 0, 1, 2, 3 and more.
    """
    for context in range(first.shape[0] - 1):
        total, spared = 0, 0.0
        for index in range(first[context], first[context + 1]):
            total += adjusted[index]
            spared += discounts[min(adjusted[index], 3)] if kept[index] else adjusted[index]
        backoffs[context] = spared / total if total else 1.0
        for index in range(first[context], first[context + 1]):
            probabilities[index] = (adjusted[index] - discounts[min(adjusted[index], 3)]) / total if total else 0.0


@cached
def _interpolate(first, suffix, backoffs, shorter, low, high, probabilities):
    """Add the shorter context's probabilities, for suffixes low to high."""
    for context in range(first.shape[0] - 1):
        weight = backoffs[context]
        for index in range(first[context], first[context + 1]):
            if low <= suffix[index] < high:
                probabilities[index] += weight * shorter[suffix[index]]


def closed_form(tally: np.ndarray) -> tuple[float, ...] | None:
    """The discounts of counts 1, 2, 3+ (Chen & Goodman, equation 26), or None where they are undefined or unsound."""
    if not tally[1:4].all():
        return None
    unit = tally[1] / (tally[1] + 2 * tally[2])
    found = tuple(count - (count + 1) * unit * tally[count + 1] / tally[count] for count in (1, 2, 3))
    return found if all(0 <= amount <= count for count, amount in enumerate(found, 1)) else None


def _adjusted(levels: list[Level], order: int, scratch: Scratch) -> np.ndarray:
    """Adjusted counts: of different words before an n-gram; plain counts for the longest and for those with <s>."""
    level = levels[order - 1]
    if order == len(levels):
        adjusted = level.count.copy() if order == 1 else level.count
    else:
        adjusted = scratch.array(len(level), np.int32)
        adjusted[:] = 0
        for low, high in scratch.windows(len(level)):
            _add_extensions(levels[order].suffix, low, high, adjusted)
        adjusted[slice(*level.start)] = level.count[slice(*level.start)]
    if order == 1:
        adjusted[[UNKNOWN, START]] = 0
    return adjusted


def _discounts(level: Level, adjusted: np.ndarray, longest: bool) -> tuple[float, ...] | None:
    """The discounts of one level, or None."""
    tally = _tally(adjusted)
    if not longest and level.last >= 0:
        # lmplz takes the last n-gram of each shorter length at its plain count; on little text that shows
        for count, change in ((adjusted[level.last], -1), (level.count[level.last], 1)):
            if count < len(tally):
                tally[count] += change
    return closed_form(tally)


def thresholds(prune: Sequence[int], order: int) -> list[int]:
    """Per order the count at or below which n-grams are pruned; the last one given is that of the orders after it."""
    given = list(prune) or [0]
    if len(given) > order or given != sorted(given) or given[0] < 0:
        raise LanguageModelError(
            f"--prune {' '.join(map(str, given))}: expected at most {order} counts that do not fall, such as 0 0 1"
        )
    return given + given[-1:] * (order - len(given))


def estimate(
    texts: list[str | Path],
    order: int,
    *,
    prune: Sequence[int] = (),
    vocabulary: list[str] | None = None,
    memory: int = 4 << 30,
    directory: str | Path | None = None,
    advance: Callable[..., None] = silent,
) -> Estimate:
    """A model estimated from texts (plain or gzip, one sentence a line, "-" for standard input).

    prune: n-grams of these counts or less are left out, per order, as lmplz's `--prune 0 0 1`.
    vocabulary: n-grams with other words are left out.
    memory: bytes for the long arrays, which go to temporary files in `directory` when the text needs more.
    Where the discounts are undefined (little or artificial text), 0.5, 1 and 1.5 stand in, as lmplz's fallback.
    """
    if not 1 <= order <= LARGEST_ORDER:
        raise LanguageModelError(f"--order {order}: expected 1 to {LARGEST_ORDER}")
    limits = thresholds(prune, order)
    scratch = Scratch(memory, directory)
    counts = count_ngrams(texts, order, scratch, advance)
    result = Estimate(counts, [], [], [], [], [])
    allowed = np.full(len(counts.levels[0]), vocabulary is None)
    allowed[counts.vocabulary.numbers_of(vocabulary or [])] = True
    allowed[:3] = True
    inside = np.ones(1, bool)
    shorter = np.ones(1, np.float32)
    for index, level in enumerate(counts.levels):
        adjusted = _adjusted(counts.levels, index + 1, scratch)
        kept, above = scratch.array(len(level), np.bool_), inside
        inside = scratch.array(len(level), np.bool_)
        _keep(level.first, level.word, level.count, limits[index], allowed, above, inside, kept)
        if index == 0:
            kept[:3] = True
            shorter[0] = 1 / (np.count_nonzero(kept) - 1)  # the uniform distribution; <s> is never predicted
        found = _discounts(level, adjusted, index + 1 == order)
        if found is None:
            result.fallback.append(index + 1)
        result.discounts.append(found or FALLBACK)
        probabilities = scratch.array(len(level), np.float32)
        backoffs = scratch.array(len(level.first) - 1, np.float32)
        _discount(level.first, adjusted, kept, np.array([0, *(found or FALLBACK)]), probabilities, backoffs)
        for low, high in scratch.windows(len(shorter)):
            _interpolate(level.first, level.suffix, backoffs, shorter, low, high, probabilities)
        if index == 0:
            probabilities[START] = 1
        else:
            result.backoffs.append(backoffs)
        result.probabilities.append(probabilities)
        result.kept.append(kept)
        shorter = probabilities
        advance(0, f"{index + 1}-grams")
    return result
