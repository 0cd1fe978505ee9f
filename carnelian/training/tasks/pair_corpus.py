"""What a corrector is trained on: pairs of hypothesis and reference as pieces, planned into batches by epoch."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carnelian import console
from carnelian.data.alphabet import BertPieces
from carnelian.data.batch import padded, padding_share, plan_batches
from carnelian.data.text.pairs import Pair, iterate_pairs
from carnelian.errors import ManifestError
from carnelian.training.distributed import World
from carnelian.training.log import Workload
from carnelian.training.settings import CorrectorConfig

NO_TARGET = -100  # target of padding, which has no loss
READ_TOGETHER = 10_000  # pairs, whose words are split into pieces by all cores


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Pieces: source (B, L) of lengths (B,), written (B, N), and targets (B, N) after the written ones, NO_TARGET as padding."""

    source: Tensor
    source_lengths: Tensor
    written: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.source)

    @property
    def tokens(self) -> int:
        """The pieces that are to be written."""
        return int((self.targets != NO_TARGET).sum())

    def to(self, device: str) -> "PairBatch":
        """Returns the batch on a device."""
        return PairBatch(*(getattr(self, name).to(device) for name in self.__slots__))


TOKENS = Workload(lambda batches: sum(batch.tokens for batch in batches), "tokens", "tokens_per_second")


class PairCorpus:
    """The pairs of files in batches by epoch, for one of the processes. Pairs that are longer than the model can read are left out."""

    def __init__(self, config: CorrectorConfig, pieces: BertPieces, world: World, *, positions: int, seed: int):
        """positions: the most pieces of a text, with the two that mark its ends. Raises ManifestError."""
        self.config, self.pieces, self.world, self.seed = config, pieces, world, seed
        self.paths = ", ".join(config.pairs)
        self.characters: set[str] = set()
        self.unknown = self.words = self.too_long = 0
        self.sides: list[list[np.ndarray]] = [[], []]
        with console.bar("reading pairs") as advance:
            pairs = iterate_pairs(*config.pairs)
            while together := list(islice(pairs, READ_TOGETHER)):
                self.add(together, positions)
                advance(len(together))
        self.check()
        self.lengths = np.array([max(map(len, pair)) for pair in zip(*self.sides)])
        #: pieces of the longest hypothesis
        self.longest = max(len(source) for source in self.sides[0]) - 2

    def add(self, pairs: Sequence[Pair], positions: int) -> None:
        """Adds pairs as pieces between the marks of a text's beginning and end."""
        pieces = self.pieces
        texts, hypotheses = [pair.text for pair in pairs], [pair.hypothesis for pair in pairs]
        self.characters.update(*texts, *hypotheses)
        self.words += sum(len(text.split()) for text in texts)
        for source, target in zip(pieces.split(hypotheses), pieces.split(texts)):
            self.unknown += sum(piece == pieces.unknown_piece for piece, *_ in target)
            if max(len(source), len(target)) + 2 > positions:
                self.too_long += 1
                continue
            for side, found in zip(self.sides, (source, target)):
                side.append(np.array([pieces.first, *(piece for piece, *_ in found), pieces.last], np.int32))

    def check(self) -> None:
        """Raises ManifestError where there is no pair, or where they are in a language that the vocabulary is not of."""
        if not self.sides[0]:
            raise ManifestError(f"{self.paths}: no pair, or all are too long ({self.too_long}). Give other files")
        share = self.unknown / max(1, self.words)
        if share > self.config.unknown_words:
            raise ManifestError(
                f"{self.paths}: {100 * share:.1f} % of the references' words cannot be spelled in the vocabulary, which is of another "
                "language or script. Begin with a BERT of that language, or raise [train] unknown_words"
            )

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Returns the batches of an epoch, as indices of pairs."""
        return plan_batches(
            self.lengths,
            batch_seconds=self.config.batch_tokens,
            seed=self.seed,
            epoch=epoch,
            rank=self.world.rank,
            ranks=self.world.ranks,
            padding=self.config.padding,
        )

    def batches(self, epoch: int, start: int) -> Iterator[PairBatch]:
        """Yields the batches of an epoch from its batch `start` on."""
        for indices in self.plan(epoch)[start:]:
            sources, targets = ([side[index] for index in indices] for side in self.sides)
            yield pair_batch(sources, targets)

    def describe(self) -> None:
        """Notes what is trained on."""
        tokens, share = sum(map(len, self.sides[1])), padding_share(self.plan(1), self.lengths)
        left = f"; {self.too_long} left out, longer than the model reads" if self.too_long else ""
        console.note(f"{len(self.lengths):,} pairs, {tokens:,} pieces to write, {100 * share:.1f} % padding{left}")

    def fingerprint(self) -> dict[str, Any]:
        """Returns numbers that identify what is trained on."""
        checksum = 0
        for side in self.sides:
            for pieces in side:
                checksum = zlib.crc32(pieces.tobytes(), checksum)
        return {"pairs": len(self.lengths), "pieces": checksum}


def pair_batch(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> PairBatch:
    """Returns a batch of pairs of pieces, marked at both ends."""
    source, lengths = padded(sources)
    written, _ = padded([each[:-1] for each in targets])
    following, following_lengths = padded([each[1:] for each in targets])
    past = torch.arange(following.shape[1]) >= following_lengths[:, None]
    return PairBatch(source.long(), lengths, written.long(), following.long().masked_fill(past, NO_TARGET))
