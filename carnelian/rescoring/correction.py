"""Transcripts corrected by a BERTx2: the likeliest output of a beam search, where it is probable enough."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carnelian.checkpoint import Checkpoint, check_weights, load_checkpoint, load_weights
from carnelian.console import note
from carnelian.data.alphabet import Alphabet, BertPieces
from carnelian.data.batch import padded, plan_batches
from carnelian.errors import CarnelianError, CheckpointError
from carnelian.files import reading
from carnelian.formats.catalog import find_checkpoint
from carnelian.models.device import choose_device
from carnelian.models.text.bert import BertConfig
from carnelian.models.text.bertx2 import BertX2
from carnelian.recipe import Recipe, call, in_short
from carnelian.rescoring.beams import best_outputs, output_scores
from carnelian.rescoring.spelling import spell_correction, split_long

BEAM_WIDTH = 4
BATCH_PIECES = 2048  # in a batch, padding included
#: share of an alphabet's letters that a corrector may never have seen
UNSEEN_LETTERS = 0.1


@dataclass(frozen=True, slots=True)
class Correction:
    """A correction that is likelier than the text itself, and its probability: the geometric mean of its pieces'.

    Where the corrector would change nothing, the text and 0.
    """

    text: str
    probability: float = 0.0


class Corrector:
    """Corrects texts of a recognizer: `corrector(["a text", ...])` returns them with their probable corrections."""

    def __init__(
        self,
        model: BertX2,
        pieces: BertPieces,
        *,
        threshold: float = 0.0,
        characters: str = "",
        longest: int = 0,
        beam_width: int = BEAM_WIDTH,
    ):
        """threshold: probability above which a correction is applied; 1: none is. characters: those that it was trained on; a text
        with another letter is left as it is ("": any). longest: pieces of a text that are read at once (0: as many as the model can).
        """
        self.model, self.pieces, self.threshold, self.beam_width = model.eval(), pieces, threshold, beam_width
        self.letters = {character.lower() for character in characters if character.isalpha()}
        most = model.config.positions - 2
        self.longest = min(longest, most) if longest else most

    @classmethod
    def load(
        cls, path: str | Path, *, threshold: float | None = None, device: str = "", beam_width: int = BEAM_WIDTH
    ) -> "Corrector":
        """Returns the corrector of a checkpoint, or of the last one in a run's folder, with the threshold that is stored in it.

        Raises CarnelianError where none is stored and none is given.
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise CarnelianError(
                f"threshold {threshold:g}: no probability. Give a number from 0 (all corrections) to 1 (none)"
            )
        checkpoint, pieces = load_corrector_checkpoint(path)
        more: Mapping[str, Any] = checkpoint.more or {}
        if threshold is None and "correction" not in more:
            raise CarnelianError(
                f"{path}: it is not known which of its corrections to trust. Find that on pairs of held-out speakers: "
                f"carnelian correct threshold {path} PAIRS"
            )
        with reading(path, "a corrector", CheckpointError):
            with torch.device("meta"):
                check_weights(build_corrector(checkpoint.recipe, pieces), checkpoint.weights, where=path)
            model = build_corrector(checkpoint.recipe, pieces)
            load_weights(model, checkpoint.weights, where=path)
            if threshold is None:
                threshold = float(more["correction"]["threshold"])
            if threshold >= 1:
                note(f"{path}: did not win on enough held-out speakers, so that nothing is corrected")
            notes = {"characters": str(more.get("characters", "")), "longest": int(more.get("longest", 0))}
        return cls(model.to(choose_device(device)), pieces, threshold=threshold, beam_width=beam_width, **notes)  # type: ignore[arg-type]

    def check_alphabet(self, alphabet: Alphabet, where: str | Path) -> None:
        """Raises CarnelianError for a recognizer whose alphabet has letters that the corrector was not trained on."""
        spelled = b"".join(alphabet.spelling).decode(errors="ignore").lower()
        letters = {character for character in spelled if character.isalpha()}
        unseen = sorted(letters - self.letters)
        if self.letters and len(unseen) > UNSEEN_LETTERS * len(letters):
            raise CarnelianError(
                f"{where}: a corrector for another language: of the recognizer's {len(letters)} letters it has never seen "
                f"{len(unseen)}, such as {' '.join(unseen[:5])}. Give one that was trained on this recognizer's language"
            )

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Returns the texts, each corrected where the probability is above the threshold; a long one part by part."""
        if self.threshold >= 1:
            return list(texts)
        parts = [split_long(self.pieces, text, self.longest) if self.is_known(text) else [] for text in texts]
        found = iter(self.propose([part for each in parts for part in each]))
        corrected = []
        for text, own in zip(texts, parts):
            choices = [next(found) for _ in own]
            chosen = [
                choice.text if choice.probability > self.threshold else part for choice, part in zip(choices, own)
            ]
            corrected.append(text if chosen == own else " ".join(filter(None, chosen)))
        return corrected

    def is_known(self, text: str) -> bool:
        """Whether a text has letters, and none that the corrector was not trained on."""
        letters = {character for character in text.lower() if character.isalpha()}
        return bool(letters) and (not self.letters or letters <= self.letters)

    def is_whole(self, text: str) -> bool:
        """Whether a text is corrected, and in one part."""
        return self.is_known(text) and len(split_long(self.pieces, text, self.longest)) == 1

    @torch.inference_mode()
    def propose(self, texts: Sequence[str]) -> list[Correction]:
        """Returns the likeliest correction of each text; texts longer than the model reads are left as they are."""
        split = self.pieces.split(texts)
        corrections = [Correction(text) for text in texts]
        usable = [index for index, each in enumerate(split) if 0 < len(each) <= self.model.config.positions - 2]
        if not usable:
            return corrections
        lengths = np.array([len(split[index]) + 2 for index in usable])
        for batch in plan_batches(lengths, batch_seconds=BATCH_PIECES, shuffle=False):
            indices = [usable[place] for place in batch]
            sources = [[piece for piece, *_ in split[index]] for index in indices]
            for index, (output, probability) in zip(indices, self.search(sources)):
                text = spell_correction(self.pieces, output, texts[index], split[index]) if probability else None
                if text is not None and text != texts[index]:
                    corrections[index] = Correction(text, probability)
        return corrections

    def search(self, sources: Sequence[Sequence[int]]) -> list[tuple[list[int], float]]:
        """Returns the likeliest pieces for those of each text, and their mean probability; its own and 0 where these are likelier.

        A text whose own pieces have half of the probability or more is not searched: no others can have more.
        """
        pieces, device = self.pieces, self.model.bias.device
        marked = [np.array([pieces.first, *source, pieces.last], np.int64) for source in sources]
        read, lengths = (each.to(device) for each in padded(marked))
        state = self.model.read(read, lengths)
        own = output_scores(self.model, state, read, lengths)
        found = [(list(source), 0.0) for source in sources]
        searched = [row for row, score in enumerate(own) if score < math.log(0.5)]
        if searched:
            state.select(torch.tensor(searched, device=device))
            longest = [self.output_limit(len(sources[row])) for row in searched]
            best = best_outputs(self.model, state, longest, self.forbidden(device), pieces, self.beam_width)
            for row, (output, score) in zip(searched, best):
                if score > own[row] and output != list(sources[row]):
                    found[row] = output, math.exp(score / (len(output) + 1))  # with the mark of the end
        return found

    def output_limit(self, length: int) -> int:
        """Returns the most pieces that may be written for a text of `length` pieces: a correction is hardly twice as long."""
        return min(2 * length + 8, self.model.config.positions - 1)

    def forbidden(self, device: torch.device) -> Tensor:
        """Returns which outputs (V,) are never written: the marks but that of the end, and the rows that fill up the vocabulary."""
        mask = torch.zeros(len(self.model.bias), dtype=torch.bool, device=device)
        mask[len(self.pieces) :] = True
        marks = [
            index
            for index, piece in enumerate(self.pieces.symbols)
            if piece.startswith("[") and piece.endswith("]") and len(piece) > 2
        ]
        mask[[mark for mark in marks if mark not in (self.pieces.last, self.pieces.unknown_piece)]] = True
        return mask


def build_corrector(recipe: Recipe, pieces: BertPieces) -> BertX2:
    """Returns a BERTx2 with random weights, of the sizes in a recipe's [corrector]. Raises RecipeError."""
    return BertX2(len(pieces), call(BertConfig, recipe.get("corrector", {}), where="corrector"))


def load_corrector_checkpoint(path: str | Path) -> tuple[Checkpoint, BertPieces]:
    """Returns the checkpoint of a corrector, or the last one in a run's folder, and its pieces. Raises CheckpointError."""
    checkpoint = load_checkpoint(find_checkpoint(path))
    task = checkpoint.recipe.get("task", "acoustic")
    if task != "corrector" or not isinstance(checkpoint.alphabet, BertPieces):
        raise CheckpointError(
            f'{path}: a model with task = {in_short(task)}, which corrects nothing. Give one that was trained with task = "corrector"'
        )
    return checkpoint, checkpoint.alphabet
