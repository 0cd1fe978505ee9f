"""N-grams in the hash tables of a KenLM binary ("probing"), scored from the mapped file.

Such a table holds a hash of each n-gram's words, not the words: it can be searched, but not listed. So its contexts
cannot be numbered beforehand as in `NGram`; each search numbers those that it meets, in arrays of its own.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from carnelian.jit import cached

LN10 = math.log(10)  # a log-probability to base 10 times this is a natural one
MIDDLE_ORDERS = np.dtype([("key", "<u8"), ("probability", "<f4"), ("backoff", "<f4")])
HIGHEST_ORDER = np.dtype([("key", "<u8"), ("probability", "<f4")])
NATURAL = np.float32(LN10)


class Hashed(NamedTuple):
    """The tables, log10 as in the file, and the contexts of two words or more that one search has met.

    Context i is state V + i; a state below V is that word alone, as in `NGram`. Words are stored last first.
    """

    middle: np.ndarray  # (M,) MIDDLE: open addressing, one table after the other for 2 to n - 1 words; key 0 is free
    starts: np.ndarray  # (n - 1,) int64: where in `middle` each of them begins, and the end of the last
    longest: np.ndarray  # MIDDLE's twin for n words
    lengths: np.ndarray  # (C,) int32: words of each context
    words: np.ndarray  # (C, n - 1) int32
    backoffs: np.ndarray  # (C, n - 1) float32, natural: of the last word, the last two, ...
    slots: np.ndarray  # (2^k,) int32: a hash table of the contexts' numbers from 1 on; 0 is free
    used: np.ndarray  # (1,) int64: contexts there are


def hashed_tables(middle: np.ndarray, starts: np.ndarray, longest: np.ndarray) -> Hashed:
    """Returns the tables of a file, without capacity for contexts yet: see `with_context_capacity`."""
    width = len(starts)
    return Hashed(
        middle,
        starts,
        longest,
        np.empty(0, np.int32),
        np.empty((0, width), np.int32),
        np.empty((0, width), np.float32),
        np.zeros(1, np.int32),
        np.zeros(1, np.int64),
    )


def with_context_capacity(hashed: Hashed, questions: int) -> Hashed:
    """Returns the tables with capacity for the contexts of `questions` further scores; the first call makes arrays of its own."""
    used = int(hashed.used[0])
    if used + questions < len(hashed.lengths):
        return hashed
    size = 2 * (used + questions) + 1  # pages that nobody touches cost nothing
    larger = hashed._replace(
        lengths=np.empty(size, np.int32),
        words=np.empty((size, len(hashed.starts)), np.int32),
        backoffs=np.empty((size, len(hashed.starts)), np.float32),
        slots=np.zeros(1 << (2 * size).bit_length(), np.int32),
        used=np.zeros(1, np.int64),
    )
    for name in ("lengths", "words", "backoffs"):
        getattr(larger, name)[:used] = getattr(hashed, name)[:used]
    number_again(larger, used)
    return larger


def keep_contexts(hashed: Hashed, kept: np.ndarray) -> None:
    """Forgets all contexts but some (K,), given by their numbers in ascending order, which become the first K."""
    for values in (hashed.lengths, hashed.words, hashed.backoffs):
        values[: len(kept)] = values[kept]
    hashed.slots[:] = 0
    hashed.used[0] = 0
    number_again(hashed, len(kept))


def met_contexts(hashed: Hashed) -> dict[str, np.ndarray]:
    """The contexts that a search has met, as arrays by name: see `enter_contexts`."""
    return {name: getattr(hashed, name)[: hashed.used[0]] for name in ("lengths", "words", "backoffs")}


def enter_contexts(hashed: Hashed, contexts: Mapping[str, np.ndarray]) -> None:
    """Makes those of another search the first ones of tables that have capacity for them and hold none."""
    for name, values in contexts.items():
        getattr(hashed, name)[: len(values)] = values
    number_again(hashed, len(contexts["lengths"]))


def words_of(hashed: Hashed, context: int) -> tuple[int, ...]:
    """Returns the words of a context, in their order in the text."""
    return tuple(hashed.words[context, : hashed.lengths[context]][::-1].tolist())


@cached
def number_again(hashed, used):
    """Enters the first contexts, which are all different, into the hash table."""
    for _ in range(used):
        context_number(hashed)


@cached
def score_hashed(model, state, word):
    """Returns the natural log-probability (float32) of a word after a state, and the state after it, as `score_word` does.

    model: Tables, with capacity for one more context. Follows FullScore of KenLM's lm/model.cc.
    """
    hashed, vocabulary = model.hashed, len(model.unigrams)
    new = hashed.used[0]  # what the context after the word may become
    hashed.words[new, 0], hashed.backoffs[new, 0] = word, model.states[word].backoff
    score, key = model.unigrams[word], np.uint64(word)
    known = 0 if state < 0 else 1 if state < vocabulary else hashed.lengths[state - vocabulary]
    found, kept = 1, 1  # words of the longest n-gram found, and of that which may be the next one's context
    while found <= known:
        before = state if state < vocabulary else hashed.words[state - vocabulary, found - 1]
        key = with_word(key, before)
        if found < len(hashed.starts):
            first, end = hashed.starts[found - 1], hashed.starts[found]
            slot = find_slot(hashed.middle, first, end, key)
            if slot < 0:
                break
            entry = hashed.middle[slot]
            score = -abs(entry.probability) * NATURAL  # the sign tells KenLM something else
            hashed.words[new, found], hashed.backoffs[new, found] = before, entry.backoff * NATURAL
            if entry.backoff != 0 or math.copysign(1.0, entry.backoff) > 0:  # -0 where no longer n-gram begins so
                kept = found + 1
        else:
            slot = find_slot(hashed.longest, 0, len(hashed.longest), key)
            if slot < 0:
                break
            score = -abs(hashed.longest[slot].probability) * NATURAL
        found += 1
    for length in range(found, known + 1):
        score += model.states[state].backoff if state < vocabulary else hashed.backoffs[state - vocabulary, length - 1]
    if kept == 1:
        return score, np.int32(word)
    hashed.lengths[new] = kept
    return score, np.int32(vocabulary + context_number(hashed))


@cached
def with_word(key, word):
    """The key of some words, last first, and one more before them (CombineWordHash of KenLM's lm/search_hashed.hh)."""
    return (key * np.uint64(8978948897894561157)) ^ (np.uint64(word + 1) * np.uint64(17894857484156487943))


@cached
def find_slot(table, first, end, key):
    """Returns the slot of table[first:end] that holds a key, -1 if none does."""
    size = end - first
    slot = first + np.int64(key % np.uint64(size))
    for _ in range(size):
        if table[slot].key == key:
            return slot
        if table[slot].key == 0:
            return -1
        slot += 1
        if slot == end:
            slot = first
    return -1


@cached
def context_number(hashed):
    """Returns the number of the context that was written after the used ones: that of an equal one, or a new one."""
    new = hashed.used[0]
    length = hashed.lengths[new]
    key = np.uint64(length)
    for index in range(length):
        key = with_word(key, hashed.words[new, index])
    mask = np.uint64(len(hashed.slots) - 1)
    slot = (key ^ (key >> np.uint64(32))) & mask
    while hashed.slots[slot] != 0:
        old = hashed.slots[slot] - 1
        same = hashed.lengths[old] == length
        for index in range(length):
            same = same and hashed.words[old, index] == hashed.words[new, index]
        if same:
            return old
        slot = (slot + np.uint64(1)) & mask
    hashed.slots[slot] = new + 1
    hashed.used[0] = new + 1
    return new
