"""Batches of utterances of similar length: planned for an epoch, and loaded by threads while the model works."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from carnelian.data.alphabet import Alphabet
from carnelian.data.audio import load_audio
from carnelian.data.augment import Augmentation, at_speed
from carnelian.data.shards import read_ahead
from carnelian.data.utterance import Utterance
from carnelian.errors import CarnelianError, ManifestError
from carnelian.jit import compiled

if TYPE_CHECKING:
    import torch

Made = TypeVar("Made")

AT_ONCE = 8
"""From how many shards at once the utterances of a batch come."""
AHEAD = 32
"""How many batches before they are needed (at least) the shards at a URL begin to be fetched."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Utterances as tensors: audio (B, S) float32 padded with zeros, targets (B, L) int64, their lengths (B,) int64."""

    audio: torch.Tensor
    audio_lengths: torch.Tensor
    targets: torch.Tensor
    target_lengths: torch.Tensor
    texts: list[str]
    utterances: list[Utterance]

    def to(self, device: torch.device | str) -> Batch:
        """The batch on a device; the copy runs beside other work where the batch is pinned."""
        return self.mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pin(self) -> Batch:
        """The batch in page-locked memory, from which a GPU copies faster."""
        return self.mapped(lambda tensor: tensor.pin_memory())

    def mapped(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        """The batch with each of its tensors changed."""
        audio, targets = change(self.audio), change(self.targets)
        lengths, target_lengths = change(self.audio_lengths), change(self.target_lengths)
        return Batch(audio, lengths, targets, target_lengths, self.texts, self.utterances)

    def __len__(self) -> int:
        return len(self.utterances)


def collate(utterances: Sequence[Utterance], audio: Sequence[np.ndarray], alphabet: Alphabet) -> Batch:
    """The batch of utterances and their waveforms (S,)."""
    targets = [np.array(alphabet.encode(utterance.text), np.int64) for utterance in utterances]
    texts = [utterance.text for utterance in utterances]
    return Batch(*padded(audio), *padded(targets), texts, list(utterances))


def padded(rows: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as one tensor (B, longest), zeros after their ends, and their lengths (B,).

    NumPy fills it: PyTorch would start threads of its own in every loading thread, beside those that train.
    """
    import torch

    lengths = [len(row) for row in rows]
    filled = np.zeros((len(rows), max(lengths)), rows[0].dtype)
    for row, place in zip(rows, filled):
        place[: len(row)] = row
    return torch.from_numpy(filled), torch.tensor(lengths)


def plan_batches(
    durations: np.ndarray,
    *,
    batch_size: int | None = None,
    batch_seconds: float | None = None,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    rank: int = 0,
    ranks: int = 1,
    sorted_first_epoch: bool = False,
    padding: float = 0.05,
    shards: np.ndarray | None = None,
) -> list[np.ndarray]:
    """One epoch's batches for one of several processes: arrays of indices into `durations`, each index once.

    A batch holds `batch_size` utterances, or as many as are `batch_seconds` long with their padding. Batches are of
    like length, with as much chance in them as keeps the padding under its share; unshuffled ones (and the first
    epoch's, if sorted, as in SortaGrad) come from short to long. The processes' k-th batches together are the k-th
    batch of one process with `ranks` times the size (unless that one's last batch is too small to share: the others
    take it in). Given the number of each utterance's shard (a manifest's `shards`), an epoch goes through
    the shards a few at a time and each process through its own part of them. Raises ManifestError for fewer utterances
    than processes.
    """
    durations = np.asarray(durations, np.float64)
    if len(durations) < ranks:
        raise ManifestError(f"{len(durations)} utterances for {ranks} processes. Give at least one to each")
    if (batch_size is None) == (batch_seconds is None):
        raise ValueError("give batch_size or batch_seconds")
    if (
        batch_seconds is not None
    ):  # a duration of 0 says "the whole recording": it may be as long as a batch, and gets its own
        durations = np.where(durations > 0, durations, batch_seconds)
    shuffle = shuffle and not (sorted_first_epoch and epoch == 0)
    if shards is not None and np.any(shards >= 0):
        settings = {"batch_size": batch_size, "batch_seconds": batch_seconds, "padding": padding}
        return plan_shards(durations, shards, (seed, epoch), shuffle, rank, ranks, settings)
    rng = np.random.default_rng((seed, epoch))
    lengths, chance = np.log(np.maximum(durations, 0.01)), rng.uniform(-1, 1, len(durations))

    def cut(noise: float, least: int = 1) -> list[np.ndarray]:
        order = np.argsort(lengths + noise * chance, kind="stable")
        if batch_size is not None:
            return np.array_split(order, min(-(-len(order) // (batch_size * ranks)), len(order) // ranks))
        assert batch_seconds is not None
        return np.split(order, cuts_by_seconds.for_work(len(order))(durations[order], batch_seconds * ranks, least))

    if shuffle:
        plan = cut(most_noise(lambda noise: padding_share(cut(noise), durations), padding), ranks)
        plan = [plan[index] for index in rng.permutation(len(plan))]
    else:
        plan = cut(0.0, ranks)
    return [batch[rank::ranks] for batch in plan]


def plan_shards(
    durations: np.ndarray,
    shards: np.ndarray,
    seed: tuple[int, int],
    shuffle: bool,
    rank: int,
    ranks: int,
    settings: dict[str, Any],
) -> list[np.ndarray]:
    """`plan_batches` for shards: their utterances in a line, shard after shard in random order, cut evenly for
    the processes (so that two may read from one shard), and for each process into batches from a few shards at a time.
    """
    rng = np.random.default_rng(seed)
    numbers, which = np.unique(shards, return_inverse=True)
    turn = rng.permutation(len(numbers)) if shuffle else np.arange(len(numbers))
    line = np.argsort(turn[which], kind="stable")
    plans = []
    for own in np.array_split(line, ranks):
        plan: list[np.ndarray] = []
        for some in np.split(own, np.flatnonzero(np.diff(turn[which[own]] // AT_ONCE)) + 1):
            batches = plan_batches(durations[some], seed=int(rng.integers(1 << 31)), shuffle=shuffle, **settings)
            plan += [some[batch] for batch in batches]
        plans.append(plan)
    most = max(map(len, plans))
    for plan in plans:
        while len(plan) < most:  # every process takes as many steps: the biggest batches are halved
            biggest = max(range(len(plan)), key=lambda index: len(plan[index]))
            if len(plan[biggest]) < 2:
                raise ManifestError(f"{len(durations)} utterances are too few for {ranks} processes. Take fewer")
            plan[biggest : biggest + 1] = np.array_split(plan[biggest], 2)
    return plans[rank]


def most_noise(share: Callable[[float], float], padding: float) -> float:
    """The most noise on the logarithm of durations (uniform, either way) whose share of padding is not above the one
    allowed; the noise comes out near that share, and 0 is taken where none will do."""
    low, high = 0.0, 4 * padding
    for _ in range(6):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) <= padding else (low, middle)
    return low


@compiled()
def cuts_by_seconds(durations: np.ndarray, seconds: float, least: int) -> np.ndarray:
    """Where to cut durations into runs whose count times longest is at most `seconds`, if they are `least` or more."""
    cuts, count, first, longest = np.empty(len(durations), np.int64), 0, 0, 0.0
    for at in range(len(durations)):
        longest = max(longest, durations[at])
        if at - first >= least and (at + 1 - first) * longest > seconds:
            cuts[count], first, longest = at, at, durations[at]
            count += 1
    if len(durations) - first < least and count:
        count -= 1
    return cuts[:count]


def padding_share(plan: Sequence[np.ndarray], durations: np.ndarray) -> float:
    """The part of all batches' seconds that is padding, 0 to 1."""
    counts, held = np.array([len(batch) for batch in plan]), np.asarray(durations, np.float64)[np.concatenate(plan)]
    padded = np.dot(np.maximum.reduceat(held, np.cumsum(counts) - counts), counts)
    return 1 - float(held.sum() / padded) if padded > 0 else 0.0


def load_batches(
    manifest: Sequence[Utterance],
    plan: Sequence[np.ndarray],
    *,
    alphabet: Alphabet,
    sample_rate: int,
    seed: int = 0,
    epoch: int = 0,
    augment: Augmentation | None = None,
    speeds: np.ndarray | None = None,
    workers: int = 2,
    start: int = 0,
) -> Iterator[Batch]:
    """The plan's batches in order, from its batch `start` on, made ahead by `workers` threads (0: none).

    Augmentation draws from (seed, epoch, index of the utterance): batches are the same for any workers and start. `speeds` are
    how fast each utterance of the manifest is played, ahead of the augmentation.
    """

    def load(index: int) -> tuple[Utterance, np.ndarray]:
        utterance = manifest[index]
        try:
            audio = load_audio(utterance, sample_rate)
            if speeds is not None:
                audio = at_speed(audio, speeds[index])
            return utterance, augment(audio, np.random.default_rng((seed, epoch, index))) if augment else audio
        except Exception as error:
            error.add_note(f"while loading {utterance.audio_filepath}")
            raise

    def make(indices: np.ndarray) -> Batch:
        utterances, audio = zip(*(load(int(index)) for index in indices))
        return collate(utterances, audio, alphabet)

    yield from make_ahead(make, manifest, plan, workers, start)


def load_waveforms(
    utterances: Sequence[Utterance],
    plan: Sequence[np.ndarray],
    *,
    sample_rate: int,
    workers: int = 2,
    unread: Callable[[int, CarnelianError], None] | None = None,
) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Yields (index of the utterance, waveform (S,)) of each of the plan's batches, made ahead by `workers` threads (0: none).

    unread: called with an utterance's index and the error where its recording cannot be read; without it, the error is raised.
    """

    def make(indices: np.ndarray) -> list[tuple[int, np.ndarray]]:
        made = []
        for index in indices.tolist():
            try:
                made.append((index, load_audio(utterances[index], sample_rate)))
            except CarnelianError as error:
                if unread is None:
                    raise
                unread(index, error)
        return made

    yield from make_ahead(make, utterances, plan, workers)


def make_ahead(
    make: Callable[[np.ndarray], Made],
    manifest: Sequence[Utterance],
    plan: Sequence[np.ndarray],
    workers: int,
    start: int = 0,
) -> Iterator[Made]:
    """Yields `make` of each of the plan's batches in order, from the batch `start` on, computed ahead by `workers` threads."""
    rest = iter(plan[start:])
    if not workers:
        yield from map(make, rest)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    coming: deque[Future] = deque()
    try:
        for number, indices in enumerate(rest):
            for index in () if number % AHEAD else np.concatenate(plan[start + number : start + number + 2 * AHEAD]):
                read_ahead(manifest[index].audio_filepath)
            coming.append(pool.submit(make, indices))
            if len(coming) > workers + 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
