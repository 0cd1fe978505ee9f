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
        stream = self.stream()
        stream.accept(log_probs)
        return stream.hypotheses()

    def stream(self) -> "GreedyStream":
        """A decoder of one utterance whose log-probabilities come in pieces."""
        return GreedyStream(self)

    def batch(self, log_probs: Iterable[np.ndarray], threads: int | None = None) -> list[list[Hypothesis]]:
        """The hypotheses of each utterance; `threads` is accepted as by the beam search, and not used."""
        return [self(each) for each in log_probs]


class GreedyStream:
    """The best path of an utterance so far: `accept` log-probabilities, ask for `hypotheses` whenever they are wanted."""

    def __init__(self, decoder: Greedy):
        self.decoder = decoder
        self.paths: list[np.ndarray] = []
        self.scores: list[np.ndarray] = []

    def accept(self, log_probs: np.ndarray) -> None:
        """Goes on with the next log-probabilities (O, V); raises DecodingError if they are none."""
        log_probs, _ = checked(log_probs, self.decoder.alphabet)
        if len(log_probs):
            path, scores = best_path(log_probs)
            self.paths.append(path)
            self.scores.append(scores)

    def hypotheses(self) -> list[Hypothesis]:
        """The hypothesis if the utterance ended here; more log-probabilities may follow."""
        if not self.paths:
            return [Hypothesis("", 0.0, 0.0)]
        if len(self.paths) > 1:
            self.paths, self.scores = [np.concatenate(self.paths)], [np.concatenate(self.scores)]
        path, scores = self.paths[0], self.scores[0]
        first = np.flatnonzero(np.diff(path, prepend=-1))
        last = np.append(first[1:], len(path)) - 1
        peaks = np.maximum.reduceat(scores, first)
        spoken = path[first] != self.decoder.alphabet.blank
        spans = self.decoder.words.spans(path[first[spoken]], first[spoken], last[spoken], peaks[spoken])
        score = float(scores.sum(dtype=np.float64))
        return [Hypothesis(" ".join([span.text for span in spans]), score, score, spans=spans)]
