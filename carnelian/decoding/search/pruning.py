"""Which candidates of a beam search go on: the best, and of those with the same future only one."""

import numpy as np

from carnelian.jit import borrowing, inlined


@inlined
def mix_probabilities(key):
    """A well spread hash of 64 bits."""
    key = (key ^ (key >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    key = (key ^ (key >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return key ^ (key >> np.uint64(33))


@inlined
def recombine(beam, index, kept):
    """Whether a candidate may go because an earlier one, of the `kept` first, has the same future and is ahead of it.

    Same future: same state of the language model, open word and last symbol. The one behind cannot catch up when it
    is behind in both of its masses. It may also replace the earlier one, and then goes as well. Two candidates that
    are the same prefix are added up.
    """
    pool, futures, pruning = beam.next, beam.futures, beam.totals[0].prunings
    this = pool[index]
    key = mix_probabilities(
        this.open ^ mix_probabilities(np.uint64(this.state) * np.uint64(1 << 20) + np.uint64(this.symbol + 1))
    )
    mask = np.uint64(len(futures) - 1)
    place, gone = key & mask, False
    while not gone and futures[place].pruning == pruning:
        if futures[place].key == key:
            other = pool[futures[place].kept]
            if other.closed == this.closed:
                blank, spoken, rank = other.blank + this.blank, other.spoken + this.spoken, other.rank + this.rank
                if this.blank + this.spoken > other.blank + other.spoken:  # the more probable spelling gives the times
                    pool[futures[place].kept] = this
                other.blank, other.spoken, other.rank = blank, spoken, rank
                gone = True
            elif other.blank >= this.blank and other.spoken >= this.spoken:
                gone = True
            elif this.blank >= other.blank and this.spoken >= other.spoken:
                pool[futures[place].kept] = this
                gone = True
        place = (place + np.uint64(1)) & mask
    if not gone:
        entry = futures[place]
        entry.key, entry.kept, entry.pruning = key, kept, pruning
    return gone


@borrowing
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


@borrowing
def best_finished(beam, filled, tree):
    """Returns the index of the best of the first candidates that may end the utterance under a closed vocabulary.

    Such a candidate stands between words or at the end of a word of the vocabulary.
    """
    best = -1
    for index in range(filled):
        candidate = beam.next[index]
        whole = candidate.place >= 0 and tree[candidate.place].word >= 0
        if (candidate.letters == 0 or whole) and (best < 0 or candidate.rank > beam.next[best].rank):
            best = index
    return best


@borrowing
def keep_best(beam, filled, bar, tree, closed, settings):
    """Leaves in `next` the best candidates, as many as the beam is wide, in the order they stood in; their number.

    Under a closed vocabulary the best candidate that may end the utterance is kept besides, however far it is behind:
    without it all that is left could be words that were never finished.
    """
    pool, kept = beam.next, 0
    beam.totals[0].prunings += 1
    finished = best_finished(beam, filled, tree) if closed else -1
    for index in range(filled):
        if (pool[index].rank < bar or pool[index].rank <= 0.0) and index != finished:
            continue
        if settings.recombine and recombine(beam, index, kept):
            continue
        if index > kept:
            pool[kept] = pool[index]
        kept += 1
    if kept <= settings.width:
        return kept
    finished = best_finished(beam, kept, tree) if closed else -1
    for index in range(kept):
        beam.ranks[index] = pool[index].rank
    lowest = highest_but(beam.ranks, kept, settings.width - 1)
    ties = settings.width
    for index in range(kept):
        ties -= pool[index].rank > lowest
    left = 0
    for index in range(kept):
        rank = pool[index].rank
        if rank > lowest or (rank == lowest and ties > 0):
            ties -= rank == lowest
        elif index != finished:
            continue
        if index > left:
            pool[left] = pool[index]
        left += 1
    return left


@inlined
def bar_of(beam, settings):
    """The rank that a candidate must reach, from those that are there already."""
    best, worst = 0.0, np.inf
    for index in range(beam.totals[0].size):
        prefix = beam.next[index]
        prefix.rank = (prefix.blank + prefix.spoken) * prefix.look
        best, worst = max(best, prefix.rank), min(worst, prefix.rank)
    bar = best * settings.beam_factor
    return max(bar, worst) if beam.totals[0].size == settings.width else bar
