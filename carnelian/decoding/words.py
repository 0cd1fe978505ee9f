"""From symbols placed on output steps to words placed on output steps."""

import math

import numpy as np

from carnelian.data.alphabet import Alphabet
from carnelian.data.transcript import Span
from carnelian.jit import compiled


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
        texts = "".join([self.alphabet.symbols[symbol] for symbol in symbols.tolist()])
        words = texts.replace(self.alphabet.separator, " ").split()
        steps = group_words.for_work(8 * len(symbols))(symbols, first, last, peaks, self.opens, self.silent)
        return tuple(map(Span._make, zip(words, *[values.tolist() for values in steps])))


@compiled(nogil=True)
def group_words(symbols, first, last, peaks, opens, silent):
    """First step, last step and lowest probability of each word."""
    begins, ends, confidences = np.empty_like(first), np.empty_like(last), np.empty(len(symbols))
    count, fresh = 0, True
    for index in range(len(symbols)):
        symbol = symbols[index]
        fresh = fresh or opens[symbol]
        if silent[symbol]:
            continue
        if fresh:
            begins[count], confidences[count] = first[index], 1.0
            count, fresh = count + 1, False
        ends[count - 1] = last[index]
        confidences[count - 1] = min(confidences[count - 1], math.exp(peaks[index]))
    return begins[:count], ends[:count], confidences[:count]
