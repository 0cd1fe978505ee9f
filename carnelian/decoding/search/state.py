"""The state of the compiled search: prefixes and their history, an alphabet, and a language model with its weights."""

import math
from typing import NamedTuple

import numpy as np

from carnelian.decoding.limits import checked_width
from carnelian.errors import DecodingError
from carnelian.ngram.model import Tables

NO_MODEL, WORD_MODEL, SYMBOL_MODEL = range(3)  # kinds of language models
PREFIX = np.dtype(
    [
        ("node", np.int32),  # its node in the history, -1 until it has one
        ("parent", np.int32),  # the node of the prefix without its last symbol
        ("symbol", np.int32),  # its last symbol, -1 for the empty prefix
        ("blank", np.float64),  # probability of its paths that end in a blank, weighted by exp(language)
        ("spoken", np.float64),  # ... that end in its last symbol
        ("language", np.float64),  # natural log of the weight of its finished words
        ("look_ahead", np.float64),  # look-ahead score of its unfinished word, as a factor
        ("rank", np.float64),  # (blank + spoken) * look_ahead
        ("state", np.int32),  # of the language model, after the finished words
        ("tree_node", np.int32),  # of the unfinished word in the tree of words, -1 when it left the tree
        ("hot", np.int32),  # of the unfinished word in the tree of hot words, -1 when it left that
        ("letters", np.int32),  # bytes of the unfinished word
        ("unfinished", np.uint64),  # hash of the unfinished word
        ("finished", np.uint64),  # hash of the finished words
        ("word_end_score", np.float64),  # natural log of the weight that finishing the unfinished word adds
        ("word_end_factor", np.float64),  # the same as a factor
        ("word_end_state", np.int32),  # the language model's state then
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
        ("word", np.int32),  # its number in a language model of symbols
    ],
    align=True,
)


class Symbols(NamedTuple):
    """How the V - 1 symbols of an alphabet write words."""

    table: np.ndarray  # (V - 1,) SYMBOL
    letters: np.ndarray  # uint8: the letters of all symbols in UTF-8
    space: int  # the symbol without letters, which only separates words, or -1
    closing: bool  # whether any symbol closes a word


class Rules(NamedTuple):
    """The weights of the search: what finishing a word adds to the score, in natural logarithms."""

    kind: int  # NO_MODEL, WORD_MODEL or SYMBOL_MODEL
    alpha: float  # times the language model's log-probability
    beta: float  # for each word, or symbol
    unknown: int  # the number of the unknown word
    unknown_look_ahead: float  # look-ahead factor of an unfinished word that left the tree
    ceiling: float  # the highest factor that finishing a word can add
    closed_vocabulary: bool  # only words of the tree
    first: int  # the language model's state before the first word
    last: int  # the word at the end, or -1


class Language(NamedTuple):
    """A language model with its weights, as the search uses it."""

    ngram: Tables
    tree: np.ndarray  # NODE records: the words, each node with its look-ahead factor
    word_costs: np.ndarray  # (words,) float32: a score added to that of each word, such as the cost of an unknown one
    rules: Rules


class HotWords(NamedTuple):
    """Hot words with their weights."""

    tree: np.ndarray  # NODE records; `look_ahead` is the factor of an unfinished hot word
    weights: np.ndarray  # natural log, for the whole word
    gain: float  # the highest factor of all, at least 1


class SearchSettings(NamedTuple):
    """How wide to search."""

    width: int
    beam_factor: float  # prefixes below this share of the best are dropped
    token_factor: float  # symbols below this probability are not tried
    recombine: bool  # of prefixes with the same state key keep only the best


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

STATE_KEY = np.dtype(
    [
        # hash of all that decides how a prefix may go on: language-model state, unfinished word, last symbol
        ("key", np.uint64),
        ("pruning", np.int64),  # the pruning that put it here; entries of former ones are void
        ("kept", np.int64),  # the candidate's index
    ]
)


class Beam(NamedTuple):
    """All that a search carries from one output step to the next."""

    totals: np.ndarray  # (1,) TOTALS
    now: np.ndarray  # PREFIX records: the beam
    next: np.ndarray  # PREFIX records: candidates for the next one
    history: np.ndarray  # PAST records: all prefixes as a tree, parents before their children
    seen: np.ndarray  # (V,) int64: marks symbols by which a prefix has a child in the beam
    tokens: np.ndarray  # (V - 1,) int64: the symbols tried at a step
    state_keys: np.ndarray  # STATE_KEY records, a hash table
    ranks: np.ndarray  # (N,) float64, N records in `next`: to find the last that is kept


def empty_beam(width: int, symbols: int) -> Beam:
    """Returns an empty beam for an alphabet of `symbols` symbols, with one prefix to spare (see `keep_best`)."""
    pool = max(4 * width, width + symbols + 8)
    state_keys = np.zeros(1 << (2 * pool - 1).bit_length(), STATE_KEY)
    history = np.empty(max(1 << 12, 8 * width), PAST)
    seen = np.full(symbols + 1, -1, np.int64)
    now, candidates = np.empty(width + 1, PREFIX), np.empty(pool, PREFIX)
    tokens, ranks = np.empty(symbols, np.int64), np.empty(pool)
    return Beam(np.zeros(1, TOTALS), now, candidates, history, seen, tokens, state_keys, ranks)
