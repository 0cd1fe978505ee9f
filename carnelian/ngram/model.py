"""An n-gram language model as flat arrays: a state per context, arcs in one hash table, scores in natural logarithms.

A state is an n-gram that may still be extended (a context). State w is the word w alone; the empty context is -1.
An arc (state, word) exists where the model holds that n-gram; where it does not, the search pays the state's
back-off and tries again from its next shorter context, as in a suffix automaton.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from carnelian.data.text.text_files import split_words
from carnelian.errors import LanguageModelError
from carnelian.jit import cached
from carnelian.ngram.hashed import LN10, Hashed, keep_contexts, score_hashed, with_context_capacity, words_of

EMPTY = -1  # the state that knows no words before it
FREE = np.uint64(0xFFFFFFFFFFFFFFFF)  # the key of a free slot in the table of arcs
LONGEST = 64  # words of the longest n-gram that any model may hold
LARGEST_LOG10 = 1e30  # log10 from here on is no value of a model
LARGEST_BACKOFF = 100.0  # log10; a back-off weight may be above 1 (SRILM writes such), but not out of all proportion
MISSING_UNKNOWN = -100.0  # log10 that KenLM gives <unk> where a model has none

State = int | tuple[int, ...]  # between searches; of a KenLM binary's contexts, their words

ARC = np.dtype([("key", "<u8"), ("probability", "<f4"), ("target", "<i4")])
STATE = np.dtype([("backoff", "<f4"), ("shorter", "<i4")])


class Tables(NamedTuple):
    """The arrays of a model, for compiled code; passed whole to `score_word`.

    unigrams: (V,) float32, log-probability of each word in the empty context; its state afterwards is the word's number.
    arcs: (2^k,) ARC, open addressing; `key` is state << 32 | word, `target` the state after the word.
    states: (S,) STATE, S >= V; back-off of each context, and the next shorter one (EMPTY after a single word).
    hashed: of a KenLM binary what stands in place of arcs and of states from V on.
    """

    unigrams: np.ndarray
    arcs: np.ndarray
    states: np.ndarray
    hashed: Hashed | None = None


class NGramBlock(NamedTuple):
    """N-grams of one length: words (M, n) int32, natural logarithms of probabilities and back-offs (M,)."""

    words: np.ndarray
    probabilities: np.ndarray
    backoffs: np.ndarray


@cached
def arc_slot(arcs, key):
    """Returns the slot of the table that holds this key, or the free one where it belongs."""
    mask = np.uint64(arcs.shape[0] - 1)
    mixed = key * np.uint64(0x9E3779B97F4A7C15)
    slot = (mixed ^ (mixed >> np.uint64(32))) & mask
    while arcs[slot].key != key and arcs[slot].key != FREE:
        slot = (slot + np.uint64(1)) & mask
    return slot


@cached
def arc_key(state, word):
    """State and word as one number."""
    return (np.uint64(state) << np.uint64(32)) | np.uint64(word)


@cached
def score_word(model, state, word):
    """Natural log-probability (float32) of a word after a state, and the state after it.

    model: Tables; state: EMPTY, or what a former call gave; word: 0 to V - 1.
    """
    return _score(model, model.hashed, state, word)


@cached
def _score(model, hashed, state, word):
    if hashed is not None:  # decided when this is compiled for the one or the other
        return score_hashed(model, state, word)
    total = np.float32(0.0)
    while state >= 0:
        arc = model.arcs[arc_slot(model.arcs, arc_key(state, word))]
        if arc.key != FREE:
            return total + arc.probability, arc.target
        total += model.states[state].backoff
        state = model.states[state].shorter
    return total + model.unigrams[word], np.int32(word)


@cached
def score_words(model, state, words, scores):
    """Fills `scores` with the log-probability of each word after the ones before it; returns the last state."""
    for index in range(words.shape[0]):
        scores[index], state = score_word(model, state, words[index])
    return state


def with_context_capacity_for(tables: Tables, questions: int) -> Tables:
    """Returns the tables with capacity for `questions` further scores in one search, where they need any (KenLM's hash tables)."""
    hashed = tables.hashed and with_context_capacity(tables.hashed, questions)
    return tables if hashed is tables.hashed else tables._replace(hashed=hashed)


def keep_states(tables: Tables, states: np.ndarray) -> np.ndarray:
    """Forgets all contexts that a search has met but those of some states (N,); returns the states' new numbers."""
    if tables.hashed is None or not len(tables.hashed.lengths):
        return states
    beyond = states - len(tables.unigrams)
    kept = np.unique(beyond[beyond >= 0])
    keep_contexts(tables.hashed, kept)
    return np.where(beyond < 0, states, len(tables.unigrams) + np.searchsorted(kept, beyond)).astype(states.dtype)


def handed_out(tables: Tables, state: int) -> State:
    """Returns a state in a form that another search can take (`taken_in`)."""
    beyond = state - len(tables.unigrams)
    return state if tables.hashed is None or beyond < 0 else words_of(tables.hashed, beyond)


def taken_in(tables: Tables, state: State) -> int:
    """Returns the number of a state that another search handed out; the tables need capacity for its words."""
    if isinstance(state, int):
        return state
    return int(score_words(tables, EMPTY, np.array(state, np.int32), np.empty(len(state), np.float32)))


@dataclass(frozen=True, eq=False)
class NGram:
    """An n-gram model: `score("a sentence")`, or from compiled code `score_word(model.tables, state, word)`.

    text: the V words, UTF-8, one a line, as bytes in an array; `words` is the same as a list.
    unknown, start, end: the numbers of <unk>, <s>, </s>; start and end are -1 where the model has none.
    counts: how many n-grams of each order it holds.
    extra: further arrays stored with the model, by name (the search keeps its word tree here).
    """

    tables: Tables
    text: np.ndarray
    counts: tuple[int, ...]
    unknown: int
    start: int
    end: int
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def order(self) -> int:
        """Words that the longest n-gram holds."""
        return len(self.counts)

    @cached_property
    def words(self) -> list[str]:
        return self.text.tobytes().decode().split("\n")

    @cached_property
    def index(self) -> dict[str, int]:
        """The number of each word."""
        return {word: number for number, word in enumerate(self.words)}

    def listed(self) -> "NGram":
        """Itself, if its n-grams can be listed; raises LanguageModelError otherwise."""
        if self.tables.hashed is not None:
            raise LanguageModelError(
                "the language model is a KenLM binary of hashed n-grams, which can be scored and searched with, but not "
                "changed or written. Give the ARPA file it was made from"
            )
        return self

    @property
    def first_state(self) -> int:
        """The state at the start of a sentence."""
        return self.start if self.start >= 0 else EMPTY

    def numbers(self, words: Iterable[str]) -> np.ndarray:
        """The words' numbers, int32; of words it does not know, that of <unk>."""
        return np.array([self.index.get(word, self.unknown) for word in words], np.int32)

    def known(self, words: Sequence[str]) -> np.ndarray:
        """Which of the words it knows."""
        return self.numbers(words) != self.unknown

    def word_scores(self, words: Sequence[str], *, start: bool = True, end: bool = True) -> np.ndarray:
        """Natural log-probability of each word after those before it, float32; the last one is </s> where `end`."""
        numbers = self.numbers(words)
        if end and self.end >= 0:
            numbers = np.append(numbers, np.int32(self.end))
        scores = np.empty(len(numbers), np.float32)
        score_words(
            with_context_capacity_for(self.tables, len(numbers)), self.first_state if start else EMPTY, numbers, scores
        )
        return scores

    def score(self, sentence: str, *, start: bool = True, end: bool = True) -> float:
        """Returns the natural log-probability of a sentence (see `split_words`), by default with its start and end."""
        return float(self.word_scores(split_words(sentence), start=start, end=end).sum(dtype=np.float64))


@cached
def mark_contexts(model, lengths, words, states_used, contexts, capacity):
    """Find the context of each n-gram, making states of those that have none.

    words: (M, n) int32; contexts: (M,) int32, filled; lengths: (S,) int8, words in each state.
    Contexts that the model lacks (some toolkits prune them) are put in with the probability that backing off computes.
    Returns how many n-grams are done and how many states there are; stops early when `capacity` new arcs are used up.
    """
    order = words.shape[1]
    for row in range(words.shape[0]):
        state = words[row, 0]
        for column in range(1, order - 1):
            key = arc_key(state, words[row, column])
            slot = arc_slot(model.arcs, key)
            if model.arcs[slot].key == FREE:
                if capacity == 0:
                    return row, states_used
                capacity -= 1
                probability, target = score_word(model, state, words[row, column])
                model.arcs[slot].key = key
                model.arcs[slot].probability = probability
                model.arcs[slot].target = target
            if lengths[model.arcs[slot].target] <= column:
                if states_used == model.states.shape[0]:
                    return row, states_used
                model.states[states_used].backoff = 0
                model.states[states_used].shorter = model.arcs[slot].target
                model.arcs[slot].target = states_used
                lengths[states_used] = column + 1
                states_used += 1
            state = model.arcs[slot].target
        contexts[row] = state
    return words.shape[0], states_used


@cached
def put_arcs(model, lengths, words, contexts, probabilities, backoffs, states_used):
    """Put in n-grams whose contexts are known; one that is there already keeps the larger probability.

    An n-gram becomes a state at once where its back-off is not zero; the others only if they are someone's context.
    """
    order = words.shape[1]
    for row in range(words.shape[0]):
        word = words[row, order - 1]
        key = arc_key(contexts[row], word)
        slot = arc_slot(model.arcs, key)
        if model.arcs[slot].key != FREE:
            model.arcs[slot].probability = max(model.arcs[slot].probability, probabilities[row])
            continue
        _, target = score_word(model, model.states[contexts[row]].shorter, word)
        if backoffs[row] != 0:
            model.states[states_used].backoff = backoffs[row]
            model.states[states_used].shorter = target
            lengths[states_used] = order
            target = states_used
            states_used += 1
        model.arcs[slot].key = key
        model.arcs[slot].probability = probabilities[row]
        model.arcs[slot].target = target
    return states_used


@cached
def _set_backoffs(model, contexts, backoffs):
    """Set the back-off of each context, which is a state."""
    for row in range(contexts.shape[0]):
        state = contexts[row, 0]
        for column in range(1, contexts.shape[1]):
            state = model.arcs[arc_slot(model.arcs, arc_key(state, contexts[row, column]))].target
        model.states[state].backoff = backoffs[row]


@cached
def rehash(arcs, larger):
    """Copy the arcs into a larger table."""
    for slot in range(arcs.shape[0]):
        if arcs[slot].key != FREE:
            larger[arc_slot(larger, arcs[slot].key)] = arcs[slot]


def empty_arcs(expected: int) -> np.ndarray:
    """A table of free arcs, at most two thirds full with the expected number."""
    arcs = np.zeros(1 << max(4, math.ceil(math.log2(max(1, expected) * 1.5))), ARC)
    arcs["key"] = FREE
    return arcs


class NGramBuilder:
    """Builds an NGram order by order: `add` n-grams of 2, 3, ... words, then `finish`.

    words: of the unigrams, all different; unigrams and backoffs: (V,), natural logarithms; expected: the number of
    longer n-grams to come, a hint. Where <unk> is missing, <UNK> is taken for it; where both are, <unk> is added at log10 -100.
    """

    def __init__(self, words: list[str], unigrams: np.ndarray, backoffs: np.ndarray, expected: int = 0):
        if "<unk>" not in words:
            words = ["<unk>" if word == "<UNK>" else word for word in words]
        if "<unk>" not in words:
            words.append("<unk>")
            unigrams = np.append(unigrams, np.float32(MISSING_UNKNOWN * LN10))
            backoffs = np.append(backoffs, np.float32(0))
        self.words = words
        states = np.zeros(len(words) + expected // 2 + 16, STATE)
        states["backoff"][: len(words)] = backoffs
        states["shorter"][: len(words)] = EMPTY
        self.lengths = np.zeros(len(states), np.int8)
        self.lengths[: len(words)] = 1
        self.tables = Tables(unigrams.astype(np.float32), empty_arcs(expected), states)
        self.states_used = len(words)
        self.arcs_used = 0
        self.counts = [len(words)]

    def add(self, words: np.ndarray, probabilities: np.ndarray, backoffs: np.ndarray) -> None:
        """Put in n-grams of one length; words: (M, n) int32, all of one order in one or more calls, shorter ones first."""
        words = np.ascontiguousarray(words, np.int32)
        contexts = np.empty(len(words), np.int32)
        done = 0
        while done < len(words):
            capacity = len(self.tables.arcs) * 3 // 4 - self.arcs_used
            free_before = self.states_used
            step, self.states_used = mark_contexts(
                self.tables, self.lengths, words[done:], self.states_used, contexts[done:], max(0, capacity)
            )
            self.arcs_used += self.states_used - free_before  # an upper bound of the arcs put in
            done += step
            if done < len(words):
                self._grow(2 * len(self.tables.arcs), 2 * len(self.tables.states))
        while self.arcs_used + len(words) > len(self.tables.arcs) * 3 // 4:
            self._grow(2 * len(self.tables.arcs), len(self.tables.states))
        if self.states_used + np.count_nonzero(backoffs) > len(self.tables.states):
            self._grow(len(self.tables.arcs), 2 * len(self.tables.states) + len(words))
        self.states_used = put_arcs(
            self.tables,
            self.lengths,
            words,
            contexts,
            probabilities.astype(np.float32),
            backoffs.astype(np.float32),
            self.states_used,
        )
        self.arcs_used += len(words)
        order = words.shape[1]
        self.counts += [0] * (order - len(self.counts))
        self.counts[order - 1] += len(words)

    def set_backoffs(self, contexts: np.ndarray, backoffs: np.ndarray) -> None:
        """Set the back-offs of contexts (M, n) of n-grams that were added."""
        _set_backoffs(self.tables, contexts, backoffs.astype(np.float32))

    def _grow(self, arcs: int, states: int) -> None:
        old = self.tables
        table = old.arcs
        if arcs > len(table):
            table = np.zeros(arcs, ARC)
            table["key"] = FREE
            rehash(old.arcs, table)
        larger = np.zeros(states, STATE)
        larger[: self.states_used] = old.states[: self.states_used]
        self.lengths = np.append(self.lengths, np.zeros(states - len(self.lengths), np.int8))
        self.tables = Tables(old.unigrams, table, larger)

    def finish(self) -> NGram:
        """The model."""
        if self.states_used >= 1 << 31:
            raise LanguageModelError("language model: more than 2^31 contexts. Prune it")
        index = {word: number for number, word in enumerate(self.words)}
        text = np.frombuffer("\n".join(self.words).encode(), np.uint8)
        tables = Tables(self.tables.unigrams, self.tables.arcs, self.tables.states[: self.states_used].copy())
        return NGram(tables, text, tuple(self.counts), index["<unk>"], index.get("<s>", -1), index.get("</s>", -1))
