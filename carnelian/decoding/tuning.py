"""The weights of a beam search, chosen by the word errors on utterances held out for that."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.greedy import Greedy
from carnelian.decoding.limits import LARGEST_WEIGHT, check_weight, checked_width
from carnelian.errors import DecodingError
from carnelian.scoring.confidence import drawn_sums
from carnelian.scoring.wer import Errors, count_errors

ALPHAS = (0.2, 0.5, 0.8, 1.1, 1.5, 2.0)
BETAS = (-1.0, 0.5, 2.0, 3.5, 5.0)
MOST_REFINEMENTS = 10  # each halves the steps of the grid
Weights = tuple[float, float, int]  # alpha, beta, beam width


@dataclass
class Tuning:
    """The errors of each utterance for all weights that were tried, and those chosen of them at last."""

    tried: dict[Weights, list[Errors]] = field(default_factory=dict)
    best: Weights = (0.0, 0.0, 1)

    def errors(self, weights: Weights) -> Errors:
        """The errors of all utterances together."""
        return sum(self.tried[weights], Errors())

    def centre(self) -> tuple[float, float]:
        """Alpha and beta in the middle of what could be best (`central_weights`)."""
        totals = np.array([[errors.total for errors in each] for each in zip(*self.tried.values())])
        alpha, beta, _ = central_weights(list(self.tried), totals)
        return alpha, beta


def central_weights(tried: Sequence[tuple[float, ...]], totals: np.ndarray) -> list[float]:
    """Returns the mean of all weights tried that win one of many resamples of utterances; totals (U, S): errors of each utterance.

    A few utterances hardly determine weights: many are as good, and which have the fewest errors is chance. On speakers that were
    not tuned on the mean has fewer errors than the best (Breiman, "Bagging predictors", 1996).
    """
    resampled = drawn_sums(totals, draws=1000, seed=0)
    winning = resampled == resampled.min(1, keepdims=True)
    return ((winning / winning.sum(1, keepdims=True)).mean(0) @ np.array(tried, np.float64)).tolist()


def decoded_errors(
    decoder: BeamSearch | Greedy,
    log_probs: Sequence[np.ndarray],
    references: Iterable[str],
    normalized: Callable[[str], str] = str,
) -> list[Errors]:
    """The word errors of a decoder's best hypotheses, utterance by utterance; `normalized` is applied to each of them."""
    return [
        count_errors(reference, normalized(each[0].text))
        for reference, each in zip(references, decoder.batch(log_probs))
    ]


def oracle_errors(
    decoder: BeamSearch,
    log_probs: Sequence[np.ndarray],
    references: Iterable[str],
    normalized: Callable[[str], str] = str,
) -> Errors:
    """Returns the oracle errors: those of the best hypothesis that a decoder returns for each utterance."""
    total = Errors()
    for reference, hypotheses in zip(references, decoder.batch(log_probs)):
        counts = (count_errors(reference, normalized(each.text)) for each in hypotheses)
        total += min(counts, key=lambda errors: errors.total)
    return total


def check_grid(alphas: Sequence[float], betas: Sequence[float], widths: Sequence[int], refinements: int) -> None:
    """Raises DecodingError for a grid that cannot be searched: values out of range, or none."""
    if not (alphas and betas and widths):
        raise DecodingError("alpha, beta, beam width: expected at least one value of each to try")
    for alpha in alphas:
        check_weight("alpha", alpha, lowest=0.0)
    for beta in betas:
        check_weight("beta", beta)
    for width in widths:
        checked_width(width)
    if not 0 <= refinements <= MOST_REFINEMENTS:
        raise DecodingError(f"refinements {refinements}: expected a whole number from 0 to {MOST_REFINEMENTS}")


def tune_weights(
    decoder: BeamSearch,
    log_probs: Sequence[np.ndarray],
    references: Sequence[str],
    *,
    alphas: Sequence[float] = ALPHAS,
    betas: Sequence[float] = BETAS,
    widths: Sequence[int] = (16, 64, 256),
    refinements: int = 2,
    normalized: Callable[[str], str] = str,
    report: Callable[[Weights, Errors], None] = lambda weights, errors: None,
) -> Tuning:
    """Tries a grid of alpha x beta, then finer ones around the centre, and at the last centre the widths; all on every core.

    The grids are searched at the middle width; of the widths the smallest with the fewest errors is taken. `report` is
    called with each setting and its errors. Raises DecodingError for values out of range (`check_grid`).
    """
    check_grid(alphas, betas, widths, refinements)
    tuning = Tuning()

    def attempt(alpha: float, beta: float, width: int) -> Weights:
        alpha = min(max(round(alpha, 3), 0.0), LARGEST_WEIGHT)
        beta = min(max(round(beta, 3), -LARGEST_WEIGHT), LARGEST_WEIGHT)
        weights = (alpha, beta, width)
        if weights not in tuning.tried:
            tuning.tried[weights] = decoded_errors(decoder.weighed(*weights), log_probs, references, normalized)
            report(weights, tuning.errors(weights))
        return weights

    width = sorted(widths)[len(widths) // 2]
    for alpha, beta in product(alphas, betas):
        attempt(alpha, beta, width)
    alpha_step, beta_step = _step(alphas) / 2, _step(betas) / 2
    for _ in range(refinements):
        alpha, beta = tuning.centre()
        for alpha_move, beta_move in product((-1, 0, 1), repeat=2):
            attempt(alpha + alpha_move * alpha_step, beta + beta_move * beta_step, width)
        alpha_step, beta_step = alpha_step / 2, beta_step / 2
    centre = tuning.centre()
    found = [attempt(*centre, other) for other in sorted(widths)]
    tuning.best = min(found, key=lambda weights: tuning.errors(weights).total)
    return tuning


def _step(values: Sequence[float]) -> float:
    """The mean distance between neighbours."""
    return (max(values) - min(values)) / max(1, len(values) - 1)
