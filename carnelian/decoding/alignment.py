"""Where symbols lie in time: the likeliest path through log-probabilities that spells them."""

import numba
import numpy as np

ROOM = 48  # places alive at a step that are provided for, first
BREADTH = 16.0  # natural log; paths that far behind the best at a step are given up, first


@numba.njit(cache=True, nogil=True)
def forced_align(log_probs, symbols):
    """First step (N,), last step (N,) and highest log-probability (N,) of each symbol on the likeliest path.

    log_probs: (O, V) float32, blank last; symbols: (N,) int64, which must fit: a step for each and one between equals.
    """
    fitted, first, last, peaks = _forced_align(log_probs, symbols, BREADTH, ROOM)
    if not fitted:
        fitted, first, last, peaks = _forced_align(log_probs, symbols, np.inf, 2 * len(symbols) + 1)
    return first, last, peaks


@numba.njit(cache=True, nogil=True)
def _forced_align(log_probs, symbols, breadth, room):
    """Viterbi over the places blank, symbol 0, blank, symbol 1, ..., blank; false where no path reaches the end.

    Of the places only the stretch `low` to `high` is alive at a step, `room` of them at the most. `came` holds how many
    places a path moved on.
    """
    steps, blank = len(log_probs), log_probs.shape[1] - 1
    if len(symbols) == 0:
        return True, np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    places = 2 * len(symbols) + 1
    came, lowest = np.empty((steps, room), np.uint8), np.empty(steps, np.int64)
    before, after = np.full(places, -np.inf), np.full(places, -np.inf)
    before[0] = 0.0  # the blank before the first step
    low, high = 0, 0
    for step in range(steps):
        best = -np.inf
        reach = min(high + 2, places - 1)
        lowest[step] = low
        if reach - low >= room:
            return False, np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        for place in range(low, reach + 1):
            symbol = symbols[place // 2] if place % 2 else blank
            score, moved = before[place] if place <= high else -np.inf, 0
            if place - 1 >= low and place - 1 <= high and before[place - 1] > score:
                score, moved = before[place - 1], 1
            leaps = place % 2 == 1 and place > 1 and symbol != symbols[place // 2 - 1]
            if leaps and place - 2 >= low and before[place - 2] > score:
                score, moved = before[place - 2], 2
            after[place] = score + log_probs[step, symbol]
            came[step, place - lowest[step]] = moved
            best = max(best, after[place])
        high = reach
        while low < high and after[low] < best - breadth:
            low += 1
        while high > low and after[high] < best - breadth:
            high -= 1
        before, after = after, before
    first, last = np.empty(len(symbols), np.int64), np.empty(len(symbols), np.int64)
    peaks = np.full(len(symbols), -np.inf, np.float32)
    place = places - 1
    if high < places - 1 or (low < places - 1 and before[places - 2] > before[places - 1]):
        place = places - 2
    if high < place or low > place or not before[place] > -np.inf:
        return False, first, last, peaks
    last[:] = -1
    for step in range(steps - 1, -1, -1):
        if place % 2:
            symbol = place // 2
            first[symbol] = step
            last[symbol] = max(last[symbol], step)
            peaks[symbol] = max(peaks[symbol], log_probs[step, symbols[symbol]])
        place -= came[step, place - lowest[step]]
    return True, first, last, peaks
