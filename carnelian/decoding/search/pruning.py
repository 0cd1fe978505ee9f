"""Pruning: which candidates of a beam search are kept: the best, and of those with the same state key only one."""

import numpy as np

from carnelian.jit import borrowing, inlined


@inlined
def mix_probabilities(key):
    """Returns a hash of 64 bits."""
    key = (key ^ (key >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    key = (key ^ (key >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return key ^ (key >> np.uint64(33))


@inlined
def recombine(beam, index, kept):
    """Whether a candidate can be dropped because one of the first `kept` has the same state key and is at least as probable.

    The state key is the language model's state, the unfinished word and the last symbol. Whatever follows adds the same
    to both, so that one that is no more probable, with a blank at its end and without, cannot become the better. If the
    earlier one is the less probable, the candidate takes its slot. Two that spell the same words are added up.
    """
    pool, state_keys, pruning = beam.next, beam.state_keys, beam.totals[0].prunings
    this = pool[index]
    key = mix_probabilities(
        this.unfinished ^ mix_probabilities(np.uint64(this.state) * np.uint64(1 << 20) + np.uint64(this.symbol + 1))
    )
    mask = np.uint64(len(state_keys) - 1)
    slot, gone = key & mask, False
    while not gone and state_keys[slot].pruning == pruning:
        if state_keys[slot].key == key:
            other = pool[state_keys[slot].kept]
            if other.finished == this.finished:
                blank, spoken, rank = other.blank + this.blank, other.spoken + this.spoken, other.rank + this.rank
                if this.blank + this.spoken > other.blank + other.spoken:  # the more probable spelling gives the times
                    pool[state_keys[slot].kept] = this
                other.blank, other.spoken, other.rank = blank, spoken, rank
                gone = True
            elif other.blank >= this.blank and other.spoken >= this.spoken:
                gone = True
            elif this.blank >= other.blank and this.spoken >= other.spoken:
                pool[state_keys[slot].kept] = this
                gone = True
        slot = (slot + np.uint64(1)) & mask
    if not gone:
        entry = state_keys[slot]
        entry.key, entry.kept, entry.pruning = key, kept, pruning
    return gone


@borrowing
def highest_but(values, count, skipped):
    """Returns the highest of values[:count] after the `skipped` highest ones; reorders the values (quickselect, Hoare 1961)."""
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
        whole = candidate.tree_node >= 0 and tree[candidate.tree_node].word >= 0
        if (candidate.letters == 0 or whole) and (best < 0 or candidate.rank > beam.next[best].rank):
            best = index
    return best


@borrowing
def keep_best(beam, filled, least_rank, tree, closed, settings):
    """Leaves in `next` the best candidates, as many as the beam is wide, in their order; returns their number.

    Under a closed vocabulary the best candidate that may end the utterance is kept besides, however far it is behind:
    without it the beam could hold nothing but unfinished words at the end.
    """
    pool, kept = beam.next, 0
    beam.totals[0].prunings += 1
    finished = best_finished(beam, filled, tree) if closed else -1
    for index in range(filled):
        if (pool[index].rank < least_rank or pool[index].rank <= 0.0) and index != finished:
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
def least_rank_of(beam, settings):
    """Returns the rank that a candidate must reach, from the candidates that exist already."""
    best, worst = 0.0, np.inf
    for index in range(beam.totals[0].size):
        prefix = beam.next[index]
        prefix.rank = (prefix.blank + prefix.spoken) * prefix.look_ahead
        best, worst = max(best, prefix.rank), min(worst, prefix.rank)
    least_rank = best * settings.beam_factor
    return max(least_rank, worst) if beam.totals[0].size == settings.width else least_rank
