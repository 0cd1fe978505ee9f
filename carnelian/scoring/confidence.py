"""How sure an error rate is: bootstrap intervals (Bisani and Ney, "Bootstrap estimates for confidence intervals", 2004)."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from carnelian.scoring.wer import Errors

MANY = 5000  # utterances above which those with equal counts are drawn together


@dataclass(frozen=True, slots=True)
class Interval:
    """The rates between which the true one lies with probability `level`."""

    low: float
    high: float
    level: float


def interval(
    errors: Sequence[Errors],
    *,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """The bootstrap confidence interval of the error rate of utterances.

    Utterances are drawn with replacement; with `groups` (their speakers, say) whole groups are, which is right where
    the errors of a group go together.
    """
    counts = np.array([(each.total, each.reference_words) for each in errors], np.int64).reshape(-1, 2)
    return interval_of_counts(counts, groups=groups, level=level, draws=draws, seed=seed)


def interval_of_counts(
    counts: np.ndarray,
    *,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """The same of the errors and words (N, 2) of each utterance."""
    return percentile_interval(drawn_rates(counts, groups, draws, seed), level)


def difference(
    first: Sequence[Errors],
    second: Sequence[Errors],
    *,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[Interval, float]:
    """How much more the first of two systems errs on the same utterances, and how often it seems the better one.

    The interval is of the first rate minus the second; the probability is the share of draws in which that is below
    zero (ties count half).
    """
    counts = [(a.total - b.total, a.reference_words) for a, b in zip(first, second, strict=True)]
    rates = drawn_rates(np.array(counts, np.int64).reshape(-1, 2), groups, draws, seed)
    better = float(np.mean(rates < 0) + np.mean(rates == 0) / 2) if len(rates) else 0.5
    return percentile_interval(rates, level), better


def percentile_interval(rates: np.ndarray, level: float) -> Interval:
    """The interval that holds the middle `level` of the drawn rates."""
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2]) if len(rates) else (0.0, 0.0)
    return Interval(float(low), float(high), level)


def drawn_rates(counts: np.ndarray, groups: Sequence[Hashable] | None, draws: int, seed: int) -> np.ndarray:
    """The rate (draws,) of errors to words in each draw, with replacement, of as many utterances or groups as there are.

    counts: errors and words (N, 2) int64 of each utterance. Draws without a word are left out, so that there are none at all where
    no utterance has one. Of many utterances (groups) those with equal counts are drawn together, by a multinomial distribution: as
    if each was drawn, in a time that does not grow with them.
    """
    if groups is not None:
        numbers: dict[Hashable, int] = {}
        index = [numbers.setdefault(group, len(numbers)) for group in groups]
        sums = np.zeros((len(numbers), 2), np.int64)
        np.add.at(sums, index, counts)
        counts = sums
    if len(counts) > MANY:
        kinds, times = np.unique(counts, axis=0, return_counts=True)
        drawn = np.random.default_rng(seed).multinomial(len(counts), times / len(counts), size=draws)
        totals = drawn @ kinds
    else:
        totals = drawn_sums(counts, draws, seed)
    totals = totals[totals[:, 1] > 0]
    return totals[:, 0] / totals[:, 1]


def drawn_sums(values: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """The sums (draws, K) of the rows of `values` (N, K) in each draw, with replacement, of N of them."""
    count, rng = len(values), np.random.default_rng(seed)
    drawn = (np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(draws if count else 0))
    return np.array([times @ values for times in drawn], values.dtype).reshape(-1, values.shape[1])
