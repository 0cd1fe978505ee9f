"""The decoder of models that were trained by ASG: the best path through their scores and the criterion's transitions."""

from collections.abc import Iterable

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from carnelian.data.alphabet import Alphabet
from carnelian.data.transcript import Hypothesis
from carnelian.decoding.log_probs import checked
from carnelian.decoding.words import Words
from carnelian.models.losses.asg import ASG, unpacked


class Viterbi:
    """The best path as the only hypothesis; its score is that path's log-probabilities and transitions."""

    def __init__(self, alphabet: Alphabet, criterion: ASG):
        self.alphabet, self.criterion = alphabet, criterion
        self.words = Words(alphabet)

    def __call__(self, log_probs: np.ndarray) -> list[Hypothesis]:
        """One hypothesis from log-probabilities (O, V), the replabels last; raises DecodingError for other values."""
        return self.batch([log_probs])[0]

    def batch(self, log_probs: Iterable[np.ndarray], threads: int | None = None) -> list[list[Hypothesis]]:
        """The hypotheses of each utterance, all in one pass; `threads` is accepted as by the beam search, and not used."""
        rows = [checked(each, self.alphabet, self.criterion.extra)[0] for each in log_probs]
        if not any(map(len, rows)):
            return [[Hypothesis("", 0.0, 0.0)] for _ in rows]
        transitions = self.criterion.transitions.detach()
        scores = pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True).to(transitions.device)
        paths = self.criterion.best_path(scores, torch.tensor([len(row) for row in rows], device=scores.device))
        moves = transitions.cpu().numpy()
        return [[self.spoken(np.array(path, np.int64), row, moves)] for path, row in zip(paths, rows)]

    def spoken(self, path: np.ndarray, log_probs: np.ndarray, transitions: np.ndarray) -> Hypothesis:
        """Returns the hypothesis that a path (O,) spells."""
        if not len(path):
            return Hypothesis("", 0.0, 0.0)
        scores = log_probs[np.arange(len(path)), path]
        first = np.flatnonzero(np.diff(path, prepend=-1))
        last = np.append(first[1:], len(path)) - 1
        peaks = np.maximum.reduceat(scores, first)
        unpacked_path = list(unpacked(path[first].tolist(), self.criterion.first))
        symbols, indices = np.array(unpacked_path, np.int64).reshape(-1, 2).T
        spans = self.words.spans(symbols, first[indices], last[indices], peaks[indices])
        score = float(scores.sum(dtype=np.float64) + transitions[path[1:], path[:-1]].sum(dtype=np.float64))
        return Hypothesis(" ".join([span.text for span in spans]), score, score, spans=spans)
