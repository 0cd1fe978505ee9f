"""The weights of a beam search that give the fewest word errors on utterances held out for that."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from carnelian.decoding.beam import BeamSearch
from carnelian.scoring.wer import Errors, count_errors

ALPHAS = (0.2, 0.5, 0.8, 1.1, 1.5, 2.0)
BETAS = (-1.0, 0.5, 2.0, 3.5, 5.0)
Weights = tuple[float, float, int]  # alpha, beta, beam width


@dataclass
class Tuning:
    """Errors for all weights that were tried.

    `best` has the fewest, the smallest beam of those, and lies in the middle of what is then left.
    """

    tried: dict[Weights, Errors] = field(default_factory=dict)

    @property
    def best(self) -> Weights:
        fewest, width = min((errors.total, weights[2]) for weights, errors in self.tried.items())
        equals = [weights for weights in self.tried if (self.tried[weights].total, weights[2]) == (fewest, width)]
        middle = np.mean(equals, axis=0)
        return min(equals, key=lambda weights: (float(np.abs(weights - middle).sum()), weights))


def decoded_errors(decoder: BeamSearch, log_probs: Sequence[np.ndarray], references: Iterable[str]) -> Errors:
    """The word errors of a decoder's best hypotheses."""
    found = decoder.batch(log_probs)
    return sum((count_errors(said, each[0].text) for said, each in zip(references, found)), Errors())


def oracle_errors(decoder: BeamSearch, log_probs: Sequence[np.ndarray], references: Iterable[str]) -> Errors:
    """The word errors if of all hypotheses that a decoder gives the best were always chosen."""
    total = Errors()
    for said, hypotheses in zip(references, decoder.batch(log_probs)):
        total += min((count_errors(said, each.text) for each in hypotheses), key=lambda errors: errors.total)
    return total


def tune_weights(
    decoder: BeamSearch,
    log_probs: Sequence[np.ndarray],
    references: Sequence[str],
    *,
    alphas: Sequence[float] = ALPHAS,
    betas: Sequence[float] = BETAS,
    widths: Sequence[int] = (16, 64, 256),
    refinements: int = 2,
    report: Callable[[Weights, Errors], None] = lambda weights, errors: None,
) -> Tuning:
    """Tries a grid of alpha x beta, then ever finer ones around the best, then the widths; all on every core.

    The grids are searched at the middle width. `report` hears of each setting once it is known.
    """
    tuning = Tuning()

    def attempt(alpha: float, beta: float, width: int) -> None:
        weights = (round(alpha, 3), round(beta, 3), width)
        if weights not in tuning.tried and alpha >= 0:
            tuning.tried[weights] = decoded_errors(decoder.weighed(*weights), log_probs, references)
            report(weights, tuning.tried[weights])

    width = sorted(widths)[len(widths) // 2]
    for alpha, beta in product(alphas, betas):
        attempt(alpha, beta, width)
    alpha_step, beta_step = _step(alphas) / 2, _step(betas) / 2
    for _ in range(refinements):
        alpha, beta, _ = tuning.best
        for alpha_move, beta_move in product((-1, 0, 1), repeat=2):
            attempt(alpha + alpha_move * alpha_step, beta + beta_move * beta_step, width)
        alpha_step, beta_step = alpha_step / 2, beta_step / 2
    alpha, beta, _ = tuning.best
    for other in widths:
        attempt(alpha, beta, other)
    return tuning


def _step(values: Sequence[float]) -> float:
    """The mean distance between neighbours."""
    return (max(values) - min(values)) / max(1, len(values) - 1)
