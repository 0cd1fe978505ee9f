"""pyctcdecode's module of this name: a language model with the weights it is searched with."""

import json
import shutil
from bisect import bisect_left
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

from carnelian.decoding.pyctcdecode.constants import (
    AVG_TOKEN_LEN,
    DEFAULT_ALPHA,
    DEFAULT_BETA,
    DEFAULT_SCORE_LM_BOUNDARY,
    DEFAULT_UNK_LOGP_OFFSET,
    LOG_BASE_CHANGE_FACTOR,
)
from carnelian.ngram.load import load_language_model
from carnelian.ngram.model import EMPTY, NGram, State, handed_out, score_word, taken_in, with_context_capacity_for
from carnelian.ngram.words import SPECIAL_WORDS

ATTRIBUTES, UNIGRAMS = "attrs.json", "unigrams.txt"


def load_unigram_set_from_arpa(arpa_path: str) -> set[str]:
    """Returns the words of an ARPA file."""
    return set(load_language_model(arpa_path).words).difference(SPECIAL_WORDS)


class LanguageModel:
    """An n-gram model and its weights, which may be changed at any time.

    kenlm_model: the path of a model (ARPA or binary, KenLM's too), a model loaded by us, or a `kenlm.Model`.
    unigrams: the words that count as known, all of the model's unless given. unk_score_offset: in log10, to be weighed
    by alpha, for other words. score_boundary: score the sentence's start and end.
    """

    def __init__(
        self,
        kenlm_model: str | Path | NGram | Any,
        unigrams: Collection[str] | None = None,
        alpha: float = DEFAULT_ALPHA,
        beta: float = DEFAULT_BETA,
        unk_score_offset: float = DEFAULT_UNK_LOGP_OFFSET,
        score_boundary: bool = DEFAULT_SCORE_LM_BOUNDARY,
    ):
        path = getattr(kenlm_model, "path", kenlm_model)  # kenlm.Model has its path as bytes
        self.path = None if isinstance(path, NGram) else Path(path.decode() if isinstance(path, bytes) else path)
        self.model: NGram = kenlm_model if isinstance(kenlm_model, NGram) else load_language_model(str(self.path))
        self.unigrams = set(unigrams) if unigrams else None
        self.alpha, self.beta = alpha, beta
        self.unk_score_offset, self.score_boundary = unk_score_offset, score_boundary

    @property
    def _kenlm_model(self) -> NGram:
        return self.model

    @cached_property
    def _unigram_set(self) -> set[str]:
        """The words that count as known."""
        words = set(self.model.words).difference(SPECIAL_WORDS)
        return words if self.unigrams is None else words & self.unigrams

    @cached_property
    def sorted_unigrams(self) -> list[str]:
        """The words that count as known, in order."""
        return sorted(self._unigram_set)

    @property
    def order(self) -> int:
        """Words that the longest n-gram holds."""
        return self.model.order

    def get_start_state(self) -> State:
        """Returns the state before the first word."""
        return self.model.first_state if self.score_boundary else EMPTY

    def score(self, prev_state: State, word: str, is_last_word: bool = False) -> tuple[float, State]:
        """Returns the weighed score (natural logarithm) of a word after a state, and the state after it."""
        words = len(prev_state) if isinstance(prev_state, tuple) else 0
        tables = with_context_capacity_for(self.model.tables, words + 2)
        number = int(self.model.numbers([word])[0])
        score, state = score_word(tables, taken_in(tables, prev_state), number)
        if word not in self._unigram_set:
            score += LOG_BASE_CHANGE_FACTOR * self.unk_score_offset
        if is_last_word and self.score_boundary and self.model.end >= 0:
            score += score_word(tables, state, self.model.end)[0]
        return float(self.alpha * score + self.beta), handed_out(tables, int(state))

    def score_partial_token(self, partial_token: str) -> float:
        """Returns what an unfinished word costs that begins no known word, 0 otherwise."""
        index = bisect_left(self.sorted_unigrams, partial_token)
        if self.sorted_unigrams[index : index + 1] and self.sorted_unigrams[index].startswith(partial_token):
            return 0.0
        return self.unk_score_offset * max(1.0, len(partial_token) / AVG_TOKEN_LEN)

    def save_to_dir(self, filepath: str) -> None:
        """Writes the model and its weights into a folder, as pyctcdecode lays them out."""
        if self.path is None:
            raise ValueError("a language model that was given as an object has no file to copy. Give its path")
        folder = Path(filepath)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.path, folder)
        names = ("alpha", "beta", "unk_score_offset", "score_boundary")
        (folder / ATTRIBUTES).write_text(json.dumps({name: getattr(self, name) for name in names}), encoding="utf-8")
        words = "".join(f"{word}\n" for word in sorted(self.unigrams or ()))
        (folder / UNIGRAMS).write_text(words, encoding="utf-8")

    @classmethod
    def load_from_dir(cls, filepath: str, unigram_encoding: str | None = None) -> "LanguageModel":
        """Returns the language model in a folder that this or pyctcdecode wrote."""
        folder = Path(filepath)
        attributes = json.loads((folder / ATTRIBUTES).read_text(encoding="utf-8"))
        words = (folder / UNIGRAMS).read_text(encoding=unigram_encoding or "utf-8").split("\n")
        path = next(path for path in folder.iterdir() if path.name not in (ATTRIBUTES, UNIGRAMS))
        return cls(path, [word for word in words if word], **attributes)
