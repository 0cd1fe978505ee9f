"""Batches of like length: their plan for an epoch, and their making by threads while the model works."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from carnelian.data.alphabet import Alphabet
from carnelian.data.audio import load_audio
from carnelian.data.augment import Augmentation
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError


@dataclass(frozen=True, slots=True)
class Batch:
    """Utterances as tensors: audio (B, S) float32 padded with zeros, targets (B, L) int64, their lengths (B,) int64."""

    audio: torch.Tensor
    audio_lengths: torch.Tensor
    targets: torch.Tensor
    target_lengths: torch.Tensor
    texts: list[str]
    utterances: list[Utterance]

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on a device; the copy runs beside other work where the batch is pinned."""
        return self.mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pin(self) -> "Batch":
        """The batch in page-locked memory, from which a GPU copies faster."""
        return self.mapped(torch.Tensor.pin_memory)

    def mapped(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        """The batch with each of its tensors changed."""
        audio, targets = change(self.audio), change(self.targets)
        lengths, target_lengths = change(self.audio_lengths), change(self.target_lengths)
        return Batch(audio, lengths, targets, target_lengths, self.texts, self.utterances)

    def __len__(self) -> int:
        return len(self.utterances)


def collate(utterances: Sequence[Utterance], audio: Sequence[np.ndarray], alphabet: Alphabet) -> Batch:
    """The batch of utterances and their waveforms (S,)."""
    targets = [torch.tensor(alphabet.encode(utterance.text), dtype=torch.int64) for utterance in utterances]
    waveforms = [torch.from_numpy(waveform) for waveform in audio]
    return Batch(
        torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True),
        torch.tensor([len(waveform) for waveform in waveforms]),
        torch.nn.utils.rnn.pad_sequence(targets, batch_first=True),
        torch.tensor([len(target) for target in targets]),
        [utterance.text for utterance in utterances],
        list(utterances),
    )


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
) -> list[np.ndarray]:
    """One epoch's batches for one of several processes: arrays of indices into `durations`, each index once.

    A batch holds `batch_size` utterances, or as many as are `batch_seconds` long with their padding. Batches are of
    like length, with as much chance in them as keeps the padding under its share; unshuffled ones (and the first
    epoch's, if sorted, as in SortaGrad) come from short to long. The processes' k-th batches together are the k-th
    batch of one process with `ranks` times the size. Raises ManifestError for fewer utterances than processes.
    """
    durations = np.asarray(durations, np.float64)
    if len(durations) < ranks:
        raise ManifestError(f"{len(durations)} utterances for {ranks} processes. Give at least one to each")
    if (batch_size is None) == (batch_seconds is None):
        raise ValueError("give batch_size or batch_seconds")
    in_order = not shuffle or (sorted_first_epoch and epoch == 0)

    def cut(noise: float, rng: np.random.Generator) -> list[np.ndarray]:
        keys = np.log(np.maximum(durations, 1e-3))
        order = np.argsort(keys + noise * rng.uniform(-1, 1, len(keys)) if noise else keys, kind="stable")
        if batch_size is not None:
            return np.array_split(order, -(-len(order) // (batch_size * ranks)))
        assert batch_seconds is not None
        return cut_by_seconds(order, durations, batch_seconds * ranks, ranks)

    if in_order:
        plan = cut(0.0, np.random.default_rng(0))
    else:
        rng = np.random.default_rng((seed, epoch))
        plan = cut(choose_noise(cut, durations, padding), rng)
        plan = [plan[index] for index in rng.permutation(len(plan))]
    return [batch[rank::ranks] for batch in plan]


def choose_noise(cut, durations: np.ndarray, padding: float) -> float:
    """The most noise on the logarithm of durations with which `cut` keeps the share of padding."""
    low, high = 0.0, 2.0
    for _ in range(8):
        middle = (low + high) / 2
        share = padding_share(cut(middle, np.random.default_rng(0)), durations)
        low, high = (middle, high) if share < 0.96 * padding else (low, middle)
    return low


def cut_by_seconds(order: np.ndarray, durations: np.ndarray, seconds: float, least: int) -> list[np.ndarray]:
    """Indices in runs whose count times longest duration is at most `seconds`, but of at least `least` indices."""
    batches, first, longest = [], 0, 0.0
    lengths = durations[order].tolist()
    for position, duration in enumerate(lengths):
        count = position - first
        longer = max(longest, duration)
        if count >= least and (count + 1) * longer > seconds:
            batches.append(order[first:position])
            first, longer = position, duration
        longest = longer
    if len(order) - first < least and batches:
        first -= len(batches.pop())
    return [*batches, order[first:]]


def padding_share(plan: Sequence[np.ndarray], durations: np.ndarray) -> float:
    """The part of all batches' seconds that is padding, 0 to 1."""
    held = sum(len(batch) * float(durations[batch].max()) for batch in plan)
    return 1 - sum(float(durations[batch].sum()) for batch in plan) / held if held else 0.0


def load_batches(
    manifest: Sequence[Utterance],
    plan: Sequence[np.ndarray],
    *,
    alphabet: Alphabet,
    sample_rate: int,
    seed: int = 0,
    epoch: int = 0,
    augment: Augmentation | None = None,
    workers: int = 2,
    start: int = 0,
) -> Iterator[Batch]:
    """The plan's batches in order, from its batch `start` on, made ahead by `workers` threads (0: none).

    Augmentation draws from (seed, epoch, index of the utterance): batches are the same for any workers and start.
    """

    def load(index: int) -> tuple[Utterance, np.ndarray]:
        utterance = manifest[index]
        try:
            audio = load_audio(utterance, sample_rate)
            return utterance, augment(audio, np.random.default_rng((seed, epoch, index))) if augment else audio
        except Exception as error:
            error.add_note(f"while loading {utterance.audio_filepath}")
            raise

    def make(indices: np.ndarray) -> Batch:
        utterances, audio = zip(*(load(int(index)) for index in indices))
        return collate(utterances, audio, alphabet)

    rest = iter(plan[start:])
    if not workers:
        yield from map(make, rest)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    coming: deque[Future] = deque()
    try:
        for indices in rest:
            coming.append(pool.submit(make, indices))
            if len(coming) > workers + 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
