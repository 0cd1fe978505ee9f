"""Text to counted n-grams, in bounded memory: a trie in levels, whose long arrays move to disk past a limit.

The n-grams of one length stand in the order of their contexts, so that the children of a context are a run, those
that begin with <s> are a run too, and every pass over a level reads it from front to back.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numba import njit

from carnelian.data.text.text_files import TEXT_CHUNK, read_chunks, wrong_encoding
from carnelian.errors import LanguageModelError

UNKNOWN, START, END = 0, 1, 2  # the numbers of <unk>, <s> and </s>
SPECIAL_WORDS = ("<unk>", "<s>", "</s>")
LIMIT = (1 << 31) - 1  # tokens and n-grams are counted in 32 bits


@njit(cache=True)
def word_hash(data, place):
    """The hash (never 0) of the word that starts at a place and ends before the next space, and the place of its end."""
    hashed = np.uint64(14695981039346656037)
    while data[place] > 32:
        hashed = (hashed ^ np.uint64(data[place])) * np.uint64(1099511628211)
        place += 1
    return (hashed ^ (hashed >> np.uint64(31))) | np.uint64(1), place


@njit(cache=True)
def word_slot(keys, key):
    """Where a word's hash stands in a table, or the free place (key 0) where it belongs."""
    mask = np.uint64(keys.shape[0] - 1)
    slot = (key >> np.uint64(1)) & mask
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@njit(cache=True)
def _tokenize(data, keys, numbers, known, tokens, fresh):
    """Words of whole lines to numbers, <s> before and </s> after each line; new words get the next numbers.

    Gives how many tokens and words there are, how many <s>, </s>, <unk> in the text were passed over, and how many
    bytes of the new words, each with a newline, were put into `fresh`.
    """
    used, written, skipped, place = 0, 0, 0, 0
    opened = False
    while place < data.shape[0]:
        if not opened:
            tokens[used] = START
            used += 1
            opened = True
        if data[place] == 10:
            tokens[used] = END
            used += 1
            opened = False
        if data[place] <= 32:
            place += 1
            continue
        first = place
        key, place = word_hash(data, place)
        slot = word_slot(keys, key)
        if keys[slot] == 0:
            keys[slot] = key
            numbers[slot] = known
            for index in range(first, place):
                fresh[written + index - first] = data[index]
            fresh[written + place - first] = 10
            written += place - first + 1
            known += 1
        if numbers[slot] <= END:
            skipped += 1
            continue
        tokens[used] = numbers[slot]
        used += 1
    return used, known, skipped, written


@njit(cache=True)
def _rehash(keys, numbers, larger_keys, larger_numbers):
    """Copy a table of words into a larger one."""
    for index in range(keys.shape[0]):
        if keys[index] != 0:
            slot = word_slot(larger_keys, keys[index])
            larger_keys[slot] = keys[index]
            larger_numbers[slot] = numbers[index]


def silent(amount: float = 1, text: str = "") -> None:
    """Takes what a progress bar would be told."""


class WordTable:
    """Words and their numbers as they are met."""

    def __init__(self) -> None:
        self.keys, self.numbers = np.zeros(0, np.uint64), np.zeros(0, np.int32)
        self.parts = ["".join(f"{word}\n" for word in SPECIAL_WORDS).encode()]
        self.size = 0
        self._room(TEXT_CHUNK)
        for word in SPECIAL_WORDS:
            key, _ = word_hash(np.frombuffer(word.encode() + b"\n", np.uint8), 0)
            slot = word_slot(self.keys, np.uint64(key))
            self.keys[slot], self.numbers[slot] = key, self.size
            self.size += 1

    def _room(self, words: int) -> None:
        size = 1 << math.ceil(math.log2(2 * (self.size + words)))
        if size > len(self.keys):
            keys, numbers = np.zeros(size, np.uint64), np.zeros(size, np.int32)
            _rehash(self.keys, self.numbers, keys, numbers)
            self.keys, self.numbers = keys, numbers

    def tokenize(self, chunk: bytes) -> tuple[np.ndarray, int, bytes]:
        """The tokens of whole lines, how many special words were passed over, and the new words, one a line."""
        data = np.frombuffer(chunk, np.uint8)
        self._room(len(data) // 2 + 1)
        tokens = np.empty(2 * chunk.count(b"\n") + len(data) // 2 + 2, np.int32)
        fresh = np.empty(len(data), np.uint8)
        used, self.size, skipped, written = _tokenize(data, self.keys, self.numbers, self.size, tokens, fresh)
        words = fresh[:written].tobytes()
        self.parts.append(words)
        return tokens[:used], skipped, words

    def text(self) -> np.ndarray:
        """All words, UTF-8, one a line, in the order of their numbers."""
        return np.frombuffer(b"".join(self.parts)[:-1], np.uint8)

    def numbers_of(self, words: list[str]) -> np.ndarray:
        """The numbers of those of the words that it holds."""
        found = []
        for word in words:
            key, _ = word_hash(np.frombuffer(word.encode() + b"\n", np.uint8), 0)
            slot = word_slot(self.keys, np.uint64(key))
            if self.keys[slot] == key:
                found.append(self.numbers[slot])
        return np.array(found, np.int32)


class Scratch:
    """Long arrays in memory, or, once `limit` bytes are asked for, in files that vanish with them."""

    def __init__(self, memory: int, directory: str | Path | None = None):
        self.memory = memory
        self.directory = directory
        self.on_disk = False

    def plan(self, tokens: int, order: int) -> None:
        """Decide where the arrays go for a text of so many tokens."""
        self.on_disk = tokens * (16 + 20 * order) > self.memory

    def array(self, size: int, dtype: type) -> np.ndarray:
        """A new array; its values are not set."""
        if not self.on_disk or size == 0:
            return np.empty(size, dtype)
        with tempfile.TemporaryFile(dir=self.directory) as file:
            file.truncate(size * np.dtype(dtype).itemsize)
            return np.asarray(np.memmap(file, dtype, "r+", shape=(size,)))

    def windows(self, size: int, width: int = 8) -> Iterator[tuple[int, int]]:
        """Ranges that cover `size` entries of so many bytes, each small enough to be reached at random in memory."""
        step = max(1024, self.memory // width) if self.on_disk else max(1, size)
        for low in range(0, size, step):
            yield low, min(low + step, size)


@dataclass
class Level:
    """The n-grams of one length; M of them, of M' contexts one word shorter.

    first: (M' + 1,), where the children of each context begin; word: (M,), the last word; suffix: (M,), the number
    of the n-gram without its first word one level below; count: (M,); start: the run of those that begin with <s>;
    last: the one that is last when words are compared from the last to the first, or -1.
    """

    first: np.ndarray
    word: np.ndarray
    suffix: np.ndarray
    count: np.ndarray
    start: tuple[int, int]
    last: int = -1

    def __len__(self) -> int:
        return len(self.word)


@dataclass
class Counts:
    """Counted n-grams of a text: levels[k] holds those of k + 1 words. text: the words, as `NGram.text` has them."""

    text: np.ndarray
    levels: list[Level]
    tokens: int
    skipped: int
    vocabulary: WordTable = field(repr=False)


@njit(cache=True)
def _last_place(tokens, order):
    """The place of the n-gram that is last when compared from its last word to its first."""
    best = -1
    for place in range(tokens.shape[0]):
        if best < 0:
            best = place
        for back in range(order):
            mine, others = tokens[place - back], tokens[best - back]
            if mine != others:
                if mine > others:
                    best = place
                break
            if mine == START:
                break
    return best


@njit(cache=True)
def _count(tokens, count):
    """How often each word stands in the text."""
    for place in range(tokens.shape[0]):
        count[tokens[place]] += 1


@njit(cache=True)
def _followed(word, count, sizes):
    """How many words follow each n-gram in the text (none an </s>), into `sizes`, and in all."""
    total = 0
    for index in range(word.shape[0]):
        sizes[index] = 0 if word[index] == END else count[index]
        total += sizes[index]
    return total


@njit(cache=True)
def _gather(tokens, previous, low, high, after, follow):
    """What follows the contexts low to high, sorted by context: each word, and the suffix of the n-gram it ends.

    previous: the number of the n-gram one shorter that ends at each place; `after` moves to the end of each run.
    """
    for place in range(1, tokens.shape[0]):
        context = previous[place - 1]
        if low <= context < high and tokens[place] != START:
            slot = after[context - low]
            follow[slot, 0] = tokens[place]
            follow[slot, 1] = previous[place]
            after[context - low] = slot + 1


@njit(cache=True)
def _unite(low, high, begins, follow, seen, used, first, word, suffix, count):
    """Number the different words of each context, put in place of the words. Gives how many n-grams there are now."""
    for context in range(low, high):
        first[context] = used
        for index in range(begins[context - low], begins[context - low + 1]):
            found = seen[follow[index, 0]]
            if found < first[context]:
                found = used
                seen[follow[index, 0]] = used
                word[used] = follow[index, 0]
                suffix[used] = follow[index, 1]
                count[used] = 0
                used += 1
            count[found] += 1
            follow[index, 0] = found
    return used


@njit(cache=True)
def _spread(tokens, previous, low, high, after, follow, current):
    """The number of the n-gram that ends at each place."""
    for place in range(1, tokens.shape[0]):
        context = previous[place - 1]
        if low <= context < high and tokens[place] != START:
            current[place] = follow[after[context - low], 0]
            after[context - low] += 1


def _windows(sizes: np.ndarray, limit: int) -> Iterator[tuple[int, int]]:
    """Ranges of contexts that are followed by at most `limit` words together, one context at least."""
    low = 0
    while low < len(sizes):
        sums = np.cumsum(sizes[low : low + limit], dtype=np.int64)
        high = low + max(1, int(np.searchsorted(sums, limit, "right")))
        yield low, high
        low = high


def _extend(
    below: Level, tokens: np.ndarray, previous: np.ndarray, size: int, scratch: Scratch, longest: bool
) -> tuple[Level, np.ndarray]:
    """The level above `below`, and the number of its n-gram that ends at each place (-1 for none).

    previous: the same for `below`; size: of the vocabulary; longest: the numbers are not wanted, and none are set.
    """
    sizes = scratch.array(len(below), np.int32)  # words that follow each context
    total = _followed(below.word, below.count, sizes)
    word, suffix, count = (scratch.array(total, np.int32) for _ in range(3))
    first = scratch.array(len(below) + 1, np.int32)
    current = scratch.array(0 if longest else len(tokens), np.int32)
    current[:] = -1
    seen = np.full(size, -1, np.int32)
    used = 0
    windows = _windows(sizes, max(1024, scratch.memory // 16)) if scratch.on_disk else [(0, len(sizes))]
    for low, high in windows:
        begins = np.zeros(high - low + 1, np.int32)
        np.cumsum(sizes[low:high], out=begins[1:])
        follow = np.empty((begins[-1], 2), np.int32)
        _gather(tokens, previous, low, high, begins[:-1].copy(), follow)
        used = _unite(low, high, begins, follow, seen, used, first, word, suffix, count)
        if not longest:
            _spread(tokens, previous, low, high, begins[:-1].copy(), follow, current)
    first[len(below)] = used
    start = (int(first[below.start[0]]), int(first[below.start[1]]))
    return Level(first, word[:used], suffix[:used], count[:used], start), current


def _read(
    texts: list[str | Path], vocabulary: WordTable, scratch: Scratch, order: int, advance: Callable[..., None]
) -> tuple[np.ndarray, int]:
    """All tokens of the texts, and how many special words were passed over."""
    parts: list[np.ndarray] = []
    total, skipped, spilled = 0, 0, None
    for path in texts:
        line = 1
        for chunk in read_chunks(path):
            tokens, passed, fresh = vocabulary.tokenize(chunk)
            try:
                fresh.decode()
            except UnicodeDecodeError:
                raise wrong_encoding(path, line, chunk) from None
            line += chunk.count(b"\n")
            skipped += passed
            total += len(tokens)
            if total > LIMIT:
                raise LanguageModelError(f"{path}: more than 2^31 words in all. Build models of parts and mix them")
            parts.append(tokens.copy())
            if 4 * total > scratch.memory // 4:
                spilled = spilled or tempfile.TemporaryFile(dir=scratch.directory)  # noqa: SIM115
                np.concatenate(parts).tofile(spilled)
                parts = []
            advance(len(chunk))
    scratch.plan(total, order)
    if spilled is None:
        return np.concatenate(parts) if parts else np.zeros(0, np.int32), skipped
    np.concatenate([*parts, np.zeros(0, np.int32)]).tofile(spilled)
    spilled.flush()
    with spilled:
        return np.asarray(np.memmap(spilled, np.int32, "r+", shape=(total,))), skipped


def count_ngrams(
    texts: list[str | Path], order: int, scratch: Scratch, advance: Callable[..., None] = silent
) -> Counts:
    """Counted n-grams of texts, one sentence a line; `advance` is told the bytes read. "-" is standard input."""
    vocabulary = WordTable()
    tokens, skipped = _read(texts, vocabulary, scratch, order, advance)
    if vocabulary.size == len(SPECIAL_WORDS):
        raise LanguageModelError(f"{', '.join(map(str, texts))}: found no words. Give text, one sentence a line")
    numbers = np.arange(vocabulary.size, dtype=np.int32)
    count = np.zeros(vocabulary.size, np.int32)
    _count(tokens, count)
    last = _last_place(tokens, order)
    level = Level(
        np.array([0, len(count)], np.int32), numbers, np.zeros(len(count), np.int32), count, (START, START + 1)
    )
    level.last = int(tokens[last])
    levels, current = [level], tokens
    for length in range(2, order + 1):
        level, current = _extend(levels[-1], tokens, current, vocabulary.size, scratch, length == order)
        level.last = int(current[last]) if length < order else -1
        levels.append(level)
    return Counts(vocabulary.text(), levels, len(tokens) - 2 * int(count[START]), skipped, vocabulary)
