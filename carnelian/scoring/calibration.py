"""Whether word confidences are probabilities: reliability, expected calibration error, and normalised cross entropy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 10  # of equal width, as in Guo et al., "On Calibration of Modern Neural Networks", 2017


@dataclass(frozen=True, slots=True)
class Calibration:
    """Confidences beside what was correct.

    bins: (mean confidence, share correct, words) of each bin that has words. error: the expected calibration error, the mean
    distance of the two over all words. cross_entropy: NIST's normalised cross entropy; 1 is perfect, 0 no better than one
    confidence for all words, below 0 worse; None where all words or none are correct.
    """

    bins: tuple[tuple[float, float, int], ...]
    error: float
    cross_entropy: float | None


def calibrate(confidences: Sequence[float] | np.ndarray, correct: Sequence[bool] | np.ndarray) -> Calibration:
    """Returns the calibration of words with these confidences (0 to 1), of which some are correct."""
    chances, hits = np.asarray(confidences, float), np.asarray(correct, bool)
    if not len(chances):
        return Calibration((), 0.0, None)
    index = np.minimum((chances * BINS).astype(int), BINS - 1)
    bins = []
    for number in range(BINS):
        inside = index == number
        if inside.any():
            bins.append((float(chances[inside].mean()), float(hits[inside].mean()), int(inside.sum())))
    error = sum(count * abs(confidence - share) for confidence, share, count in bins) / len(chances)
    share = float(hits.mean())
    if share in (0.0, 1.0):
        return Calibration(tuple(bins), error, None)
    bounded = np.clip(chances, 1e-7, 1 - 1e-7)
    entropy = -len(hits) * (share * math.log2(share) + (1 - share) * math.log2(1 - share))
    found = float(np.log2(bounded[hits]).sum() + np.log2(1 - bounded[~hits]).sum())
    return Calibration(tuple(bins), error, (entropy + found) / entropy)
