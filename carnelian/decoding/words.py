"""From symbols placed on output steps to words placed on output steps."""

from typing import Any, NamedTuple

import numpy as np

from carnelian.data.alphabet import Alphabet
from carnelian.data.transcript import Span


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
    """Symbols of an utterance whose output steps no longer change, collected in chunks."""

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
        self.texts = [spelled.decode(errors="replace") for spelled in alphabet.spelling]
        self.whole = all(text.encode() == spelled for text, spelled in zip(self.texts, alphabet.spelling))  # characters
        self.parts = [part for symbol in symbols for part in symbol.parts]
        #: how many parts each symbol writes, and where its first one lies in `parts`
        self.counts = np.array([len(symbol.parts) for symbol in symbols], np.int64)
        self.begins = np.cumsum(self.counts) - self.counts
        self.opens = np.array([symbol.opens for symbol in symbols], bool)
        self.closes = np.array([symbol.closes and bool(symbol.parts) for symbol in symbols], bool)
        self.simple = not self.closes.any() and self.counts.max(initial=0) <= 1  # white space stands before words only

    def spans(self, symbols: np.ndarray, first: np.ndarray, last: np.ndarray, peaks: np.ndarray) -> tuple[Span, ...]:
        """Returns the words that symbols (N,) spell, each symbol lying on the output steps `first` to `last`.

        `peaks` is each symbol's highest log-probability on them; a word is as sure as its least sure symbol.
        """
        writer, place, starts = self.group(symbols)
        if not len(starts):
            return ()
        ends = np.append(starts[1:], len(writer))
        if self.whole:  # faster, since no word is decoded (benchmarks/decoding.py, greedy)
            words = "".join([self.texts[symbol] for symbol in symbols.tolist()]).split()
        else:
            parts = [self.parts[number] for number in (self.begins[symbols[writer]] + place).tolist()]
            ranges = zip(starts.tolist(), ends.tolist())
            words = [b"".join(parts[begin:end]).decode(errors="replace") for begin, end in ranges]
        confidences = np.exp(np.minimum.reduceat(peaks[writer], starts), dtype=np.float64)
        steps = first[writer[starts]], last[writer[ends - 1]], np.minimum(confidences, 1.0)
        return tuple(map(Span._make, zip(words, *[values.tolist() for values in steps])))

    def group(self, symbols: np.ndarray) -> tuple[np.ndarray, Any, np.ndarray]:
        """Groups the parts of words that symbols (N,) write, in their order.

        Returns of each part the index of the symbol that writes it and its place among that symbol's parts (0 where no symbol
        has several), and the indices of the parts that begin a word.
        """
        divided = self.opens[symbols]
        counts = self.counts[symbols]
        if self.simple:
            writer, place = counts.nonzero()[0], 0
        else:
            divided[1:] |= self.closes[symbols[:-1]]
            writer = np.repeat(np.arange(len(symbols)), counts)
            place = np.arange(len(writer)) - (np.cumsum(counts) - counts)[writer]
        words = divided.cumsum()[writer]  # numbers that change where white space stands
        begins = np.empty(len(writer), bool)
        begins[:1] = True
        np.not_equal(words[1:], words[:-1], out=begins[1:])
        if not self.simple:  # a symbol has several parts where white space divides them
            begins |= place > 0
        return writer, place, begins.nonzero()[0]
