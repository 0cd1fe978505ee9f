"""From symbols placed on output steps to words placed on output steps."""

import numpy as np

from carnelian.data.alphabet import Alphabet
from carnelian.data.transcript import Span


class Words:
    """What an alphabet's symbols do to words: `opens` says which begin one, `silent` which only part two."""

    def __init__(self, alphabet: Alphabet):
        self.alphabet = alphabet
        self.opens = np.array([symbol.startswith(alphabet.separator) for symbol in alphabet.symbols])
        self.silent = np.array([symbol == alphabet.separator for symbol in alphabet.symbols])

    def spans(self, symbols: np.ndarray, first: np.ndarray, last: np.ndarray, peaks: np.ndarray) -> tuple[Span, ...]:
        """The words that symbols (N,) spell, each symbol lying on the output steps `first` to `last`.

        `peaks` is each symbol's highest log-probability on them; a word is as sure as its least sure symbol.
        """
        heard = np.flatnonzero(~self.silent[symbols])
        if not len(heard):
            return ()
        texts = "".join([self.alphabet.symbols[symbol] for symbol in symbols.tolist()])
        starts = np.flatnonzero(np.diff(np.cumsum(self.opens[symbols])[heard], prepend=-1))
        ends = np.append(starts[1:], len(heard)) - 1
        confidences = np.exp(np.minimum.reduceat(peaks[heard], starts))
        steps = (first[heard[starts]].tolist(), last[heard[ends]].tolist(), confidences.tolist())
        return tuple(map(Span, texts.replace(self.alphabet.separator, " ").split(), *steps))
