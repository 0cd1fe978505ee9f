"""Batches with a share of each source: the shares hold in every batch, nothing of the first is lost, the others go round."""

from itertools import chain

import numpy as np
import pytest

from carnelian.training.corpus import plan_mixture

RNG = np.random.default_rng(0)
DURATIONS = RNG.uniform(1, 10, 330).astype(np.float32)
SOURCES = np.repeat([0, 1, 2], [100, 200, 30])


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.75, 0.25)])
def test_every_batch_has_its_shares_by_count(shares):
    two = SOURCES < 2
    plan = plan_mixture(DURATIONS[two], SOURCES[two], shares, batch_size=8)
    assert len(plan) == -(-100 // round(8 * shares[0]))
    for batch in plan:
        assert abs((SOURCES[batch] == 1).sum() - 8 * shares[1]) <= 1 and abs(len(batch) - 8) <= 1
    assert sorted(index for index in chain.from_iterable(plan) if index < 100) == list(range(100))


def test_every_batch_has_its_shares_by_seconds():
    plan = plan_mixture(DURATIONS, SOURCES, (0.5, 0.3, 0.2), batch_seconds=120)
    seconds = np.array([[DURATIONS[batch[SOURCES[batch] == k]].sum() for k in range(3)] for batch in plan])
    np.testing.assert_allclose(seconds.sum(0) / seconds.sum(), (0.5, 0.3, 0.2), atol=0.05)
    assert (seconds.sum(1) <= 120).all()


def test_the_other_source_goes_on_where_it_stopped_and_comes_round_evenly():
    two = SOURCES < 2
    seen = np.zeros(300, int)
    for epoch in range(8):
        plan = plan_mixture(DURATIONS[two], SOURCES[two], (0.5, 0.5), batch_size=8, epoch=epoch)
        np.add.at(seen, np.concatenate(plan), 1)
    assert (seen[:100] == 8).all() and set(seen[100:]) <= {3, 4, 5} and seen[100:].sum() == 800


def test_a_function_of_seed_and_epoch_and_alike_on_several_processes():
    given = {"batch_size": 8, "epoch": 3, "seed": 5}
    once, again = (plan_mixture(DURATIONS, SOURCES, (0.5, 0.25, 0.25), **given) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))
    ranks = [plan_mixture(DURATIONS, SOURCES, (0.5, 0.25, 0.25), rank=rank, ranks=2, **given) for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1])
    assert sorted(i for plan in ranks for i in np.concatenate(plan) if i < 100) == list(range(100))


def test_parts_of_a_batch_are_of_similar_length():
    two = SOURCES < 2
    plan = plan_mixture(DURATIONS[two], SOURCES[two], (0.5, 0.5), batch_size=16)
    padded = sum(len(batch) * DURATIONS[batch].max() for batch in plan)
    assert sum(DURATIONS[batch].sum() for batch in plan) / padded > 0.85
