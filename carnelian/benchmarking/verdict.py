"""Whether two measurements differ by more than their noise: Mann and Whitney's test of their repeats, and the ratio's interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

SIGNIFICANT = 0.05
DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Verdict:
    """How two measurements compare.

    ratio: the speed now by the speed before, with its 95 % interval. probability: of so large a difference between equal ones;
    adjusted: for the number of comparisons. drift: how many times as fast the machine itself was, measured by something else.
    """

    ratio: float
    low: float
    high: float
    probability: float
    adjusted: float
    drift: float = 1.0

    @property
    def words(self) -> str:
        """The verdict in words."""
        unlike = self.high < min(1.0, self.drift) or self.low > max(1.0, self.drift)
        if self.adjusted > SIGNIFICANT or not unlike:
            return "not distinguishable"
        return f"{abs(100 * (self.ratio - 1)):.1f} % {'faster' if self.ratio > 1 else 'slower'}"


def mann_whitney(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Returns the probability (two-sided, exact, also with ties) that values of one distribution differ so far in their ranks.

    Mann and Whitney, "On a test of whether one of two random variables is stochastically larger than the other", 1947.
    """
    values = np.concatenate([first, second])
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of equal values
    ranks = np.rint(2 * middle[inverse]).astype(int)  # doubled: whole numbers
    size, total = len(first), int(ranks.sum())
    # ways[n][s]: how many sets of n of the ranks have the sum s
    ways = np.zeros((size + 1, total + 1), dtype=object)
    ways[0, 0] = 1
    for rank in ranks.tolist():
        for chosen in range(size, 0, -1):
            ways[chosen, rank:] = ways[chosen, rank:] + ways[chosen - 1, : total + 1 - rank]
    apart = abs(2 * int(ranks[:size].sum()) * len(values) - 2 * total * size)
    sums = np.arange(total + 1)
    extreme = np.abs(2 * sums * len(values) - 2 * total * size) >= apart
    return float(sum(ways[size][extreme]) / comb(len(values), size))


def verdicts(
    before: Sequence[np.ndarray], now: Sequence[np.ndarray], drift: float = 1.0, seed: int = 0
) -> list[Verdict]:
    """Returns the verdict on each case from the seconds (repeats, iterations) of its two measurements.

    A repeat counts by its median: the iterations within one are not independent. Probabilities are adjusted for the number of cases by
    Holm's method, so that of all cases where nothing changed one in twenty comparisons says otherwise. drift: how many times as fast
    the machine itself was; what it explains is no difference.
    """
    rng, found = np.random.default_rng(seed), []
    for one, other in zip(before, now, strict=True):
        earlier, later = np.median(one, axis=1), np.median(other, axis=1)
        drawn = [np.median(rng.choice(each, (DRAWS, len(each))), axis=1) for each in (earlier, later)]
        low, high = np.quantile(drawn[0] / drawn[1], (0.025, 0.975))
        found.append(
            (float(np.median(earlier) / np.median(later)), float(low), float(high), mann_whitney(earlier, later))
        )
    adjusted = holm([probability for *_, probability in found])
    return [Verdict(*figures, chance, drift) for figures, chance in zip(found, adjusted)]


def holm(probabilities: Sequence[float]) -> list[float]:
    """Returns probabilities adjusted for their number (Holm, "A simple sequentially rejective multiple test procedure", 1979)."""
    order = np.argsort(probabilities)
    factors = len(order) - np.arange(len(order))
    raised = np.minimum(1.0, np.maximum.accumulate(np.array(probabilities)[order] * factors))
    adjusted = np.empty(len(order))
    adjusted[order] = raised
    return adjusted.tolist()
