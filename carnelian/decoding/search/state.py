"""What the compiled search works on: prefixes and their history, and an alphabet and a language model as it asks them."""

import math
from typing import NamedTuple

import numpy as np

from carnelian.decoding.limits import checked_width
from carnelian.errors import DecodingError
from carnelian.ngram.model import Tables

PREFIX = np.dtype(
    [
        ("node", np.int32),  # its place in the history, -1 until it has one
        ("parent", np.int32),  # the history of the prefix without its last symbol
        ("symbol", np.int32),  # its last symbol, -1 for the empty prefix
        ("blank", np.float64),  # probability of its paths that end in a blank, weighted by exp(language)
        ("spoken", np.float64),  # ... that end in its last symbol
        ("language", np.float64),  # natural log of the weight of its finished words
        ("look", np.float64),  # the factor that its open word deserves
        ("rank", np.float64),  # (blank + spoken) * look
        ("state", np.int32),  # of the language model, after the finished words
        ("place", np.int32),  # of the open word in the tree of words, -1 when it left the tree
        ("hot", np.int32),  # of the open word in the tree of hot words, -1 when it left that
        ("letters", np.int32),  # bytes of the open word
        ("open", np.uint64),  # hash of the open word
        ("closed", np.uint64),  # hash of the finished words
        ("ending", np.float64),  # natural log of the weight that finishing the open word brings
        ("factor", np.float64),  # the same as a factor
        ("ended", np.int32),  # the language model's state then
        ("child", np.int32),  # in the beam: a prefix with one more symbol, -1 if there is none
        ("sibling", np.int32),  # in the beam: a further one of the same parent
    ],
    align=True,
)


SYMBOL = np.dtype(
    [
        ("opens", np.bool_),  # begins a word, and so finishes the one before
        ("closes", np.bool_),  # ends its word: white space follows its letters
        ("first", np.int32),  # its letters are letters[first:last]
        ("last", np.int32),
        ("word", np.int32),  # what it is to a language model over symbols
    ],
    align=True,
)


class Symbols(NamedTuple):
    """What the V - 1 symbols of an alphabet do to words."""

    table: np.ndarray  # (V - 1,) SYMBOL
    letters: np.ndarray  # uint8: the letters of all symbols in UTF-8
    space: int  # the symbol without letters, which only separates words, or -1
    closing: bool  # whether any symbol closes a word


class Rules(NamedTuple):
    """What finishing a word adds to the score, in natural logarithms."""

    kind: int  # of the language model: 0 none, 1 of words, 2 of symbols
    alpha: float  # times the language model's log-probability
    beta: float  # for each word, or symbol
    unknown: int  # the number of the unknown word
    unknown_look: float  # the factor for an open word that left the tree
    ceiling: float  # the highest factor that finishing a word can bring
    closed: bool  # only words of the tree
    first: int  # the language model's state before the first word
    last: int  # the word at the end, or -1


class Language(NamedTuple):
    """A language model with its weights, as the search asks for it."""

    ngram: Tables
    tree: np.ndarray  # NODE records: the words, each node's `look` being the factor for an open word
    prices: np.ndarray  # (words,) float32: what each word costs besides
    rules: Rules


class HotWords(NamedTuple):
    """Words that are expected, with what finding them brings."""

    tree: np.ndarray  # NODE records; `look` is the factor for having come so far
    weights: np.ndarray  # natural log, for the whole word
    gain: float  # the highest factor of all, at least 1


class SearchSettings(NamedTuple):
    """How wide to search."""

    width: int
    beam_factor: float  # prefixes below this share of the best are dropped
    token_factor: float  # symbols below this probability are not tried
    recombine: bool  # of prefixes with the same future keep only the best


def search_settings(beam_width: int, beam_threshold: float, token_threshold: float, recombine: bool) -> SearchSettings:
    """Returns checked settings; see `BeamSearch` for what they mean. Raises DecodingError for values out of range."""
    if not beam_threshold >= 0:
        raise DecodingError(f"beam threshold {beam_threshold}: expected 0 or more (natural log)")
    if not token_threshold <= 0:
        raise DecodingError(f"token threshold {token_threshold}: expected a log-probability, 0 or less")
    return SearchSettings(checked_width(beam_width), math.exp(-beam_threshold), math.exp(token_threshold), recombine)


TOTALS = np.dtype(
    [
        ("size", np.int64),  # prefixes in the beam
        ("nodes", np.int64),  # nodes in the history
        ("steps", np.int64),  # output steps taken
        ("prunings", np.int64),  # times that the candidates were pruned
        ("scale", np.float64),  # natural log of what the probabilities were divided by so far
    ]
)

PAST = np.dtype(
    [
        ("parent", np.int32),  # the node of the prefix without its last symbol, -1 for the empty one
        ("symbol", np.int32),
        ("slot", np.int32),  # where in the beam the node is, if it is
    ]
)

FUTURE = np.dtype(
    [
        ("key", np.uint64),  # hash of what decides a prefix's future
        ("pruning", np.int64),  # the pruning that put it here; entries of former ones are void
        ("kept", np.int64),  # the candidate's place
    ]
)


class Beam(NamedTuple):
    """Everything that a search carries from one output step to the next."""

    totals: np.ndarray  # (1,) TOTALS
    now: np.ndarray  # PREFIX records: the beam
    next: np.ndarray  # PREFIX records: candidates for the next one
    history: np.ndarray  # PAST records: all prefixes as a tree, parents before their children
    seen: np.ndarray  # (V,) int64: marks symbols by which a prefix has a child in the beam
    tokens: np.ndarray  # (V - 1,) int64: the symbols tried at a step
    futures: np.ndarray  # FUTURE records, a hash table
    ranks: np.ndarray  # (N,) float64, N records in `next`: to find the last that is kept


def empty_beam(width: int, symbols: int) -> Beam:
    """Room for a beam of an alphabet with so many symbols, and for one prefix more than its width (see `keep_best`)."""
    pool = max(4 * width, width + symbols + 8)
    futures = np.zeros(1 << (2 * pool - 1).bit_length(), FUTURE)
    history = np.empty(max(1 << 12, 8 * width), PAST)
    seen = np.full(symbols + 1, -1, np.int64)
    now, candidates = np.empty(width + 1, PREFIX), np.empty(pool, PREFIX)
    tokens, ranks = np.empty(symbols, np.int64), np.empty(pool)
    return Beam(np.zeros(1, TOTALS), now, candidates, history, seen, tokens, futures, ranks)
