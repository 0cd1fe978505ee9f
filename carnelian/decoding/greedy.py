"""The fastest decoder: the best symbol of each step, repeats and blanks taken out."""

from collections.abc import Iterable

import numpy as np

from carnelian.data.alphabet import Alphabet
from carnelian.data.transcript import Hypothesis
from carnelian.decoding.log_probs import checked
from carnelian.decoding.words import Words


def best_path(log_probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The symbol of highest log-probability at each step (O,), and that log-probability (O,)."""
    path = log_probs.argmax(1)
    return path, log_probs[np.arange(len(path)), path]


class Greedy:
    """The best path as the only hypothesis; its score is that path's log-probability."""

    def __init__(self, alphabet: Alphabet):
        self.alphabet = alphabet
        self.words = Words(alphabet)

    def __call__(self, log_probs: np.ndarray) -> list[Hypothesis]:
        """One hypothesis from log-probabilities (O, V); raises DecodingError if they are none."""
        log_probs, _ = checked(log_probs, self.alphabet)
        if not len(log_probs):
            return [Hypothesis("", 0.0, 0.0)]
        path, scores = best_path(log_probs)
        first = np.flatnonzero(np.diff(path, prepend=-1))
        last = np.append(first[1:], len(path)) - 1
        peaks = np.maximum.reduceat(scores, first)
        spoken = path[first] != self.alphabet.blank
        spans = self.words.spans(path[first[spoken]], first[spoken], last[spoken], peaks[spoken])
        score = float(scores.sum(dtype=np.float64))
        return [Hypothesis(" ".join([span.text for span in spans]), score, score, spans=spans)]

    def batch(self, log_probs: Iterable[np.ndarray], threads: int | None = None) -> list[list[Hypothesis]]:
        """The hypotheses of each utterance; `threads` is accepted as by the beam search, and not used."""
        return [self(each) for each in log_probs]
