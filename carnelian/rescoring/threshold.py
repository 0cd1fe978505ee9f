"""How much likelier a correction must be than the text, found on pairs of held-out speakers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from carnelian.data.text.pairs import Pair
from carnelian.errors import ManifestError
from carnelian.rescoring.correction import Correction
from carnelian.scoring.confidence import drawn_sums
from carnelian.scoring.wer import Errors, errors_of_texts

MOST_CANDIDATES = 200
SURE = 0.95  # share of draws of speakers in which a threshold must save more errors than it makes


@dataclass(frozen=True, slots=True)
class FoundThreshold:
    """A threshold on the gain of corrections, infinite where none is to be trusted; the errors without and with it.

    corrected: texts that it corrects. unbounded: the errors with every correction.
    """

    threshold: float
    before: Errors
    after: Errors
    unbounded: Errors
    corrected: int
    speakers: int

    def saved(self) -> dict[str, object]:
        """Returns it as a checkpoint holds it."""
        return {
            "threshold": self.threshold if math.isfinite(self.threshold) else None,
            "held_out_wer_before": self.before.rate,
            "held_out_wer_after": self.after.rate,
            "held_out_speakers": self.speakers,
            "held_out_words": self.before.reference_words,
        }


def find_threshold(pairs: Sequence[Pair], corrections: Sequence[Correction]) -> FoundThreshold:
    """Returns the threshold whose saved errors are highest at the lower end: in 95 % of the draws of speakers there are as many.

    Where none has more than 0 there, what it wins may be chance: the threshold is infinite, and nothing is corrected. Of equally good
    ones it is the highest. An unknown speaker is one of its own. Raises ManifestError for no words.
    """
    texts = [pair.text for pair in pairs]
    before = errors_of_texts(texts, [pair.hypothesis for pair in pairs])
    after = errors_of_texts(texts, [correction.text for correction in corrections])
    if not sum(errors.reference_words for errors in before):
        raise ManifestError("no words in the references of the held-out pairs. Give pairs with references")
    saved = np.array([old.total - new.total for old, new in zip(before, after)])
    gains = np.array([correction.gain for correction in corrections])
    names: dict[str, int] = {}
    speakers = np.array(
        [names.setdefault(pair.speaker or f"\0{index}", len(names)) for index, pair in enumerate(pairs)]
    )
    candidates = threshold_candidates(gains[gains > 0])
    sums = np.zeros((len(names), len(candidates)))
    np.add.at(sums, speakers, np.where(gains[:, None] > candidates, saved[:, None], 0))
    sure = np.quantile(drawn_sums(sums, draws=1000, seed=0), 1 - SURE, axis=0)
    best = len(candidates) - 1 - int(sure[::-1].argmax())
    threshold = float(candidates[best]) if sure[best] > 0 else math.inf
    applied = gains > threshold
    chosen = [new if use else old for old, new, use in zip(before, after, applied)]
    return FoundThreshold(
        threshold,
        sum(before, Errors()),
        sum(chosen, Errors()),
        sum(after, Errors()),
        int(applied.sum()),
        len(names),
    )


def threshold_candidates(gains: np.ndarray) -> np.ndarray:
    """Returns thresholds (K,), rising, that part gains (N,): 0, and between neighbours; of many, evenly spread ones."""
    ordered = np.unique(gains)
    between = np.concatenate([[0.0], (ordered[1:] + ordered[:-1]) / 2])
    if len(between) > MOST_CANDIDATES:
        between = between[np.linspace(0, len(between) - 1, MOST_CANDIDATES).astype(int)]
    return between
