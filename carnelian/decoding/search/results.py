"""The results of a search: the best hypotheses of a beam, as if the utterance ended here."""

import math

import numpy as np

from carnelian.decoding.alignment import forced_align
from carnelian.decoding.search.history import symbols_of
from carnelian.decoding.search.pruning import mix_probabilities
from carnelian.decoding.search.steps import word_end_of
from carnelian.jit import released
from carnelian.ngram.model import score_word


@released
def finish(beam, language, hot_words):
    """Returns the beam's hypotheses if the utterance ended here.

    They are (node, score, language score, state of the language model before the end), best first; prefixes that spell
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
        weight, state, text = prefix.language, prefix.state, prefix.finished
        if prefix.letters > 0:
            word_end_score, state = word_end_of(prefix, language, hot_words)
            weight += word_end_score
            text = mix_probabilities(prefix.finished * np.uint64(257) + prefix.unfinished)
        if language.rules.last >= 0:
            log_prob, _ = score_word(language.ngram, state, language.rules.last)
            weight += language.rules.alpha * log_prob
        if weight == -np.inf:
            continue
        total = math.log(prefix.blank + prefix.spoken) + beam.totals[0].scale - prefix.language + weight
        slot = 0
        while slot < kept and texts[slot] != text:
            slot += 1
        if slot == kept:
            nodes[slot], scores[slot], languages[slot] = prefix.node, total, weight
            texts[slot], states[slot], highest[slot] = text, state, total
            kept += 1
        else:
            high, low = max(total, scores[slot]), min(total, scores[slot])
            scores[slot] = high + math.log1p(math.exp(low - high))
            if total > highest[slot]:
                nodes[slot], highest[slot] = prefix.node, total
    order = np.argsort(-scores[:kept], kind="mergesort")
    return nodes[order], scores[order], languages[order], states[order]


@released
def hypotheses(beam, log_probs, language, hot_words, count):
    """Returns the best hypotheses, at most `count`, if the utterance ends after log_probs (O, V).

    They are (score, language score, state of the language model before the end) of each, where the symbols of each end in
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


@released
def best_prefix(beam, log_probs, language, hot_words):
    """Returns the node of the most probable prefix, and of its symbols: number, first step, last step, highest log-probability."""
    nodes, _, _, _ = finish(beam, language, hot_words)
    node, highest = beam.now[0].node, -1.0
    for index in range(beam.totals[0].size):
        if beam.now[index].rank > highest:
            node, highest = beam.now[index].node, beam.now[index].rank
    if len(nodes) > 0:  # a closed vocabulary may leave no prefix that could end here
        node = nodes[0]
    symbols = symbols_of(beam, node)
    first, last, peaks = forced_align(log_probs, symbols)
    return node, symbols, first, last, peaks
