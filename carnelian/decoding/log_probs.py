"""The check of log-probabilities that every decoder begins with."""

import numpy as np

from carnelian.data.alphabet import Alphabet
from carnelian.errors import DecodingError

MEAN_TOLERANCE = 0.05  # by which the sums may miss one on the average: 16 bits, or values rounded for a file
TOLERANCE_OF_ONE_STEP = 0.5


def checked(log_probs: np.ndarray, alphabet: Alphabet, extra: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (O, V) as a contiguous float32 array, and the probabilities they stand for.

    V is `extra` more than the alphabet's symbols: the blank, or the replabels of ASG. Raises DecodingError for another
    shape, NaN, or rows that do not sum to one.
    """
    log_probs = np.ascontiguousarray(log_probs, np.float32)
    expected = len(alphabet) + extra
    rest = "the blank" if extra == 1 else f"{extra} replabels"
    if log_probs.ndim != 2 or log_probs.shape[1] != expected:
        raise DecodingError(
            f"log-probs: their shape is {log_probs.shape}, expected (steps, {expected}): {len(alphabet)} symbols of "
            f"the alphabet and {rest}. Give one utterance at a time, from a model with this alphabet"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        probs = np.exp(log_probs)
        step, worst, average = misses_of_one(probs)
    if not (worst <= TOLERANCE_OF_ONE_STEP and average <= MEAN_TOLERANCE):
        if np.isnan(log_probs[step]).any():
            raise DecodingError(f"log-probs: step {step} holds NaN. Look for NaN in the audio or the model's weights")
        raise DecodingError(
            f"log-probs: the probabilities of step {step} sum to {probs[step].sum():.4g}, expected 1. "
            "Give natural log-probabilities, as log_softmax makes them"
        )
    return log_probs, probs


def misses_of_one(probs: np.ndarray) -> tuple[int, float, float]:
    """Returns how far the sums of the rows (O, V) are from one: the step of the furthest, its distance, and the mean.

    NaN is furthest.
    """
    if not len(probs):
        return 0, 0.0, 0.0
    # a matrix product takes a third of the time of probs.sum(1) (benchmarks/decoding.py, greedy)
    misses = probs @ np.ones(probs.shape[1], np.float32)
    misses -= 1
    np.abs(misses, out=misses)
    step = int(misses.argmax())
    return step, float(misses[step]), float(misses.sum(dtype=np.float64)) / len(misses)
