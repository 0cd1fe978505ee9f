"""The weights of rescoring, chosen together by the word errors on utterances held out for that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from carnelian.data.transcript import Hypothesis
from carnelian.decoding.limits import LARGEST_WEIGHT
from carnelian.decoding.tuning import central_weights
from carnelian.rescoring.rescorer import features_of
from carnelian.scoring.wer import Errors, count_errors

LANGUAGE_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
NEURAL_WEIGHTS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.1, 1.5)
BETAS_OF_RESCORING = (-1.0, 0.0, 1.0, 2.0, 3.0)
SEARCH_ALONE = (1.0, 0.0, 0.0)
RescoringWeights = tuple[float, float, float]  # of the search's language score, of the sentence, of each word


@dataclass
class RescoringTuning:
    """Lists of hypotheses as arrays, padded (U, N), and the errors of each utterance (U,) for all weights that were tried.

    best: the weights chosen at last; first: the errors of the search alone; oracle: those of each list's best hypothesis.
    """

    features: np.ndarray
    errors: np.ndarray
    counts: list[list[Errors]]
    tried: dict[RescoringWeights, np.ndarray] = field(default_factory=dict)
    best: RescoringWeights = SEARCH_ALONE

    def chosen(self, weights: RescoringWeights) -> np.ndarray:
        """Returns which hypothesis of each list has the highest score (U,)."""
        language, neural, beta = weights
        return (self.features @ np.array([1.0, language, neural, beta])).argmax(1)

    def attempt(self, weights: Sequence[float]) -> RescoringWeights:
        """Tries weights, rounded and within their limits, and returns them."""
        language, neural, beta = (round(float(weight), 3) for weight in weights)
        language, neural = (min(max(weight, 0.0), LARGEST_WEIGHT) for weight in (language, neural))
        rounded = (language, neural, min(max(beta, -LARGEST_WEIGHT), LARGEST_WEIGHT))
        if rounded not in self.tried:
            self.tried[rounded] = self.errors[np.arange(len(self.errors)), self.chosen(rounded)]
        return rounded

    def total(self, weights: RescoringWeights) -> Errors:
        """Returns the errors of all utterances together for weights."""
        return sum((row[index] for row, index in zip(self.counts, self.chosen(weights))), Errors())

    def oracle(self) -> Errors:
        """Returns the errors of the best hypothesis of each list."""
        return sum((min(row, key=lambda errors: errors.total) for row in self.counts), Errors())


def tune_rescoring(
    lists: Sequence[Sequence[Hypothesis]],
    sentences: Sequence[np.ndarray],
    references: Sequence[str],
    *,
    refinements: int = 2,
    normalized: Callable[[str], str] = str,
) -> RescoringTuning:
    """Tries a grid of the three weights, then finer ones around the centre of those that could be best (`central_weights`).

    sentences: of each list the neural scores (N,). The search alone is one of the points of the grid, and is kept where the centre
    makes more errors on these utterances.
    """
    longest = max(map(len, lists))
    features, errors = np.zeros((len(lists), longest, 4)), np.zeros((len(lists), longest), np.int64)
    features[..., 0] = -np.inf  # past a list's end
    counts = []
    for row, (hypotheses, scores, reference) in enumerate(zip(lists, sentences, references, strict=True)):
        acoustic, language, words = features_of(hypotheses).T
        features[row, : len(hypotheses)] = np.stack([acoustic, language, scores, words], 1)
        counts.append([count_errors(reference, normalized(each.text)) for each in hypotheses])
        errors[row, : len(hypotheses)] = [each.total for each in counts[-1]]
    tuning = RescoringTuning(features, errors, counts)
    for weights in product(LANGUAGE_WEIGHTS, NEURAL_WEIGHTS, BETAS_OF_RESCORING):
        tuning.attempt(weights)
    steps = np.array([0.25, 0.2, 1.0]) / 2
    for _ in range(refinements):
        centre = np.array(central_weights(list(tuning.tried), np.stack(list(tuning.tried.values()), 1)))
        for moves in product((-1, 0, 1), repeat=3):
            tuning.attempt((centre + steps * moves).tolist())
        steps = steps / 2
    last = tuning.attempt(central_weights(list(tuning.tried), np.stack(list(tuning.tried.values()), 1)))
    worse = tuning.tried[last].sum() > tuning.tried[tuning.attempt(SEARCH_ALONE)].sum()
    tuning.best = SEARCH_ALONE if worse else last
    return tuning
