"""CTC prefix beam search, compiled: a beam of prefixes that grows by one output step at a time.

A prefix is a sequence of symbols with repeats and blanks taken out. Its probability is the sum over all paths that
spell it (Hannun et al., 2014, arXiv:1408.2873), split by whether they end in a blank, times the language model's
weight of its finished words. All of it is kept as plain probabilities, scaled anew at each step, so that the inner loop
needs no logarithm, which pays (benchmarks/decoding.py); `look_ahead` is a factor for the unfinished word, for ranking only.
"""

import math

import numpy as np

from carnelian.decoding.search.history import with_capacity
from carnelian.decoding.search.pruning import keep_best, least_rank_of, mix_probabilities
from carnelian.decoding.search.state import SYMBOL_MODEL, WORD_MODEL
from carnelian.decoding.search.word_tree import child_of
from carnelian.jit import borrowing, inlined, released
from carnelian.ngram.model import score_word

FAINTEST = 1e-250  # the least probability, as a share of the best, of a prefix that is kept whatever its probability
HIGHEST_WEIGHT = 300.0  # natural log, of a word: its factor stays a number, whatever back-offs a model claims
UNASKED = np.nan  # a `word_end_score` that the language model has not been asked for yet


@borrowing
def start(beam, language, hot_words):
    """Puts the empty prefix into a beam that holds none yet."""
    totals, root = beam.totals[0], beam.now[0]
    totals.size = totals.nodes = 1
    beam.history[0].parent = -1
    root.node, root.parent, root.symbol = 0, -1, -1
    root.blank, root.spoken, root.language = 1.0, 0.0, 0.0
    root.tree_node, root.hot = roots(language.tree, hot_words.tree, language.rules)
    root.look_ahead = look_ahead_at(root.tree_node, root.hot, language.tree, hot_words.tree, language.rules)
    root.rank = root.look_ahead
    root.letters, root.unfinished, root.finished = 0, np.uint64(0), np.uint64(0)
    root.word_end_score, root.word_end_factor = 0.0, 1.0
    root.state = root.word_end_state = language.rules.first


@released
def advance(beam, probs, symbols, language, hot_words, settings):
    """The beam after further output steps, from their probabilities (O, V) float32, blank last and never 0."""
    if beam.totals[0].size == 0:
        start(beam, language, hot_words)
    done = 0
    while done < len(probs):
        done += take_steps(beam, probs[done:], symbols, language, hot_words, settings)
        if not has_capacity(beam, settings):
            beam = with_capacity(beam)
    return beam


@borrowing
def take_steps(beam, probs, symbols, language, hot_words, settings):
    """Takes output steps as long as the history has capacity; returns how many."""
    blank, tokens = probs.shape[1] - 1, beam.tokens
    for step in range(len(probs)):
        row = probs[step]
        beam.totals[0].steps += 1
        count = choose_tokens(row, settings.token_factor, tokens)
        if count == 0:
            only_blank(beam, row[blank])
            continue
        stay(beam, row, symbols)
        children_in_beam(beam, row)
        least_rank = least_rank_of(beam, settings)
        highest_probability = 0.0
        for symbol in tokens[:count]:
            if symbols.closing or symbols.table[symbol].opens:
                highest_probability = max(highest_probability, row[symbol])
        if highest_probability > 0.0:
            ask_word_ends(beam, highest_probability, least_rank, language, hot_words)
        adopt(beam, grow(beam, row, tokens[:count], symbols, language, hot_words, settings, least_rank), language.rules)
        if not has_capacity(beam, settings):
            return step + 1
    return len(probs)


@inlined
def has_capacity(beam, settings):
    """Whether the history has capacity for what another step may add."""
    return beam.totals[0].nodes + settings.width < len(beam.history)


@inlined
def choose_tokens(row, threshold, tokens):
    """Writes the symbols worth trying at a step into `tokens`, always the best of all; returns their number."""
    blank = len(row) - 1
    count, best = 0, 0
    for symbol in range(blank):
        if row[symbol] >= threshold:
            tokens[count] = symbol
            count += 1
        if row[symbol] > row[best]:
            best = symbol
    if count == 0 and row[best] > row[blank]:
        tokens[0] = best
        count = 1
    return count


@inlined
def only_blank(beam, blank):
    """One step on where nothing but the blank is possible: no prefix changes, and none need be compared."""
    for index in range(beam.totals[0].size):
        prefix = beam.now[index]
        prefix.blank += prefix.spoken
        prefix.spoken = 0.0
    beam.totals[0].scale += math.log(blank)


@inlined
def stay(beam, row, symbols):
    """Candidates that are the beam's own prefixes one step on, by a blank, a repeat, or a further space."""
    blank = len(row) - 1
    for index in range(beam.totals[0].size):
        before = beam.now[index]
        beam.history[before.node].slot = index
        before.child = -1
        beam.next[index] = before
        after = beam.next[index]
        total = before.blank + before.spoken
        after.blank = total * row[blank]
        after.spoken = before.spoken * row[before.symbol] if before.symbol >= 0 else 0.0
        if before.letters == 0 and symbols.space >= 0:
            after.spoken = total * row[symbols.space]


@inlined
def children_in_beam(beam, row):
    """Adds to each prefix what reaches it from its parent in the beam, and lists the children of each there."""
    size = beam.totals[0].size
    for index in range(size):
        prefix = beam.now[index]
        slot = beam.history[prefix.parent].slot if prefix.parent >= 0 else -1
        if slot < 0 or slot >= size or beam.now[slot].node != prefix.parent:
            continue
        parent = beam.now[slot]
        prefix.sibling = parent.child
        parent.child = index
        mass = parent.blank if parent.symbol == prefix.symbol else parent.blank + parent.spoken
        if prefix.language != parent.language:
            mass *= math.exp(prefix.language - parent.language)
        beam.next[index].spoken += mass * row[prefix.symbol]


@inlined
def ask_word_ends(beam, highest_probability, least_rank, language, hot_words):
    """Asks the language model about unfinished words that are likely enough to be finished, once for each prefix.

    `highest_probability` is the probability of the likeliest symbol that begins a word.
    """
    highest = highest_probability * language.rules.ceiling * hot_words.gain
    for index in range(beam.totals[0].size):
        prefix = beam.now[index]
        if math.isnan(prefix.word_end_score) and (prefix.blank + prefix.spoken) * highest >= least_rank:
            prefix.word_end_score, prefix.word_end_state = word_end_of(prefix, language, hot_words)
            prefix.word_end_factor = math.exp(prefix.word_end_score)
            after = beam.next[index]
            after.word_end_score, after.word_end_state = prefix.word_end_score, prefix.word_end_state
            after.word_end_factor = prefix.word_end_factor


@borrowing
def word_end_of(prefix, language, hot_words):
    """Returns what finishing the unfinished word adds: (natural log of the weight, the language model's next state)."""
    rules = language.rules
    hot = hot_words.tree[prefix.hot].word if prefix.hot >= 0 else -1
    word = language.tree[prefix.tree_node].word if prefix.tree_node >= 0 else -1
    if word < 0 and rules.closed_vocabulary:
        return -np.inf, prefix.state
    word_end_score, state = 0.0, prefix.state
    if rules.kind == WORD_MODEL:
        known = word if word >= 0 else rules.unknown
        log_prob, state = score_word(language.ngram, prefix.state, known)
        word_end_score = rules.alpha * log_prob + rules.beta
        if word >= 0 or hot < 0:
            word_end_score += language.word_costs[known]
    if hot >= 0:
        word_end_score += hot_words.weights[hot]
    return min(word_end_score, HIGHEST_WEIGHT), state


@inlined
def grow(beam, row, tokens, symbols, language, hot_words, settings, least_rank):
    """Makes candidates from the beam's prefixes and one more symbol; returns the number of all candidates.

    A candidate whose rank is below `least_rank` is not made; `least_rank` rises with the best candidate, and when `next` is full.
    """
    now, pool, seen = beam.now, beam.next, beam.seen
    table, letters, tree, hot_tree = symbols.table, symbols.letters, language.tree, hot_words.tree
    rules, gain = language.rules, hot_words.gain
    root, hot_root = roots(tree, hot_tree, rules)
    size = filled = beam.totals[0].size
    for index in range(size):
        prefix = now[index]
        total = prefix.blank + prefix.spoken
        mark = beam.totals[0].steps * len(now) + index
        other = prefix.child
        while other >= 0:
            seen[now[other].symbol] = mark
            other = now[other].sibling
        closed = symbols.closing and prefix.symbol >= 0 and table[prefix.symbol].closes
        highest = prefix.look_ahead * gain if rules.kind != SYMBOL_MODEL else np.inf
        for symbol in tokens:
            if seen[symbol] == mark or (symbol == symbols.space and prefix.letters == 0):
                continue
            mass = row[symbol] * (prefix.blank if symbol == prefix.symbol else total)
            written = table[symbol]
            tree_node, hot = prefix.tree_node, prefix.hot
            opens = written.opens or closed
            if opens:
                if math.isnan(prefix.word_end_score):
                    continue
                mass *= prefix.word_end_factor
                tree_node, hot = root, hot_root
            elif mass * highest < least_rank:
                continue
            tree_node = walk(tree, tree_node, letters, written.first, written.last)
            hot = walk(hot_tree, hot, letters, written.first, written.last)
            look_ahead = look_ahead_at(tree_node, hot, tree, hot_tree, rules)
            if mass * look_ahead < least_rank or look_ahead == 0.0:
                continue
            pool[filled] = prefix
            after = pool[filled]
            after.node, after.parent, after.symbol = -1, prefix.node, symbol
            after.blank, after.spoken = 0.0, mass
            after.tree_node, after.hot, after.look_ahead = tree_node, hot, look_ahead
            if opens:
                finish_word(after)
            spell(after, letters, written.first, written.last)
            if rules.kind == SYMBOL_MODEL:
                add_symbol(after, written.word, language)
            after.rank = after.spoken * look_ahead
            if after.rank <= 0.0 or after.rank < least_rank:
                continue
            least_rank = max(least_rank, after.rank * settings.beam_factor)
            filled += 1
            if filled == len(pool):
                filled = keep_best(beam, filled, least_rank, tree, rules.closed_vocabulary, settings)
                for kept in range(filled):
                    least_rank = max(least_rank, pool[kept].rank * settings.beam_factor)
    return keep_best(beam, filled, least_rank, tree, rules.closed_vocabulary, settings)


@inlined
def finish_word(prefix):
    """Moves the unfinished word to the finished ones and begins another."""
    if prefix.letters > 0:
        prefix.finished = mix_probabilities(prefix.finished * np.uint64(257) + prefix.unfinished)
    prefix.language += prefix.word_end_score
    prefix.state = prefix.word_end_state
    prefix.letters, prefix.unfinished = 0, np.uint64(0)
    prefix.word_end_score, prefix.word_end_factor = 0.0, 1.0


@inlined
def spell(prefix, letters, first, last):
    """Adds letters[first:last] to the unfinished word."""
    for index in range(first, last):
        prefix.unfinished = mix_probabilities(
            prefix.unfinished * np.uint64(257) + np.uint64(letters[index]) + np.uint64(1)
        )
    prefix.letters += last - first
    if prefix.letters > 0:
        prefix.word_end_score = UNASKED


@borrowing
def add_symbol(prefix, word, language):
    """Adds what a language model over symbols says of a prefix's last symbol."""
    log_prob, prefix.state = score_word(language.ngram, prefix.state, word)
    weight = min(language.rules.alpha * log_prob + language.rules.beta, HIGHEST_WEIGHT)
    prefix.language += weight
    prefix.spoken *= math.exp(weight)


@inlined
def roots(tree, hot_tree, rules):
    """Where a word begins in the tree of words and among the hot words; -1 where there is no such tree."""
    return (0 if rules.kind == WORD_MODEL or rules.closed_vocabulary else -1), (0 if len(hot_tree) > 2 else -1)


@inlined
def walk(tree, node, letters, first, last):
    """Where letters[first:last] lead to from a node of a tree, -1 if nowhere."""
    while first < last and node >= 0:  # no early return: it would cost a reference count on each array
        node = child_of(tree, node, letters[first])
        first += 1
    return node


@inlined
def look_ahead_at(tree_node, hot, tree, hot_tree, rules):
    """Returns the look-ahead factor of an unfinished word, from its nodes in the tree of words and among the hot words."""
    look_ahead = 1.0
    if tree_node >= 0:
        look_ahead = np.float64(tree[tree_node].look_ahead)
    elif rules.closed_vocabulary:
        look_ahead = 0.0
    elif rules.kind == WORD_MODEL and hot < 0:
        look_ahead = rules.unknown_look_ahead
    return look_ahead * hot_tree[hot].look_ahead if hot >= 0 else look_ahead


@inlined
def adopt(beam, size, rules):
    """Makes the candidates the beam: gives new ones a node in the history and scales the probabilities.

    Under a closed vocabulary none becomes 0, since `keep_best` may keep one that is far behind for many steps.
    """
    history, totals = beam.history, beam.totals[0]
    totals.size = size
    highest = 0.0
    for index in range(size):
        beam.now[index] = beam.next[index]
        prefix = beam.now[index]
        if prefix.node < 0:
            prefix.node = totals.nodes
            history[prefix.node].parent, history[prefix.node].symbol = prefix.parent, prefix.symbol
            totals.nodes += 1
        highest = max(highest, prefix.blank + prefix.spoken)
    for index in range(size):
        prefix = beam.now[index]
        prefix.blank /= highest
        prefix.spoken /= highest
        if rules.closed_vocabulary and prefix.blank + prefix.spoken < FAINTEST:
            prefix.blank = FAINTEST
    totals.scale += math.log(highest)
