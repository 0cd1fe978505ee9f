"""Forced alignment against enumeration of every path, and in bounded memory."""

import itertools

import numpy as np
import pytest

from carnelian.decoding import alignment
from carnelian.decoding.alignment import forced_align


def random_case(seed, steps, symbols):
    random = np.random.default_rng(seed)
    log_probs = random.normal(0, 2, (steps, 4))
    log_probs -= np.log(np.exp(log_probs).sum(axis=1, keepdims=True))
    return log_probs.astype(np.float32), random.integers(0, 3, symbols)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_of_all_paths(seed):
    log_probs, symbols = random_case(seed, 6, seed % 3 + 1)
    fitting = [
        path
        for path in itertools.product(range(4), repeat=6)
        if [symbol for symbol, _ in itertools.groupby(path) if symbol != 3] == symbols.tolist()
    ]
    best = max(fitting, key=lambda path: sum(log_probs[range(6), path].astype(float)))
    groups = [list(steps) for symbol, steps in itertools.groupby(range(6), lambda step: best[step]) if symbol != 3]
    first, last, peaks = forced_align(log_probs, symbols)
    assert first.tolist() == [group[0] for group in groups]
    assert last.tolist() == [group[-1] for group in groups]
    assert peaks.tolist() == [log_probs[group, symbol].max() for group, symbol in zip(groups, symbols)]


@pytest.mark.parametrize("budget", [1, 500, 20_000])
def test_block_by_block_gives_what_one_block_gives(budget):
    for seed in range(20):
        log_probs, symbols = random_case(seed, 200, 7 * seed % 60)
        states = 2 * len(symbols) + 1
        whole, parts = (
            alignment._align(log_probs, symbols, np.inf, states, limit) for limit in (alignment.MOVES, budget)
        )
        for one, other in zip(whole, parts):
            assert np.array_equal(one, other)


def test_probabilities_of_zero_leave_a_path():
    log_probs = np.full((4, 3), -np.inf, np.float32)
    log_probs[:, 0] = 0
    first, last, _ = forced_align(log_probs, np.array([0, 1]))
    assert (first[0], last[1]) == (0, 3)
