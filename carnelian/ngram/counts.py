"""Text to counted n-grams, in bounded memory: a trie in levels, whose long arrays move to disk past a limit.

The n-grams of one length stand in the order of their contexts, so that the children of a context are a run, those
that begin with <s> are a run too, and every pass over a level reads it from front to back.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from carnelian.data.text.text_files import read_chunks, wrong_encoding
from carnelian.errors import LanguageModelError
from carnelian.jit import cached, released
from carnelian.ngram.words import END, SPECIAL_WORDS, START, WordTable
from carnelian.parallel import in_parallel

MOST_THREADS = 4  # each reads the whole text
LIMIT = (1 << 31) - 1  # tokens and n-grams are counted in 32 bits


def silent(amount: float = 1, text: str = "") -> None:
    """Stands for a progress bar that nobody sees."""


class Scratch:
    """Makes long arrays in memory or, where a text needs more than `memory` bytes, in temporary files without a name."""

    def __init__(self, memory: int, directory: str | Path | None = None):
        self.memory = memory
        self.directory = directory
        self.on_disk = False

    def plan(self, tokens: int, order: int) -> None:
        """Decides whether the arrays for a text of `tokens` tokens go to disk."""
        self.on_disk = tokens * (16 + 20 * order) > self.memory

    def array(self, size: int, dtype: type) -> np.ndarray:
        """Returns a new array; its values are not set. Raises LanguageModelError where the disk has no room for it."""
        if not self.on_disk or size == 0:
            return np.empty(size, dtype)
        with self.file() as file, self.on_the_disk():
            # reserved now: a page that finds the disk full later would end the process
            os.posix_fallocate(file.fileno(), 0, size * np.dtype(dtype).itemsize)
            return np.asarray(np.memmap(file, dtype, "r+", shape=(size,)))

    def file(self) -> IO[bytes]:
        """Returns a new temporary file. Raises LanguageModelError where none can be made."""
        with self.on_the_disk():
            return tempfile.TemporaryFile(dir=self.directory)

    @contextmanager
    def on_the_disk(self) -> Iterator[None]:
        """Raises a LanguageModelError of one line for an OSError of the body, which works on temporary files."""
        try:
            yield
        except OSError as error:
            folder = self.directory or tempfile.gettempdir()
            raise LanguageModelError(
                f"{folder}: no temporary file can be written there ({error.strerror or error}). Give another folder "
                "with --temporary, or more memory with --memory"
            ) from None

    def windows(self, size: int, width: int = 8) -> Iterator[tuple[int, int]]:
        """Returns ranges that cover `size` entries of `width` bytes, each small enough for random access in memory."""
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


@cached
def _last_place(tokens, order):
    """The position of the n-gram that is last when compared from its last word to its first."""
    best = -1
    for position in range(tokens.shape[0]):
        if best < 0:
            best = position
        for back in range(order):
            mine, others = tokens[position - back], tokens[best - back]
            if mine != others:
                if mine > others:
                    best = position
                break
            if mine == START:
                break
    return best


@cached
def _count(tokens, count):
    """How often each word stands in the text."""
    for position in range(tokens.shape[0]):
        count[tokens[position]] += 1


@cached
def _followed(word, count, sizes):
    """How many words follow each n-gram in the text (none an </s>), into `sizes`, and in all."""
    total = 0
    for index in range(word.shape[0]):
        sizes[index] = 0 if word[index] == END else count[index]
        total += sizes[index]
    return total


@released
def _gather(tokens, previous, low, high, after, follow):
    """What follows the contexts low to high, sorted by context: each word, and the suffix of the n-gram it ends.

    previous: the number of the n-gram one shorter that ends at each position; `after` moves to the end of each run.
    """
    for position in range(1, tokens.shape[0]):
        context = previous[position - 1]
        if low <= context < high and tokens[position] != START:
            slot = after[context - low]
            follow[slot, 0] = tokens[position]
            follow[slot, 1] = previous[position]
            after[context - low] = slot + 1


@released
def _unite(low, high, begins, follow, seen, used, first, word, suffix, count):
    """Numbers the different words of each context from `used` on, in place of the words; returns the number after the last."""
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


@released
def _spread(tokens, previous, low, high, after, follow, shift, current):
    """Writes the number of the n-gram that ends at each position, less `shift`, into `current`."""
    for position in range(1, tokens.shape[0]):
        context = previous[position - 1]
        if low <= context < high and tokens[position] != START:
            current[position] = follow[after[context - low], 0] - shift
            after[context - low] += 1


def _windows(sizes: np.ndarray, limit: int) -> Iterator[tuple[int, int]]:
    """Ranges of contexts that are followed by at most `limit` words together, one context at least."""
    low = 0
    while low < len(sizes):
        sums = np.cumsum(sizes[low : low + limit], dtype=np.int64)
        high = low + max(1, int(np.searchsorted(sums, limit, "right")))
        yield low, high
        low = high


def _windows_at_once(sizes: np.ndarray, total: int, scratch: Scratch) -> Iterator[list[tuple[int, int]]]:
    """Ranges of contexts that are worked on together: one where arrays are on disk, else one for each of a few threads."""
    if scratch.on_disk:
        yield from ([window] for window in _windows(sizes, max(1024, scratch.memory // 16)))
    else:
        threads = min(os.cpu_count() or 1, MOST_THREADS)
        yield list(_windows(sizes, max(1024, -(-total // threads))))


@dataclass
class _Extension:
    """A level in the making: its arrays (see Level) with room for all that may come, and what they are made from.

    previous: the number of the n-gram one shorter that ends at each position of the text; current: the same for the new level.
    sizes: words that follow each context; vocabulary: the number of words.
    """

    tokens: np.ndarray
    previous: np.ndarray
    sizes: np.ndarray
    vocabulary: int
    first: np.ndarray
    word: np.ndarray
    suffix: np.ndarray
    count: np.ndarray
    current: np.ndarray

    def add(self, windows: list[tuple[int, int]], used: int, longest: bool) -> int:
        """Adds the n-grams of ranges of contexts, each range in a thread; returns how many n-grams there are then."""
        # each thread writes where it may if no word follows a context twice; the gaps that this leaves are closed afterwards
        room = [int(self.sizes[low:high].sum(dtype=np.int64)) for low, high in windows]
        at = [used + sum(room[:index]) for index in range(len(room))]
        done = list(in_parallel(lambda job: self.unite(*job), [(*window, begin) for window, begin in zip(windows, at)]))
        jobs = []
        for (low, high), begin, (begins, follow, end) in zip(windows, at, done):
            jobs.append((low, high, begins, follow, begin - used))
            for numbers in (self.word, self.suffix, self.count) if begin > used else ():
                numbers[used : used + end - begin] = numbers[begin:end]
            self.first[low:high] -= begin - used
            used += end - begin
        if not longest:
            list(in_parallel(lambda job: _spread(self.tokens, self.previous, *job, self.current), jobs))
        return used

    def unite(self, low: int, high: int, at: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Writes the n-grams of the contexts low to high from `at` on.

        Returns where what follows each context begins in the second array, which holds the numbers, and the number after the last.
        """
        begins = np.zeros(high - low + 1, np.int32)
        np.cumsum(self.sizes[low:high], out=begins[1:])
        follow = np.empty((begins[-1], 2), np.int32)
        _gather(self.tokens, self.previous, low, high, begins[:-1].copy(), follow)
        seen = np.full(self.vocabulary, -1, np.int32)
        end = _unite(low, high, begins, follow, seen, at, self.first, self.word, self.suffix, self.count)
        return begins[:-1], follow, end


def _extend(
    below: Level, tokens: np.ndarray, previous: np.ndarray, size: int, scratch: Scratch, longest: bool
) -> tuple[Level, np.ndarray]:
    """The level above `below`, and the number of its n-gram that ends at each position (-1 for none).

    previous: the same for `below`; size: of the vocabulary; longest: the numbers are not wanted, and none are set.
    """
    sizes = scratch.array(len(below), np.int32)
    total = _followed(below.word, below.count, sizes)
    word, suffix, count = (scratch.array(total, np.int32) for _ in range(3))
    first = scratch.array(len(below) + 1, np.int32)
    current = scratch.array(0 if longest else len(tokens), np.int32)
    current[:] = -1
    extension = _Extension(tokens, previous, sizes, size, first, word, suffix, count, current)
    used = 0
    for windows in _windows_at_once(sizes, total, scratch):
        used = extension.add(windows, used, longest)
    first[len(below)] = used
    start = (int(first[below.start[0]]), int(first[below.start[1]]))
    return Level(first, word[:used], suffix[:used], count[:used], start), current


def read_tokens(
    texts: list[str | Path], vocabulary: WordTable, scratch: Scratch, order: int, advance: Callable[..., None]
) -> tuple[np.ndarray, int]:
    """Returns all tokens of texts, <s> before and </s> after each line, and how many special words were passed over."""
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
                spilled = spilled or scratch.file()
                with scratch.on_the_disk():
                    spilled.write(np.concatenate(parts).data)
                parts = []
            advance(len(chunk))
    scratch.plan(total, order)
    if spilled is None:
        return np.concatenate(parts) if parts else np.zeros(0, np.int32), skipped
    with spilled, scratch.on_the_disk():
        spilled.write(np.concatenate([*parts, np.zeros(0, np.int32)]).data)
        spilled.flush()
        return np.asarray(np.memmap(spilled, np.int32, "r+", shape=(total,))), skipped


def count_ngrams(
    texts: list[str | Path], order: int, scratch: Scratch, advance: Callable[..., None] = silent
) -> Counts:
    """Counted n-grams of texts, one sentence a line; `advance` is called with the bytes read. "-" is standard input."""
    vocabulary = WordTable()
    tokens, skipped = read_tokens(texts, vocabulary, scratch, order, advance)
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
