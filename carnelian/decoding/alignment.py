"""Forced alignment: the output steps of given symbols on the most probable path through log-probabilities."""

import numpy as np

from carnelian.jit import released, vectorized

BAND = 256  # lattice states alive at one step that the first, fast pass holds (benchmarks/decoding.py)
BREADTH = 100.0  # natural log; the first pass drops states that are this far behind the best at their step
WIDER_BAND, WIDER_BREADTH = 2048, 400.0  # of a second pass, which long recordings get before all states are tried
MOVES = 1 << 26  # bytes of moves that one block of steps may take; beyond, steps are computed twice, block by block
FLOOR = np.float32(-69.0)  # what a log-probability of minus infinity counts as, so that some path always exists


@released
def forced_align(log_probs, symbols):
    """Returns first step (N,), last step (N,) and highest log-probability (N,) of each symbol on the most probable path.

    log_probs: (O, V) float32, blank last; symbols: (N,) int64, which must fit: a step for each and one between equals.
    """
    states = 2 * len(symbols) + 1
    found, first, last, peaks = _align(log_probs, symbols, BREADTH, BAND, MOVES)
    if not found and len(log_probs) * states > MOVES:
        found, first, last, peaks = _align(log_probs, symbols, WIDER_BREADTH, WIDER_BAND, MOVES)
    if not found:
        found, first, last, peaks = _align(log_probs, symbols, np.inf, states, MOVES)
    return first, last, peaks


@released
def _align(log_probs, symbols, breadth, band, budget):
    """Viterbi over the lattice states blank, symbol 0, blank, symbol 1, ..., blank; False where no path reaches the end.

    At most `band` states side by side are alive at a step. If the moves of all steps need more than `budget` bytes, only
    the scores at the start of each block of steps are kept, and the moves are computed again from them on the way back:
    an hour of speech then takes some hundred megabytes instead of steps times symbols.
    """
    steps, states = len(log_probs), 2 * len(symbols) + 1
    first, last = np.zeros(len(symbols), np.int64), np.full(len(symbols), -1, np.int64)
    peaks = np.full(len(symbols), -np.inf, np.float32)
    if len(symbols) == 0 or steps == 0:
        return True, first, last, peaks
    size = steps if steps * band <= budget else max(1, int(np.sqrt(8.0 * steps)))
    blocks = (steps + size - 1) // size
    moves, lowest = np.empty((size, band), np.uint8), np.empty(size, np.int64)
    scores, spare = np.full(states + 2, -np.inf), np.full(states + 2, -np.inf)  # see `_forward`
    scores[2] = 0.0  # the blank before the first step
    saved, bounds = np.empty((blocks if blocks > 1 else 0, states + 2)), np.zeros((blocks, 2), np.int64)
    low, high = 0, 0
    for block in range(blocks):
        bounds[block] = low, high
        if blocks > 1:
            saved[block] = scores
        begin, end = block * size, min((block + 1) * size, steps)
        low, high = _forward(log_probs[begin:end], symbols, breadth, low, high, scores, spare, moves, lowest)
        if high < 0:
            return False, first, last, peaks
    state = states - 1
    if high < states - 1 or (low < states - 1 and scores[states] > scores[states + 1]):
        state = states - 2
    if high < state or low > state or not scores[state + 2] > -np.inf:
        return False, first, last, peaks
    for block in range(blocks - 1, -1, -1):
        begin, end = block * size, min((block + 1) * size, steps)
        if block < blocks - 1:
            scores[:] = saved[block]
            low, high = bounds[block]
            _forward(log_probs[begin:end], symbols, breadth, low, high, scores, spare, moves, lowest)
        for step in range(end - 1, begin - 1, -1):
            if state % 2:
                symbol = state // 2
                first[symbol] = step
                last[symbol] = max(last[symbol], step)
                peaks[symbol] = max(peaks[symbol], log_probs[step, symbols[symbol]], FLOOR)
            state -= moves[step - begin, state - lowest[step - begin]]
    return True, first, last, peaks


@vectorized
def _forward(log_probs, symbols, breadth, low, high, scores, spare, moves, lowest):
    """Takes the steps of log_probs (O, V) from `scores` of the states low to high; returns those alive after them.

    `scores` and `spare` have two cells of minus infinity before the first state, as have the cells around the states alive: so
    that no state needs a check of what lies before it, and a step's states are computed side by side (benchmarks/decoding.py).
    `scores` then holds the scores after the last step. moves (O, band): by how many states the best path to each state,
    counted from `lowest` (O,) on, moved. Returns (-1, -1) if more than a band of states is alive.
    """
    blank, states, band = log_probs.shape[1] - 1, len(scores) - 2, moves.shape[1]
    # of each state: the symbol it writes, and 0 where a path may leap over the blank before it
    written, leap = np.full(states, blank), np.full(states, -np.inf)
    for index in range(len(symbols)):
        written[2 * index + 1] = symbols[index]
        if index > 0 and symbols[index] != symbols[index - 1]:
            leap[2 * index + 1] = 0.0
    before, after = scores, spare
    for step in range(len(log_probs)):
        reach = min(high + 2, states - 1)
        lowest[step] = low
        if reach - low >= band:
            return -1, -1
        for cell in range(high + 3, reach + 3):  # states that no path has reached yet
            before[cell] = -np.inf
        best = -np.inf
        for state in range(low, reach + 1):
            stay, one, two = before[state + 2], before[state + 1], before[state] + leap[state]
            score = one if one > stay else stay
            moved = 1 if one > stay else 0
            moved = 2 if two > score else moved
            score = two if two > score else score
            emission = log_probs[step, written[state]]
            score += emission if emission > FLOOR else FLOOR
            after[state + 2] = score
            moves[step, state - low] = moved
            best = score if score > best else best
        high = reach
        while low < high and after[low + 2] < best - breadth:
            low += 1
        while high > low and after[high + 2] < best - breadth:
            high -= 1
        after[low], after[low + 1] = -np.inf, -np.inf
        before, after = after, before
    if len(log_probs) % 2:
        scores[:] = before
    return low, high
