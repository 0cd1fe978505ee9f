"""Values of a model that was mapped from a file: whether compiled code can walk its tables safely and in bounded time."""

import numpy as np

from carnelian.jit import cached
from carnelian.ngram.hashed import LN10
from carnelian.ngram.model import ARC, FREE, LARGEST_BACKOFF, LARGEST_LOG10, LONGEST, STATE, NGram

LONGEST_RUN = 1 << 16  # used slots of a hash table side by side; far beyond what any sound table has
LOWEST, HIGHEST = -LARGEST_LOG10 * LN10, 1e-3  # natural log: of a probability, which rounding may lift above 0
HIGHEST_BACKOFF = LARGEST_BACKOFF * LN10 + 1e-3


def check_model(model: NGram) -> None:
    """Raises ValueError for tables that were damaged or made up, from their shapes and all their values.

    Reads every value once, in compiled code.
    """
    unigrams, arcs, states, _ = model.tables
    count = len(unigrams)
    shapes = (
        unigrams.dtype == np.float32
        and arcs.dtype == ARC
        and states.dtype == STATE
        and model.text.dtype == np.uint8
        and unigrams.ndim == arcs.ndim == states.ndim == model.text.ndim == 1
        and len(arcs) & (len(arcs) - 1) == 0
        and len(arcs) > 0
        and 1 <= len(model.counts) <= LONGEST
        and len(states) >= count == model.counts[0] > 0
        and sum(model.counts[1:]) <= len(arcs)
        and min(model.counts) >= 0
        and 0 <= model.unknown < count
        and -1 <= model.start < count
        and -1 <= model.end < count
    )
    if not shapes:
        raise ValueError("the shapes of its tables do not fit together")
    if model.text.tobytes().decode().count("\n") != count - 1:
        raise ValueError("its words are not as many as its 1-grams")
    if not _sound_values(unigrams):
        raise ValueError("a log-probability is no number, or above 0")
    if not _sound_states(states, count):
        raise ValueError("a context is out of bounds, or its back-off no number")
    if not _sound_arcs(arcs, len(states), count):
        raise ValueError("an n-gram is out of bounds, or its table is full")


@cached
def _sound_values(values):
    """Whether all values are log-probabilities."""
    sound = True
    for index in range(len(values)):
        sound &= LOWEST < values[index] <= HIGHEST
    return sound


@cached
def _sound_states(states, words):
    """Whether each context's next shorter one comes before it, which leaves no circle, and all back-offs are numbers."""
    sound = True
    for index in range(len(states)):
        shorter = states[index].shorter
        sound &= -1 <= shorter < index and (shorter == -1) == (index < words)
        sound &= LOWEST < states[index].backoff <= HIGHEST_BACKOFF
    return sound


@cached
def _sound_arcs(arcs, states, words):
    """Whether all n-grams lead from a context by a word to a context, and free slots end every search in the table."""
    sound, run, longest, first_run = True, 0, 0, -1
    for slot in range(len(arcs)):
        arc = arcs[slot]
        if arc.key == FREE:
            first_run = run if first_run < 0 else first_run
            run = 0
            continue
        run += 1
        longest = max(longest, run)
        sound &= arc.key >> np.uint64(32) < states and (arc.key & np.uint64(0xFFFFFFFF)) < words
        sound &= 0 <= arc.target < states and LOWEST < arc.probability <= HIGHEST
    return sound and first_run >= 0 and max(longest, run + first_run) <= LONGEST_RUN


@cached
def sound_entries(keys, probabilities, backoffs, begin, end):
    """Whether a hash table of a KenLM binary, slots begin to end, has numbers for values and ends every search.

    keys: (M,) uint64, 0 where a slot is free; probabilities, backoffs: (M,) float32, log10; the sign of a probability
    means something else there.
    """
    sound, run, longest, first_run = True, 0, 0, -1
    for slot in range(begin, end):
        if keys[slot] == 0:
            first_run = run if first_run < 0 else first_run
            run = 0
            continue
        run += 1
        longest = max(longest, run)
        sound &= abs(probabilities[slot]) < LARGEST_LOG10 and -LARGEST_LOG10 < backoffs[slot] <= LARGEST_BACKOFF
    return sound and first_run >= 0 and max(longest, run + first_run) <= LONGEST_RUN
