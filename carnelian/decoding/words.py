"""From symbols placed on output steps to words placed on output steps."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from carnelian.data.alphabet import Alphabet
from carnelian.data.transcript import Span
from carnelian.jit import compiled


class SpelledSymbol(NamedTuple):
    """What a symbol writes: parts of words, and whether white space stands before the first and after the last of them."""

    parts: tuple[bytes, ...]
    opens: bool
    closes: bool


def spelled_symbols(alphabet: Alphabet) -> list[SpelledSymbol]:
    """Returns what each symbol writes. Any white space separates words; a byte piece may write a part of a character."""
    found = []
    for spelled in alphabet.spelling:
        text = spelled.decode(errors="replace")
        parts = tuple(part.encode() for part in text.split()) if text.encode() == spelled else (spelled,)
        found.append(SpelledSymbol(parts, text[:1].isspace(), text[-1:].isspace()))
    return found


class PlacedSymbols:
    """Symbols of an utterance that are placed on output steps for good, piece by piece."""

    def __init__(self) -> None:
        self.pieces: list[tuple[np.ndarray, ...]] = []

    def add(self, symbols: np.ndarray, first: np.ndarray, last: np.ndarray, peaks: np.ndarray) -> None:
        """Takes the next symbols (N,), their first and last steps, and their highest log-probabilities on them."""
        if len(symbols):
            self.pieces.append((*(np.array(each, np.int32) for each in (symbols, first, last)), peaks.copy()))

    def arrays(self) -> tuple[np.ndarray, ...]:
        """All symbols so far: numbers, first steps, last steps (int32), highest log-probabilities (float32)."""
        if len(self.pieces) != 1:
            empty = (*(np.empty(0, np.int32) for _ in range(3)), np.empty(0, np.float32))
            self.pieces = [tuple(map(np.concatenate, zip(empty, *self.pieces)))]
        return self.pieces[0]

    def followed_by(self, *values: np.ndarray) -> tuple[np.ndarray, ...]:
        """These symbols and further ones, as `Words.spans` takes them."""
        if not self.pieces:
            return values
        joined = map(np.concatenate, zip(self.arrays(), values))
        return tuple(each.astype(old.dtype, copy=False) for each, old in zip(joined, values))


class Words:
    """Groups symbols into words: with several parts of words in one symbol, and with parts of characters."""

    def __init__(self, alphabet: Alphabet):
        symbols = spelled_symbols(alphabet)
        self.parts = [part for symbol in symbols for part in symbol.parts]
        self.texts = [part.decode(errors="replace") for part in self.parts]
        self.whole = all(text.encode() == part for text, part in zip(self.texts, self.parts))  # no parts of characters
        self.begins = np.cumsum([0, *(len(symbol.parts) for symbol in symbols)])  # of each symbol's parts
        self.opens = np.array([symbol.opens for symbol in symbols])
        self.closes = np.array([symbol.closes for symbol in symbols])

    def spans(self, symbols: np.ndarray, first: np.ndarray, last: np.ndarray, peaks: np.ndarray) -> tuple[Span, ...]:
        """Returns the words that symbols (N,) spell, each symbol lying on the output steps `first` to `last`.

        `peaks` is each symbol's highest log-probability on them; a word is as sure as its least sure symbol.
        """
        group = group_words.for_work(8 * len(symbols))
        used, starts, *steps = group(symbols, first, last, peaks, self.begins, self.opens, self.closes)
        ranges = pairwise(starts.tolist())
        if self.whole:  # faster, since no word is decoded (benchmarks/decoding.py, greedy)
            texts = [self.texts[number] for number in used.tolist()]
            words = ["".join(texts[begin:end]) for begin, end in ranges]
        else:
            parts = [self.parts[number] for number in used.tolist()]
            words = [b"".join(parts[begin:end]).decode(errors="replace") for begin, end in ranges]
        return tuple(map(Span._make, zip(words, *[values.tolist() for values in steps])))


@compiled(nogil=True)
def group_words(symbols, first, last, peaks, begins, opens, closes):
    """Returns the parts of words that symbols (N,) write, by number, where the parts of each word start among them, and
    of each word first step, last step and lowest probability.

    begins: (V,), the parts of symbol s have the numbers begins[s] to begins[s + 1].
    """
    total = 0
    for symbol in symbols:
        total += begins[symbol + 1] - begins[symbol]
    used, starts = np.empty(total, np.int64), np.empty(total + 1, np.int64)
    froms, tos, confidences = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total)
    count, filled, fresh = 0, 0, True
    for index in range(len(symbols)):
        symbol = symbols[index]
        fresh = fresh or opens[symbol]
        for part in range(begins[symbol], begins[symbol + 1]):
            if fresh:
                starts[count], froms[count], confidences[count] = filled, first[index], 1.0
                count += 1
            used[filled] = part
            filled += 1
            tos[count - 1] = last[index]
            confidences[count - 1] = min(confidences[count - 1], math.exp(peaks[index]))
            fresh = part + 1 < begins[symbol + 1] or closes[symbol]
    starts[count] = filled
    return used, starts[: count + 1], froms[:count], tos[:count], confidences[:count]
