"""The results of a search: the best hypotheses of a beam, as if the utterance ended here."""

import math

import numba
import numpy as np

from carnelian.decoding.alignment import forced_align
from carnelian.decoding.search.pruning import mix_probabilities
from carnelian.decoding.search.steps import ending_of
from carnelian.ngram.model import score_word


@numba.njit(cache=True, nogil=True)
def finish(beam, language, hot_words):
    """What the beam's prefixes come to if the utterance ends here.

    Gives (node, score, language score, state of the language model before the end), best first; prefixes that spell
    the same words are added up, and the node is that of the most probable. Words outside a closed vocabulary are left
    out. The beam stays as it is and may go on.
    """
    size = beam.totals[0].size
    nodes, scores, languages = np.empty(size, np.int32), np.empty(size), np.empty(size)
    highest = np.empty(size)  # the score of the most probable prefix that spells the words
    texts, states = np.empty(size, np.uint64), np.empty(size, np.int32)
    kept = 0
    for index in range(size):
        prefix = beam.now[index]
        weight, state, text = prefix.language, prefix.state, prefix.closed
        if prefix.letters > 0:
            ending, state = ending_of(prefix, language, hot_words)
            weight += ending
            text = mix_probabilities(prefix.closed * np.uint64(257) + prefix.open)
        if language.rules.last >= 0:
            log_prob, _ = score_word(language.ngram, state, language.rules.last)
            weight += language.rules.alpha * log_prob
        if weight == -np.inf:
            continue
        total = math.log(prefix.blank + prefix.spoken) + beam.totals[0].scale - prefix.language + weight
        place = 0
        while place < kept and texts[place] != text:
            place += 1
        if place == kept:
            nodes[place], scores[place], languages[place] = prefix.node, total, weight
            texts[place], states[place], highest[place] = text, state, total
            kept += 1
        else:
            high, low = max(total, scores[place]), min(total, scores[place])
            scores[place] = high + math.log1p(math.exp(low - high))
            if total > highest[place]:
                nodes[place], highest[place] = prefix.node, total
    order = np.argsort(-scores[:kept], kind="mergesort")
    return nodes[order], scores[order], languages[order], states[order]


@numba.njit(cache=True, nogil=True)
def hypotheses(beam, log_probs, language, hot_words, count):
    """The best hypotheses, as many as `count` at the most, if the utterance ends after log_probs (O, V).

    Gives (score, language score, state of the language model before the end) of each, where the symbols of each end in
    the arrays that follow, and of all symbols: number, first step, last step, highest log-probability.
    """
    nodes, scores, languages, states = finish(beam, language, hot_words)
    count = min(count, len(nodes))
    ends = np.zeros(count + 1, np.int64)
    for index in range(count):
        ends[index + 1] = ends[index] + len(symbols_of(beam, nodes[index]))
    symbols, peaks = np.empty(ends[-1], np.int64), np.empty(ends[-1], np.float32)
    first, last = np.empty(ends[-1], np.int64), np.empty(ends[-1], np.int64)
    for index in range(count):
        part = slice(ends[index], ends[index + 1])
        symbols[part] = symbols_of(beam, nodes[index])
        first[part], last[part], peaks[part] = forced_align(log_probs, symbols[part])
    return scores[:count], languages[:count], states[:count], ends, symbols, first, last, peaks


@numba.njit(cache=True, nogil=True)
def symbols_of(beam, node):
    """The symbols (N,) of a prefix in the history."""
    history = beam.history
    length, place = 0, node
    while history[place].parent >= 0:
        length, place = length + 1, history[place].parent
    found = np.empty(length, np.int64)
    while history[node].parent >= 0:
        length -= 1
        found[length] = history[node].symbol
        node = history[node].parent
    return found
