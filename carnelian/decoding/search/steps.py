"""CTC prefix beam search, compiled: a beam of prefixes that grows by one output step at a time.

A prefix is a sequence of symbols with repeats and blanks taken out. Its probability is the sum over all paths that
spell it (Hannun et al., 2014, arXiv:1408.2873), split by whether they end in a blank, times what the language model
says of its finished words. All of it is kept as plain probabilities, scaled anew at each step, so that the inner loop
knows no logarithm; `look` is a factor for the word that is still open, used for ranking only.
"""

import math

import numba
import numpy as np

from carnelian.decoding.search.pruning import bar_of, keep_best, mix_probabilities
from carnelian.decoding.search.state import PAST, Beam
from carnelian.decoding.search.word_tree import child_of
from carnelian.jit import borrowing, inlined
from carnelian.ngram.model import score_word

FAINTEST = 1e-250  # the least probability, as a share of the best, of a prefix that is kept whatever its probability
HIGHEST_WEIGHT = 300.0  # natural log, of a word: its factor stays a number, whatever back-offs a model claims
UNASKED = np.nan  # an `ending` that the language model has not been asked for yet


@borrowing
def start(beam, language, hot_words):
    """Puts the empty prefix into a beam that holds none yet."""
    totals, root = beam.totals[0], beam.now[0]
    totals.size = totals.nodes = 1
    beam.history[0].parent = -1
    root.node, root.parent, root.symbol = 0, -1, -1
    root.blank, root.spoken, root.language = 1.0, 0.0, 0.0
    root.place, root.hot = roots(language.tree, hot_words.tree, language.rules)
    root.look = look_at(root.place, root.hot, language.tree, hot_words.tree, language.rules)
    root.rank = root.look
    root.letters, root.open, root.closed = 0, np.uint64(0), np.uint64(0)
    root.ending, root.factor = 0.0, 1.0
    root.state = root.ended = language.rules.first


@numba.njit(cache=True, nogil=True)
def advance(beam, probs, symbols, language, hot_words, settings):
    """The beam after further output steps, from their probabilities (O, V) float32, blank last and never 0."""
    if beam.totals[0].size == 0:
        start(beam, language, hot_words)
    done = 0
    while done < len(probs):
        done += take_steps(beam, probs[done:], symbols, language, hot_words, settings)
        if not has_room(beam, settings):
            beam = with_capacity(beam)
    return beam


@borrowing
def take_steps(beam, probs, symbols, language, hot_words, settings):
    """Takes output steps as long as there is room in the history; gives how many."""
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
        bar = bar_of(beam, settings)
        chance = 0.0
        for symbol in tokens[:count]:
            if symbols.closing or symbols.table[symbol].opens:
                chance = max(chance, row[symbol])
        if chance > 0.0:
            ask_endings(beam, chance, bar, language, hot_words)
        adopt(beam, grow(beam, row, tokens[:count], symbols, language, hot_words, settings, bar), language.rules)
        if not has_room(beam, settings):
            return step + 1
    return len(probs)


@inlined
def has_room(beam, settings):
    """Whether the history can take what another step may add."""
    return beam.totals[0].nodes + settings.width < len(beam.history)


@inlined
def choose_tokens(row, threshold, tokens):
    """Writes the symbols worth trying at a step into `tokens`, always the best of all; gives their number."""
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
def only_blank(beam, chance):
    """One step on where nothing but the blank is possible: no prefix changes, and none need be compared."""
    for index in range(beam.totals[0].size):
        prefix = beam.now[index]
        prefix.blank += prefix.spoken
        prefix.spoken = 0.0
    beam.totals[0].scale += math.log(chance)


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
def ask_endings(beam, chance, bar, language, hot_words):
    """Asks the language model about open words that are likely enough to be finished, once for each prefix.

    `chance` is the probability of the likeliest symbol that begins a word.
    """
    highest = chance * language.rules.ceiling * hot_words.gain
    for index in range(beam.totals[0].size):
        prefix = beam.now[index]
        if math.isnan(prefix.ending) and (prefix.blank + prefix.spoken) * highest >= bar:
            prefix.ending, prefix.ended = ending_of(prefix, language, hot_words)
            prefix.factor = math.exp(prefix.ending)
            after = beam.next[index]
            after.ending, after.ended, after.factor = prefix.ending, prefix.ended, prefix.factor


@borrowing
def ending_of(prefix, language, hot_words):
    """What finishing the open word brings: (natural log of the weight, the language model's next state)."""
    rules = language.rules
    hot = hot_words.tree[prefix.hot].word if prefix.hot >= 0 else -1
    word = language.tree[prefix.place].word if prefix.place >= 0 else -1
    if word < 0 and rules.closed:
        return -np.inf, prefix.state
    ending, state = 0.0, prefix.state
    if rules.kind == 1:
        known = word if word >= 0 else rules.unknown
        log_prob, state = score_word(language.ngram, prefix.state, known)
        ending = rules.alpha * log_prob + rules.beta
        if word >= 0 or hot < 0:
            ending += language.prices[known]
    if hot >= 0:
        ending += hot_words.weights[hot]
    return min(ending, HIGHEST_WEIGHT), state


@inlined
def grow(beam, row, tokens, symbols, language, hot_words, settings, bar):
    """Candidates that are the beam's prefixes with one more symbol; gives the number of all candidates.

    A candidate below the bar is not made; the bar rises with the best candidate and when the room for them is full.
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
        highest = prefix.look * gain if rules.kind < 2 else np.inf
        for symbol in tokens:
            if seen[symbol] == mark or (symbol == symbols.space and prefix.letters == 0):
                continue
            mass = row[symbol] * (prefix.blank if symbol == prefix.symbol else total)
            act = table[symbol]
            place, hot = prefix.place, prefix.hot
            opens = act.opens or closed
            if opens:
                if math.isnan(prefix.ending):
                    continue
                mass *= prefix.factor
                place, hot = root, hot_root
            elif mass * highest < bar:
                continue
            place = walk(tree, place, letters, act.first, act.last)
            hot = walk(hot_tree, hot, letters, act.first, act.last)
            look = look_at(place, hot, tree, hot_tree, rules)
            if mass * look < bar or look == 0.0:
                continue
            pool[filled] = prefix
            after = pool[filled]
            after.node, after.parent, after.symbol = -1, prefix.node, symbol
            after.blank, after.spoken = 0.0, mass
            after.place, after.hot, after.look = place, hot, look
            if opens:
                finish_word(after)
            spell(after, letters, act.first, act.last)
            if rules.kind == 2:
                add_symbol(after, act.word, language)
            after.rank = after.spoken * look
            if after.rank <= 0.0 or after.rank < bar:
                continue
            bar = max(bar, after.rank * settings.beam_factor)
            filled += 1
            if filled == len(pool):
                filled = keep_best(beam, filled, bar, tree, rules.closed, settings)
                for kept in range(filled):
                    bar = max(bar, pool[kept].rank * settings.beam_factor)
    return keep_best(beam, filled, bar, tree, rules.closed, settings)


@inlined
def finish_word(prefix):
    """Moves the open word to the finished ones and opens another."""
    if prefix.letters > 0:
        prefix.closed = mix_probabilities(prefix.closed * np.uint64(257) + prefix.open)
    prefix.language += prefix.ending
    prefix.state = prefix.ended
    prefix.letters, prefix.open = 0, np.uint64(0)
    prefix.ending, prefix.factor = 0.0, 1.0


@inlined
def spell(prefix, letters, first, last):
    """Adds letters[first:last] to the open word."""
    for index in range(first, last):
        prefix.open = mix_probabilities(prefix.open * np.uint64(257) + np.uint64(letters[index]) + np.uint64(1))
    prefix.letters += last - first
    if prefix.letters > 0:
        prefix.ending = UNASKED


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
    return (0 if rules.kind == 1 or rules.closed else -1), (0 if len(hot_tree) > 2 else -1)


@inlined
def walk(tree, node, letters, first, last):
    """Where letters[first:last] lead to from a node of a tree, -1 if nowhere."""
    while first < last and node >= 0:  # no early return: it would cost a reference count on each array
        node = child_of(tree, node, letters[first])
        first += 1
    return node


@inlined
def look_at(place, hot, tree, hot_tree, rules):
    """The factor that an open word deserves which lies there in the tree of words and there among the hot words."""
    look = 1.0
    if place >= 0:
        look = np.float64(tree[place].look)
    elif rules.closed:
        look = 0.0
    elif rules.kind == 1 and hot < 0:
        look = rules.unknown_look
    return look * hot_tree[hot].look if hot >= 0 else look


@inlined
def adopt(beam, size, rules):
    """Makes the candidates the beam: gives new ones a place in the history and scales the probabilities.

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
        if rules.closed and prefix.blank + prefix.spoken < FAINTEST:
            prefix.blank = FAINTEST
    totals.scale += math.log(highest)


@numba.njit(cache=True, nogil=True)
def with_capacity(beam):
    """The same beam with room for more history: what no prefix stands on is given up, and the rest moved together.

    If that frees less than half, the history gets twice the room.
    """
    totals, old = beam.totals[0], beam.history
    moved = np.full(totals.nodes, -1, np.int32)
    for index in range(totals.size):
        node = beam.now[index].node
        while node >= 0 and moved[node] < 0:
            moved[node] = 0
            node = old[node].parent
    left = 0
    for node in range(totals.nodes):
        if moved[node] == 0:
            moved[node] = left
            left += 1
    new = np.empty(len(old) * (2 if 2 * left > len(old) else 1), PAST)
    for node in range(totals.nodes):
        if moved[node] >= 0:
            past = new[moved[node]]
            past.symbol, past.slot = old[node].symbol, -1
            past.parent = moved[old[node].parent] if old[node].parent >= 0 else -1
    for index in range(totals.size):
        prefix = beam.now[index]
        prefix.node = moved[prefix.node]
        prefix.parent = new[prefix.node].parent
    totals.nodes = left
    return Beam(beam.totals, beam.now, beam.next, new, beam.seen, beam.tokens, beam.futures, beam.ranks)
