"""A neural language model of a checkpoint: the log-probability of each word of sentences, alone or one after the other."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from carnelian.checkpoint import build_from, load_checkpoint
from carnelian.data.alphabet import Alphabet
from carnelian.errors import LanguageModelError
from carnelian.models.device import choose_device
from carnelian.models.registry import build_language_model
from carnelian.rescoring.tokens import END_TOKEN, WordTokens

TOKENS_AT_ONCE = 8192  # in a batch, padding included
LONGEST_ROW = 512  # tokens of a sentence that are computed at once; more are computed in segments, with memory


class NeuralLanguageModel:
    """A language model and its alphabet: `scores` of sentences, each a list of words (see `split_words`)."""

    def __init__(self, model: Any, alphabet: Alphabet, *, segment: int = LONGEST_ROW):
        """segment: tokens that are read at once where sentences are read as one text; those of the training."""
        self.model, self.alphabet, self.tokens, self.segment = model, alphabet, WordTokens(alphabet), segment

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def known(self, words: Sequence[str]) -> np.ndarray:
        """Returns which of the words it knows: those of its vocabulary, or those that its symbols spell."""
        return np.array([self.tokens(word)[1] for word in words], bool)

    def scores(self, sentences: Sequence[Sequence[str]], *, context: bool = False) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (index, natural log-probabilities of the words and of the sentence's end) of all sentences, in any order.

        A word's is the sum of its tokens'; an unknown word's is that of <unk>, or of the symbols that spell a part of it. With
        `context` the sentences are one text, each after those before it; else each stands alone.
        """
        if context:
            yield from self._in_context(sentences)
            return
        spelled = [self.tokens.sentence(words) for words in sentences]
        order = sorted(range(len(spelled)), key=lambda index: len(spelled[index][0]))
        while order:
            longest = len(spelled[order[-1]][0])  # the longest first, so that memory that suffices for it suffices
            batch = order[-max(1, TOKENS_AT_ONCE // longest) :]
            del order[-len(batch) :]
            found = self._log_probs([spelled[index][0] for index in batch])
            for index, row in zip(batch, found):
                yield index, of_words(row, spelled[index][1])

    @torch.inference_mode()
    def _log_probs(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns the log-probabilities (B, L) of the tokens of rows that each begin a text; any numbers after their ends."""
        filled = np.full((len(rows), max(map(len, rows)) + 1), END_TOKEN, np.int64)
        for place, row in zip(filled, rows):
            place[1 : len(row) + 1] = row
        tokens, memory, parts = torch.from_numpy(filled).to(self.device), None, []
        for first in range(0, filled.shape[1] - 1, LONGEST_ROW):
            part = tokens[:, first : first + LONGEST_ROW + 1]
            log_probs, memory = self.model(part[:, :-1], part[:, 1:], memory)
            parts.append(log_probs)
        return torch.cat(parts, 1).double().cpu().numpy()

    @torch.inference_mode()
    def _in_context(self, sentences: Sequence[Sequence[str]]) -> Iterator[tuple[int, np.ndarray]]:
        """Yields as `scores`, each sentence as soon as its last token has been read."""
        memory, last, waiting, segment = None, END_TOKEN, [], self.segment
        pending: list[int] = []
        for index, words in enumerate(sentences):
            tokens, ends = self.tokens.sentence(words)
            waiting.append((index, ends))
            pending += tokens
            if len(pending) < segment and index + 1 < len(sentences):
                continue
            row = torch.tensor([[last, *pending]], device=self.device)
            parts = []
            for first in range(0, len(pending), segment):
                part = row[:, first : first + segment + 1]
                log_probs, memory = self.model(part[:, :-1], part[:, 1:], memory)
                parts.append(log_probs[0])
            found, first = torch.cat(parts).double().cpu().numpy(), 0
            for number, ends in waiting:
                yield number, of_words(found[first:], ends)
                first += ends[-1]
            last, pending, waiting = pending[-1], [], []


def of_words(log_probs: np.ndarray, ends: Sequence[int]) -> np.ndarray:
    """Returns the sums of tokens' log-probabilities up to each word's last token, from the word before it."""
    sums = np.concatenate([[0.0], np.cumsum(log_probs[: ends[-1]])])
    return np.diff(sums[[0, *ends]])


def load_neural_model(path: str | Path, *, device: str = "cpu") -> NeuralLanguageModel:
    """Returns the language model of a checkpoint, or of the last one in a run's folder. Raises LanguageModelError for another kind."""
    checkpoint = load_checkpoint(path)
    task = checkpoint.recipe.get("task", "acoustic")
    if task != "language":
        raise LanguageModelError(
            f'{path}: a checkpoint of task = "{task}", not a language model. Give one that a recipe with task = "language" trained'
        )
    model = build_from(checkpoint, build_language_model, where=path)
    segment = int(checkpoint.recipe.get("train", {}).get("segment", LONGEST_ROW))
    return NeuralLanguageModel(model.to(choose_device(device)), checkpoint.alphabet, segment=segment)
