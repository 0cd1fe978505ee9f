"""CTC prefix beam search, compiled: a beam of prefixes that grows by one output step at a time.

A prefix is a sequence of symbols with repeats and blanks taken out. Its probability is the sum over all paths that
spell it (Hannun et al., 2014, arXiv:1408.2873), split by whether they end in a blank, times what the language model
says of its finished words. All of it is kept as plain probabilities, scaled anew at each step, so that the inner loop
knows no logarithm; `look` is a factor for the word that is still open, used for ranking only.
"""

import math
from typing import NamedTuple

import numba
import numpy as np

from carnelian.decoding.ngram import Tables, score_word
from carnelian.decoding.tree import child_of

UNASKED = np.nan  # an `ending` that the language model has not been asked for yet

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
    ],
    align=True,
)


SYMBOL = np.dtype(
    [
        ("opens", np.bool_),  # begins a word, and so finishes the one before
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
    space: int  # the symbol without letters, which only parts words, or -1


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


class Settings(NamedTuple):
    """How wide to search."""

    width: int
    beam_factor: float  # prefixes below this share of the best are dropped
    token_factor: float  # symbols below this probability are not tried
    recombine: bool  # of prefixes with the same future keep only the best


class Beam(NamedTuple):
    """Everything that a search carries from one output step to the next."""

    counts: np.ndarray  # (4,) int64: prefixes in the beam, nodes in the history, steps taken, times pruned
    scale: np.ndarray  # (1,) float64: natural log of what the probabilities were divided by so far
    now: np.ndarray  # PREFIX records: the beam
    next: np.ndarray  # PREFIX records: candidates for the next one
    parent: np.ndarray  # (nodes,) int32: the history, a tree of prefixes
    symbol: np.ndarray  # (nodes,) int32
    slot: np.ndarray  # (nodes,) int32: where in the beam a node is, if it is
    seen: np.ndarray  # (V,) int64: marks symbols by which a prefix has a child in the beam
    keys: np.ndarray  # a hash table of the prefixes' futures
    values: np.ndarray
    stamps: np.ndarray


@numba.njit(cache=True, nogil=True)
def start(language, hot_words, width, symbols):
    """A beam that holds the empty prefix, for `symbols` symbols and the blank."""
    pool = max(4 * width, width + symbols + 8)
    table = 1
    while table < 2 * pool:
        table *= 2
    now = np.empty(pool, PREFIX)
    nodes = max(1 << 12, 8 * width)
    beam = Beam(
        np.array([1, 1, 0, 0]),
        np.zeros(1),
        now,
        np.empty(pool, PREFIX),
        np.full(nodes, -1, np.int32),
        np.full(nodes, -1, np.int32),
        np.full(nodes, -1, np.int32),
        np.full(symbols + 1, -1, np.int64),
        np.empty(table, np.uint64),
        np.empty(table, np.int32),
        np.full(table, -1, np.int64),
    )
    root = now[0]
    root.node, root.parent, root.symbol = 0, -1, -1
    root.blank, root.spoken, root.language = 1.0, 0.0, 0.0
    root.place, root.hot = roots(language.tree, hot_words.tree, language.rules)
    root.look = look_at(root.place, root.hot, language.tree, hot_words.tree, language.rules)
    root.rank = root.look
    root.letters, root.open, root.closed = 0, np.uint64(0), np.uint64(0)
    root.ending, root.factor = 0.0, 1.0
    root.state = root.ended = language.rules.first
    return beam


@numba.njit(cache=True, nogil=True, forceinline=True)
def roots(tree, hot_tree, rules):
    """Where a word begins in the tree of words and among the hot words; -1 where there is no such tree."""
    return (0 if rules.kind == 1 or rules.closed else -1), (0 if len(hot_tree) > 2 else -1)


@numba.njit(cache=True, nogil=True, forceinline=True)
def mix(key):
    """A well spread hash of 64 bits."""
    key = (key ^ (key >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    key = (key ^ (key >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return key ^ (key >> np.uint64(33))


@numba.njit(cache=True, nogil=True, forceinline=True)
def walk(tree, node, letters, first, last):
    """Where letters[first:last] lead to from a node of a tree, -1 if nowhere."""
    while first < last and node >= 0:  # no early return: it would cost a reference count on each array
        node = child_of(tree, node, letters[first])
        first += 1
    return node


@numba.njit(cache=True, nogil=True, forceinline=True)
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


@numba.njit(cache=True, nogil=True)
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
    return ending, state


@numba.njit(cache=True, nogil=True, forceinline=True)
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


@numba.njit(cache=True, nogil=True, forceinline=True)
def stay(beam, row, symbols):
    """Candidates that are the beam's own prefixes one step on, by a blank, a repeat, or a further space."""
    blank = len(row) - 1
    for index in range(beam.counts[0]):
        before = beam.now[index]
        beam.slot[before.node] = index
        beam.next[index] = before
        after = beam.next[index]
        total = before.blank + before.spoken
        after.blank = total * row[blank]
        after.spoken = before.spoken * row[before.symbol] if before.symbol >= 0 else 0.0
        if before.letters == 0 and symbols.space >= 0:
            after.spoken = total * row[symbols.space]


@numba.njit(cache=True, nogil=True, forceinline=True)
def children_in_beam(beam, row, child, sibling):
    """Adds to each prefix what reaches it from its parent in the beam; lists the children of each: child, sibling."""
    size = beam.counts[0]
    child[:size] = -1
    for index in range(size):
        prefix = beam.now[index]
        if prefix.parent < 0:
            continue
        slot = beam.slot[prefix.parent]
        if slot < 0 or slot >= size or beam.now[slot].node != prefix.parent:
            continue
        parent = beam.now[slot]
        sibling[index] = child[slot]
        child[slot] = index
        mass = parent.blank if parent.symbol == prefix.symbol else parent.blank + parent.spoken
        if prefix.language != parent.language:
            mass *= math.exp(prefix.language - parent.language)
        beam.next[index].spoken += mass * row[prefix.symbol]


@numba.njit(cache=True, nogil=True, forceinline=True)
def ask_endings(beam, chance, bar, language, hot_words):
    """Asks the language model about open words that are likely enough to be finished, once for each prefix.

    `chance` is the probability of the likeliest symbol that begins a word.
    """
    highest = chance * language.rules.ceiling * hot_words.gain
    for index in range(beam.counts[0]):
        prefix = beam.now[index]
        if math.isnan(prefix.ending) and (prefix.blank + prefix.spoken) * highest >= bar:
            prefix.ending, prefix.ended = ending_of(prefix, language, hot_words)
            prefix.factor = math.exp(prefix.ending)
            after = beam.next[index]
            after.ending, after.ended, after.factor = prefix.ending, prefix.ended, prefix.factor


@numba.njit(cache=True, nogil=True, forceinline=True)
def grow(beam, row, tokens, symbols, language, hot_words, settings, bar, child, sibling):
    """Candidates that are the beam's prefixes with one more symbol; gives the number of all candidates.

    A candidate below the bar is not made; the bar rises with the best candidate and when the room for them is full.
    """
    now, pool, seen = beam.now, beam.next, beam.seen
    table, letters, tree, hot_tree = symbols.table, symbols.letters, language.tree, hot_words.tree
    rules, gain = language.rules, hot_words.gain
    root, hot_root = roots(tree, hot_tree, rules)
    size = filled = beam.counts[0]
    for index in range(size):
        prefix = now[index]
        total = prefix.blank + prefix.spoken
        mark = beam.counts[2] * len(now) + index
        other = child[index]
        while other >= 0:
            seen[now[other].symbol] = mark
            other = sibling[other]
        highest = prefix.look * gain if rules.kind < 2 else np.inf
        for symbol in tokens:
            if seen[symbol] == mark or (symbol == symbols.space and prefix.letters == 0):
                continue
            mass = row[symbol] * (prefix.blank if symbol == prefix.symbol else total)
            act = table[symbol]
            place, hot = prefix.place, prefix.hot
            if act.opens:
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
            if act.opens:
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
                filled = keep_best(beam, filled, bar, settings)
                for kept in range(filled):
                    bar = max(bar, pool[kept].rank * settings.beam_factor)
    return keep_best(beam, filled, bar, settings)


@numba.njit(cache=True, nogil=True, forceinline=True)
def finish_word(prefix):
    """Moves the open word to the finished ones and opens another."""
    if prefix.letters > 0:
        prefix.closed = mix(prefix.closed * np.uint64(257) + prefix.open)
    prefix.language += prefix.ending
    prefix.state = prefix.ended
    prefix.letters, prefix.open = 0, np.uint64(0)
    prefix.ending, prefix.factor = 0.0, 1.0


@numba.njit(cache=True, nogil=True, forceinline=True)
def spell(prefix, letters, first, last):
    """Adds letters[first:last] to the open word."""
    for index in range(first, last):
        prefix.open = mix(prefix.open * np.uint64(257) + np.uint64(letters[index]) + np.uint64(1))
    prefix.letters += last - first
    if prefix.letters > 0:
        prefix.ending = UNASKED


@numba.njit(cache=True, nogil=True)
def add_symbol(prefix, word, language):
    """Adds what a language model over symbols says of a prefix's last symbol."""
    log_prob, prefix.state = score_word(language.ngram, prefix.state, word)
    weight = language.rules.alpha * log_prob + language.rules.beta
    prefix.language += weight
    prefix.spoken *= math.exp(weight)


@numba.njit(cache=True, nogil=True, forceinline=True)
def recombine(beam, index, kept, table_mark):
    """Whether a candidate may go because an earlier one, of the `kept` first, has the same future and is ahead of it.

    Same future: same state of the language model, open word and last symbol. The one behind cannot catch up when it
    is behind in both of its masses. It may also replace the earlier one, and then goes as well. Two candidates that
    are the same prefix are added up.
    """
    this = beam.next[index]
    future = mix(this.open ^ mix(np.uint64(this.state) * np.uint64(1 << 20) + np.uint64(this.symbol + 1)))
    mask = np.uint64(len(beam.keys) - 1)
    place = future & mask
    while beam.stamps[place] == table_mark:
        if beam.keys[place] == future:
            other = beam.next[beam.values[place]]
            if other.closed == this.closed:
                other.blank += this.blank
                other.spoken += this.spoken
                other.rank += this.rank
                return True
            if other.blank >= this.blank and other.spoken >= this.spoken:
                return True
            if this.blank >= other.blank and this.spoken >= other.spoken:
                beam.next[beam.values[place]] = this
                return True
        place = (place + np.uint64(1)) & mask
    beam.keys[place], beam.values[place], beam.stamps[place] = future, kept, table_mark
    return False


@numba.njit(cache=True, nogil=True)
def highest_but(values, count, skipped):
    """The highest of values[:count] when so many of the highest are left out; reorders them (Hoare, 1961)."""
    low, high = 0, count - 1
    while low < high:
        pivot = values[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while values[left] > pivot:
                left += 1
            while values[right] < pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left, right = left + 1, right - 1
        if skipped <= right:
            high = right
        elif skipped >= left:
            low = left
        else:
            break
    return values[skipped]


@numba.njit(cache=True, nogil=True)
def keep_best(beam, filled, bar, settings):
    """Leaves in `next` the best candidates, as many as the beam is wide, in the order they stood in; their number."""
    beam.counts[3] += 1
    kept = 0
    ranks = np.empty(filled, np.float64)
    for index in range(filled):
        if beam.next[index].rank < bar or beam.next[index].rank <= 0.0:
            continue
        if settings.recombine and recombine(beam, index, kept, beam.counts[3]):
            continue
        if index > kept:
            beam.next[kept] = beam.next[index]
        kept += 1
    if kept <= settings.width:
        return kept
    for index in range(kept):
        ranks[index] = beam.next[index].rank
    lowest = highest_but(ranks, kept, settings.width - 1)
    ties = settings.width
    for index in range(kept):
        ties -= beam.next[index].rank > lowest
    left = 0
    for index in range(kept):
        rank = beam.next[index].rank
        if rank < lowest or (rank == lowest and ties == 0):
            continue
        ties -= rank == lowest
        if index > left:
            beam.next[left] = beam.next[index]
        left += 1
    return left


@numba.njit(cache=True, nogil=True, forceinline=True)
def adopt(beam, size):
    """Makes the candidates the beam: gives new ones a place in the history and scales the probabilities."""
    beam.counts[0] = size
    highest = 0.0
    for index in range(size):
        prefix = beam.next[index]
        if prefix.node < 0:
            prefix.node = beam.counts[1]
            beam.parent[prefix.node], beam.symbol[prefix.node] = prefix.parent, prefix.symbol
            beam.counts[1] += 1
        highest = max(highest, prefix.blank + prefix.spoken)
    for index in range(size):
        prefix = beam.next[index]
        prefix.blank /= highest
        prefix.spoken /= highest
        prefix.rank /= highest
    beam.scale[0] += math.log(highest)
    return Beam(
        beam.counts, beam.scale, beam.next, beam.now, beam.parent, beam.symbol, beam.slot,
        beam.seen, beam.keys, beam.values, beam.stamps,
    )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def with_room(beam, wanted):
    """The same beam with room for more history: what no prefix stands on is given up, and the rest moved together.

    If that frees less than half, the history gets twice the room.
    """
    nodes = beam.counts[1]
    if nodes + wanted <= len(beam.parent):
        return beam
    moved = np.full(nodes, -1, np.int32)
    for index in range(beam.counts[0]):
        node = beam.now[index].node
        while node >= 0 and moved[node] < 0:
            moved[node] = 0
            node = beam.parent[node]
    left = 0
    for node in range(nodes):
        if moved[node] == 0:
            moved[node] = left
            left += 1
    room = len(beam.parent) * (2 if 2 * left + wanted > len(beam.parent) else 1)
    parent, symbol, slot = np.full(room, -1, np.int32), np.full(room, -1, np.int32), np.full(room, -1, np.int32)
    for node in range(nodes):
        if moved[node] >= 0:
            symbol[moved[node]] = beam.symbol[node]
            parent[moved[node]] = moved[beam.parent[node]] if beam.parent[node] >= 0 else -1
    for index in range(beam.counts[0]):
        prefix = beam.now[index]
        prefix.node = moved[prefix.node]
        prefix.parent = moved[prefix.parent] if prefix.parent >= 0 else -1
    beam.counts[1] = left
    return Beam(
        beam.counts, beam.scale, beam.now, beam.next, parent, symbol, slot,
        beam.seen, beam.keys, beam.values, beam.stamps,
    )  # fmt: skip


@numba.njit(cache=True, nogil=True, forceinline=True)
def only_blank(beam, chance):
    """One step on where nothing but the blank is possible: no prefix changes, and none need be compared."""
    for index in range(beam.counts[0]):
        prefix = beam.now[index]
        prefix.blank += prefix.spoken
        prefix.spoken = 0.0
    beam.scale[0] += math.log(chance)


@numba.njit(cache=True, nogil=True)
def advance(beam, probs, symbols, language, hot_words, settings):
    """The beam after further output steps, from their probabilities (O, V) float32, blank last and never 0."""
    blank = probs.shape[1] - 1
    tokens = np.empty(blank, np.int64)
    child, sibling = np.empty(settings.width, np.int32), np.empty(settings.width, np.int32)
    for step in range(len(probs)):
        row = probs[step]
        beam.counts[2] += 1
        count = choose_tokens(row, settings.token_factor, tokens)
        if count == 0:
            only_blank(beam, row[blank])
            continue
        stay(beam, row, symbols)
        children_in_beam(beam, row, child, sibling)
        bar = bar_of(beam, settings)
        chance = 0.0
        for symbol in tokens[:count]:
            if symbols.table[symbol].opens:
                chance = max(chance, row[symbol])
        if chance > 0.0:
            ask_endings(beam, chance, bar, language, hot_words)
        size = grow(beam, row, tokens[:count], symbols, language, hot_words, settings, bar, child, sibling)
        beam = with_room(adopt(beam, size), settings.width)
    return beam


@numba.njit(cache=True, nogil=True, forceinline=True)
def bar_of(beam, settings):
    """The rank that a candidate must reach, from those that are there already."""
    best, worst = 0.0, np.inf
    for index in range(beam.counts[0]):
        prefix = beam.next[index]
        prefix.rank = (prefix.blank + prefix.spoken) * prefix.look
        best, worst = max(best, prefix.rank), min(worst, prefix.rank)
    bar = best * settings.beam_factor
    return max(bar, worst) if beam.counts[0] == settings.width else bar


@numba.njit(cache=True, nogil=True)
def finish(beam, language, hot_words):
    """What the beam's prefixes come to if the utterance ends here.

    Gives (node, score, language score, state of the language model before the end), best first; prefixes that spell
    the same words are added up. The beam stays as it is and may go on.
    """
    size = beam.counts[0]
    nodes, scores, languages = np.empty(size, np.int32), np.empty(size), np.empty(size)
    texts, states = np.empty(size, np.uint64), np.empty(size, np.int32)
    kept = 0
    for index in range(size):
        prefix = beam.now[index]
        weight, state, text = prefix.language, prefix.state, prefix.closed
        if prefix.letters > 0:
            ending, state = ending_of(prefix, language, hot_words)
            weight += ending
            text = mix(prefix.closed * np.uint64(257) + prefix.open)
        if language.rules.last >= 0:
            log_prob, _ = score_word(language.ngram, state, language.rules.last)
            weight += language.rules.alpha * log_prob
        total = math.log(prefix.blank + prefix.spoken) + beam.scale[0] - prefix.language + weight
        place = 0
        while place < kept and texts[place] != text:
            place += 1
        if place == kept:
            nodes[place], scores[place], languages[place] = prefix.node, total, weight
            texts[place], states[place] = text, state
            kept += 1
        elif total > -np.inf:
            high, low = max(total, scores[place]), min(total, scores[place])
            scores[place] = high + math.log1p(math.exp(low - high))
    order = np.argsort(-scores[:kept], kind="mergesort")
    return nodes[order], scores[order], languages[order], states[order]


@numba.njit(cache=True, nogil=True)
def symbols_of(beam, node):
    """The symbols (N,) of a prefix in the history."""
    length, place = 0, node
    while beam.parent[place] >= 0:
        length, place = length + 1, beam.parent[place]
    found = np.empty(length, np.int64)
    while beam.parent[node] >= 0:
        length -= 1
        found[length] = beam.symbol[node]
        node = beam.parent[node]
    return found
