"""Whether two recognizers differ, speaker by speaker or utterance by utterance: the sign, signed-rank and McNemar tests.

They are those of NIST's `sc_stats` (-t sign, wilc, mcn), beside the matched-pairs test in `significance`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from carnelian.errors import ScoringError
from carnelian.scoring.wer import Errors

EQUAL = 0.005  # percent: rates closer than this are no difference
EXACT = 20  # pairs, up to which sc_stats adds up the binomial distribution exactly


@dataclass(frozen=True, slots=True)
class PairedTest:
    """A test's outcome for the first system beside the second.

    worse, better: speakers (or utterances) on which the first system errs more, or less; ties are given to both.
    probability: of a difference as large at random, two-sided.
    sc_stats_probability: the same figure as `sc_stats` prints it. Over 20 pairs it takes an approximation for the sign
    and McNemar tests that is far too small; up to there both are equal.
    """

    name: str
    worse: int
    better: int
    probability: float
    sc_stats_probability: float
    z: float | None = None

    @property
    def verdict(self) -> str:
        """Which system is better at 5 %: "first", "second", or "" where the test cannot tell."""
        if self.probability >= 0.05:
            return ""
        return "second" if self.worse > self.better else "first"


def sign_test(first: Mapping[str, Errors], second: Mapping[str, Errors]) -> PairedTest:
    """The sign test on speakers' word error rates; speakers without a difference are shared out evenly."""
    differences = rate_differences(first, second)
    worse, better = int(np.sum(differences > EQUAL)), int(np.sum(differences < -EQUAL))
    ties = len(differences) - worse - better
    if differences.sum() > 0:  # the odd tie speaks for the system that is better overall, so against the difference
        worse, better = worse + ties // 2, better + ties - ties // 2
    else:
        worse, better = worse + ties - ties // 2, better + ties // 2
    return binomial_test("sign", worse, better)


def signed_rank_test(first: Mapping[str, Errors], second: Mapping[str, Errors]) -> PairedTest:
    """Wilcoxon's signed-rank test on speakers' word error rates, by its normal approximation."""
    differences = rate_differences(first, second)
    if differences.sum() <= 0:  # sc_stats looks from the system with the higher rates
        swapped = signed_rank_of(-differences)
        return PairedTest(
            swapped.name, swapped.better, swapped.worse, swapped.probability, swapped.sc_stats_probability, swapped.z
        )
    return signed_rank_of(differences)


def signed_rank_of(differences: np.ndarray) -> PairedTest:
    """The signed-rank test of differences (N,) in percent, the sum of which is not below zero."""
    count = len(differences)
    ranks = shared_ranks(abs(differences))
    positive = differences > EQUAL
    ties = np.flatnonzero(abs(differences) <= EQUAL)
    positive[ties[::2]] = True  # ties go to either side in turn
    worse, better = int(positive.sum()), int(count - positive.sum())
    smaller = ranks[positive].sum() if worse < better else ranks[~positive].sum()
    expected, variance = count * (count + 1) / 4, count * (count + 1) * (2 * count + 1) / 24
    z = float((smaller - expected) / math.sqrt(variance)) if count else 0.0
    printed = 2 * (1 - tabled_normal(abs(z)))
    return PairedTest("signed rank", worse, better, math.erfc(abs(z) / math.sqrt(2)), printed, z)


def mcnemar_test(first: Sequence[Errors], second: Sequence[Errors]) -> PairedTest:
    """McNemar's test on utterances: those that only the first, or only the second system has wholly right."""
    if len(first) != len(second):
        raise ScoringError(f"{len(first)} utterances beside {len(second)}. Give both systems' errors of the same ones")
    worse = sum(bool(one.total) and not other.total for one, other in zip(first, second))
    better = sum(bool(other.total) and not one.total for one, other in zip(first, second))
    return binomial_test("McNemar", worse, better)


def binomial_test(name: str, worse: int, better: int) -> PairedTest:
    """The two-sided test whether `worse` and `better` could be throws of a fair coin."""
    if worse == better:
        return PairedTest(name, worse, better, 1.0, 1.0)
    fewer, count = min(worse, better), worse + better
    exact = 2 * sum(math.comb(count, k) for k in range(fewer + 1)) / 2**count
    if count <= EXACT:
        printed = exact
    else:
        z = (fewer / 2 - count / 2) / (math.sqrt(count) / 2)
        printed = 2 * (1 - tabled_normal(abs(z)))
    return PairedTest(name, worse, better, min(exact, 1.0), printed)


def tabled_normal(z: float) -> float:
    """The normal distribution function as sc_stats has it in a table: in steps of 0.01, up to 5.14."""
    return 0.5 * math.erfc(-min(math.floor(z * 100 + 1e-9) / 100, 5.14) / math.sqrt(2))


def rate_differences(first: Mapping[str, Errors], second: Mapping[str, Errors]) -> np.ndarray:
    """First minus second word error rate (N,) of each speaker, in percent."""
    if missing := first.keys() ^ second.keys():
        raise ScoringError(f'speaker "{min(missing)}" is in one system only. Score both on the same utterances')
    pairs = ((first[speaker], second[speaker]) for speaker in first)
    return np.array([percent(one) - percent(other) for one, other in pairs])


def percent(errors: Errors) -> float:
    """The word error rate in percent, 0 where there are no words."""
    # in this order, so that rates are equal where sc_stats has them equal
    return errors.total / errors.reference_words * 100.0 if errors.reference_words else 0.0


def shared_ranks(values: np.ndarray) -> np.ndarray:
    """The ranks (N,) of values from 1 on, smallest first; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
