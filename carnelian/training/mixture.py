"""Batches that mix several sources, such as real and synthetic speech, by a share of each in every batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from carnelian.data.batch import plan_batches


def plan_mixture(
    durations: np.ndarray,
    sources: np.ndarray,
    shares: Sequence[float],
    *,
    batch_size: int | None = None,
    batch_seconds: float | None = None,
    epoch: int = 0,
    shards: np.ndarray | None = None,
    **settings: Any,
) -> list[np.ndarray]:
    """One epoch's batches (indices into `durations`), each with about `shares[k]` of its utterances or seconds from source k.

    sources (N,): the number of each utterance's source. An epoch is one pass over source 0; the others are gone through at their
    own pace, as often as they are needed, and go on in the next epoch where they stopped. Parts of one batch are of similar length.
    Other settings are those of `plan_batches`.
    """

    def plan(source: int, own_epoch: int) -> list[np.ndarray]:
        members = np.flatnonzero(sources == source)
        batches = plan_batches(
            durations[members],
            batch_size=max(1, round(batch_size * shares[source])) if batch_size else None,
            batch_seconds=batch_seconds * shares[source] if batch_seconds else None,
            epoch=own_epoch,
            shards=None if shards is None else shards[members],
            **settings,
        )
        return [members[batch] for batch in batches]

    leading = plan(0, epoch)
    mixed = list(leading)
    by_length = np.argsort([durations[batch].max() for batch in leading], kind="stable")
    for source in range(1, len(shares)):
        first, skipped = divmod(epoch * len(leading), len(plan(source, 0)))
        found: list[np.ndarray] = []
        while len(found) < skipped + len(leading):
            found += plan(source, first)
            first += 1
        some = sorted(found[skipped : skipped + len(leading)], key=lambda batch: durations[batch].max())
        for index, batch in zip(by_length, some):
            mixed[index] = np.concatenate([mixed[index], batch])
    return mixed
