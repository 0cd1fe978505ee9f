"""The history of a search: the prefixes of its beam as a tree, of which what no longer changes is taken out."""

import numpy as np

from carnelian.decoding.search.state import PAST, Beam
from carnelian.jit import released


@released
def symbols_of(beam, node):
    """Returns the symbols (N,) of a prefix in the history."""
    history = beam.history
    length, current = 0, node
    while history[current].parent >= 0:
        length, current = length + 1, history[current].parent
    found = np.empty(length, np.int64)
    while history[node].parent >= 0:
        length -= 1
        found[length] = history[node].symbol
        node = history[node].parent
    return found


@released
def with_capacity(beam):
    """Returns the beam with capacity for more history: nodes that no prefix needs are removed, the others moved together.

    If that frees less than half, the history gets twice the capacity.
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
    return Beam(beam.totals, beam.now, beam.next, new, beam.seen, beam.tokens, beam.state_keys, beam.ranks)


@released
def common_symbols(beam):
    """Returns the number of symbols with which all prefixes of the beam begin."""
    history, totals = beam.history, beam.totals[0]
    below = np.zeros(totals.nodes, np.int64)  # prefixes of the beam in the tree below each node
    for index in range(totals.size):
        below[beam.now[index].node] += 1
    node = totals.nodes - 1
    while node > 0 and below[node] < totals.size:  # parents stand before their children
        if history[node].parent >= 0:
            below[history[node].parent] += below[node]
        node -= 1
    return len(symbols_of(beam, node))


@released
def begin_after(beam, node, count, most):
    """Takes the first `count` symbols of the prefix at a node out of the history; returns the beam.

    Prefixes that begin otherwise, or have more than `most` further symbols, leave the beam.
    """
    totals = beam.totals[0]
    first = node
    for _ in range(len(symbols_of(beam, node)) - count):
        first = beam.history[first].parent
    kept = 0
    for index in range(totals.size):
        above, further = beam.now[index].node, 0
        while above != first and beam.history[above].parent >= 0:
            above, further = beam.history[above].parent, further + 1
        if above == first and further <= most:
            beam.now[kept] = beam.now[index]
            kept += 1
    totals.size = kept
    beam.history[first].parent = -1
    return with_capacity(beam)
