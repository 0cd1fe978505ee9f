"""The table from the words of a text to their numbers, compiled. What a word is: `data.text.text_files.split_words`."""

import math

import numpy as np

from carnelian.data.text.text_files import TEXT_CHUNK
from carnelian.jit import cached

UNKNOWN, START, END = 0, 1, 2  # the numbers of <unk>, <s> and </s>
SPECIAL_WORDS = ("<unk>", "<s>", "</s>")


@cached
def separates(byte):
    """Whether a byte separates words in an ARPA file; in text NUL does as well and is turned into a space beforehand."""
    return byte == 32 or byte == 9 or byte == 10 or byte == 13


@cached
def word_hash(data, position):
    """The hash (never 0) of the word that starts at an index and ends before the next separator, and the index of its end."""
    hashed = np.uint64(14695981039346656037)
    while data[position] > 32 or not separates(data[position]):
        hashed = (hashed ^ np.uint64(data[position])) * np.uint64(1099511628211)
        position += 1
    return (hashed ^ (hashed >> np.uint64(31))) | np.uint64(1), position


@cached
def word_slot(keys, key):
    """The slot of a word's hash in a table, or the free slot (key 0) where it belongs."""
    mask = np.uint64(keys.shape[0] - 1)
    slot = (key >> np.uint64(1)) & mask
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@cached  # over bytes rather than Python strings, which decides the speed of reading (benchmarks/language_model.py)
def _tokenize(data, keys, numbers, known, tokens, fresh):
    """Words of whole lines to numbers, <s> before and </s> after each line; new words get the next numbers.

    Returns how many tokens and words there are, how many <s>, </s>, <unk> in the text were skipped, and how many
    bytes of the new words, each with a newline, were put into `fresh`.
    """
    used, written, skipped, position = 0, 0, 0, 0
    opened = False
    while position < data.shape[0]:
        if not opened:
            tokens[used] = START
            used += 1
            opened = True
        if data[position] == 10:
            tokens[used] = END
            used += 1
            opened = False
        if data[position] <= 32 and separates(data[position]):
            position += 1
            continue
        first = position
        key, position = word_hash(data, position)
        slot = word_slot(keys, key)
        if keys[slot] == 0:
            keys[slot] = key
            numbers[slot] = known
            for index in range(first, position):
                fresh[written + index - first] = data[index]
            fresh[written + position - first] = 10
            written += position - first + 1
            known += 1
        if numbers[slot] <= END:
            skipped += 1
            continue
        tokens[used] = numbers[slot]
        used += 1
    return used, known, skipped, written


@cached
def _rehash(keys, numbers, larger_keys, larger_numbers):
    """Copy a table of words into a larger one."""
    for index in range(keys.shape[0]):
        if keys[index] != 0:
            slot = word_slot(larger_keys, keys[index])
            larger_keys[slot] = keys[index]
            larger_numbers[slot] = numbers[index]


def key_of(word: str) -> np.uint64:
    """The hash of a word, as `word_hash` computes it."""
    key, _ = word_hash(np.frombuffer(bytearray(word.encode() + b"\n"), np.uint8), 0)
    return np.uint64(key)


class WordTable:
    """Words and their numbers, in the order in which they are met."""

    def __init__(self) -> None:
        self.keys, self.numbers = np.zeros(0, np.uint64), np.zeros(0, np.int32)
        self.parts = ["".join(f"{word}\n" for word in SPECIAL_WORDS).encode()]
        self.size = 0
        self._reserve(TEXT_CHUNK)
        for word in SPECIAL_WORDS:
            key = key_of(word)
            slot = word_slot(self.keys, key)
            self.keys[slot], self.numbers[slot] = key, self.size
            self.size += 1

    def _reserve(self, words: int) -> None:
        """Makes the table large enough for the given number of further words."""
        size = 1 << math.ceil(math.log2(2 * (self.size + words)))
        if size > len(self.keys):
            keys, numbers = np.zeros(size, np.uint64), np.zeros(size, np.int32)
            _rehash(self.keys, self.numbers, keys, numbers)
            self.keys, self.numbers = keys, numbers

    def tokenize(self, chunk: bytes) -> tuple[np.ndarray, int, bytes]:
        """Returns the tokens of whole lines, how many special words were skipped, and the new words, one a line."""
        if b"\0" in chunk:
            chunk = chunk.replace(b"\0", b" ")
        data = np.frombuffer(bytearray(chunk), np.uint8)
        self._reserve(len(data) // 2 + 1)
        tokens = np.empty(2 * chunk.count(b"\n") + len(data) // 2 + 2, np.int32)
        fresh = np.empty(len(data), np.uint8)
        used, self.size, skipped, written = _tokenize(data, self.keys, self.numbers, self.size, tokens, fresh)
        words = fresh[:written].tobytes()
        self.parts.append(words)
        return tokens[:used], skipped, words

    def text(self) -> np.ndarray:
        """Returns all words, UTF-8, one a line, in the order of their numbers."""
        return np.frombuffer(b"".join(self.parts)[:-1], np.uint8)

    def numbers_of(self, words: list[str]) -> np.ndarray:
        """Returns the numbers of those of the words that it holds."""
        found = []
        for word in words:
            key = key_of(word)
            slot = word_slot(self.keys, key)
            if self.keys[slot] == key:
                found.append(self.numbers[slot])
        return np.array(found, np.int32)
