"""How probable a correction must be to be trusted, found on pairs of held-out speakers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from carnelian.data.text.pairs import Pair
from carnelian.errors import ManifestError
from carnelian.rescoring.correction import Correction
from carnelian.scoring.confidence import drawn_sums
from carnelian.scoring.wer import Errors, errors_of_texts

MOST_CANDIDATES = 200
SHARE_OF_DRAWS = 0.99  # of speakers, in which errors must be saved
#: with fewer nothing is trusted: on AN4 none of 12 held-out speakers lost, and the test speakers did
LEAST_SPEAKERS = 20
FOLDS = 10  # parts of the speakers, for each of which a threshold is found on the others


@dataclass(frozen=True, slots=True)
class FoundThreshold:
    """A threshold on the probability of corrections, 1 where none is to be trusted; the errors without and with it.

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
            "threshold": self.threshold,
            "held_out_wer_before": self.before.rate,
            "held_out_wer_after": self.after.rate,
            "held_out_speakers": self.speakers,
            "held_out_words": self.before.reference_words,
        }


def find_threshold(pairs: Sequence[Pair], corrections: Sequence[Correction]) -> FoundThreshold:
    """Returns the threshold that saves the most errors at the lower end of its bootstrap interval over speakers, or 1.

    It is 1, and nothing is corrected, unless there are at least LEAST_SPEAKERS speakers, and thresholds found in the same way without
    some of them save errors on these: in 99 % of the draws of speakers more than none. An unknown speaker is one of its own. Raises
    ManifestError for no words.
    """
    texts = [pair.text for pair in pairs]
    before = errors_of_texts(texts, [pair.hypothesis for pair in pairs])
    after = errors_of_texts(texts, [correction.text for correction in corrections])
    if not sum(errors.reference_words for errors in before):
        raise ManifestError("no words in the references of the held-out pairs. Give pairs with references")
    saved = np.array([old.total - new.total for old, new in zip(before, after)])
    probabilities = np.array([correction.probability for correction in corrections])
    names: dict[str, int] = {}
    speakers = np.array(
        [names.setdefault(pair.speaker or f"\0{index}", len(names)) for index, pair in enumerate(pairs)]
    )
    candidates = threshold_candidates(probabilities[probabilities > 0])
    sums = np.zeros((len(names), len(candidates)))
    np.add.at(sums, speakers, np.where(probabilities[:, None] > candidates, saved[:, None], 0))
    trusted = len(names) >= LEAST_SPEAKERS and lower_end(saved_on_others(sums)[:, None])[0] > 0
    threshold = float(candidates[best_candidate(sums)]) if trusted else 1.0
    applied = probabilities > threshold
    chosen = [new if use else old for old, new, use in zip(before, after, applied)]
    without, with_it, unbounded = (sum(errors, Errors()) for errors in (before, chosen, after))
    return FoundThreshold(threshold, without, with_it, unbounded, int(applied.sum()), len(names))


def lower_end(sums: np.ndarray) -> np.ndarray:
    """Returns what the sums of the columns of (S, K), a row for each speaker, exceed in 99 % of the draws of speakers."""
    return np.quantile(drawn_sums(sums, draws=1000, seed=0), 1 - SHARE_OF_DRAWS, axis=0)


def best_candidate(sums: np.ndarray) -> int:
    """Returns the candidate (column of (S, K) saved errors) whose lower end is highest; of equally good ones the last."""
    return sums.shape[1] - 1 - int(lower_end(sums)[::-1].argmax())


def saved_on_others(sums: np.ndarray) -> np.ndarray:
    """Returns the errors saved (S,) on each speaker by the candidate that the speakers of the other folds choose."""
    folds = np.arange(len(sums)) % min(FOLDS, len(sums))
    found = np.zeros(len(sums))
    for fold in range(folds.max() + 1):
        chosen = folds == fold
        if not chosen.all():
            found[chosen] = sums[chosen, best_candidate(sums[~chosen])]
    return found


def threshold_candidates(probabilities: np.ndarray) -> np.ndarray:
    """Returns thresholds (K,), rising, that part probabilities (N,): 0, and between neighbours; of many, evenly spread ones."""
    ordered = np.unique(probabilities)
    between = np.concatenate([[0.0], (ordered[1:] + ordered[:-1]) / 2])
    if len(between) > MOST_CANDIDATES:
        between = between[np.linspace(0, len(between) - 1, MOST_CANDIDATES).astype(int)]
    return between
