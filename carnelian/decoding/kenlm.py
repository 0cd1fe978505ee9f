"""KenLM's binaries, asked through its own package: they keep hashes of n-grams, which no other program can list. The
door to kenlm."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from carnelian.errors import LanguageModelError, MissingExtraError

LN10 = math.log(10)
MAGIC = b"mmap lm http://kheafield.com/code"


class KenLM:
    """A model that KenLM holds, with what `NGram` has for scoring sentences; the beam search needs an NGram."""

    def __init__(self, path: str | Path):
        try:
            from kenlm import Model
        except ImportError:
            raise MissingExtraError("kenlm", "kenlm", f"{path}: reading a KenLM binary") from None
        try:
            self.model = Model(str(path))
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise LanguageModelError(f"{path}: KenLM cannot read it ({reason}). Build it again") from None

    @property
    def order(self) -> int:
        return self.model.order

    def word_scores(self, words: Sequence[str], *, start: bool = True, end: bool = True) -> np.ndarray:
        """Natural log-probability of each word after those before it, float32; the last one is </s> where `end`."""
        scores = [score for score, _, _ in self.model.full_scores(" ".join(words), bos=start, eos=end)]
        return np.array(scores, np.float32) * np.float32(LN10)

    def known(self, words: Sequence[str]) -> np.ndarray:
        """Which of the words it knows."""
        return np.array([word in self.model for word in words], bool)
