"""Weighted word errors: every word counts by a weight of its own, in the alignment and in the rate."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from carnelian.errors import ScoringError
from carnelian.files import one_line
from carnelian.scoring.sclite.network import NULL
from carnelian.scoring.sclite.stm import numbered_lines

UNKNOWN_BITS = 20.0  # the weight of words that a language model does not know, as in sclite


@dataclass(frozen=True, slots=True)
class WordWeights:
    """What words weigh; `name` says where the weights are from.

    weigh: gives the weight of the last of up to `order` words; those before it are its context. Where alternates give a
    word several contexts, the mean of all counts. Words that may be left out weigh nothing.
    """

    weigh: Callable[[tuple[str, ...]], float]
    order: int
    name: str


@dataclass(frozen=True, slots=True)
class WeightedErrors:
    """Sums of weights; they add up with `+`. A substitution weighs as much as both its words."""

    reference: float = 0.0
    hits: float = 0.0
    substitutions: float = 0.0
    deletions: float = 0.0
    insertions: float = 0.0

    @property
    def rate(self) -> float:
        """The weight of all errors by that of the reference."""
        total = self.substitutions + self.deletions + self.insertions
        return total / self.reference if self.reference else float("inf") if total else 0.0

    def __add__(self, other: "WeightedErrors") -> "WeightedErrors":
        return WeightedErrors(
            self.reference + other.reference,
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


def read_word_weights(path: str | Path, encoding: str = "utf-8") -> WordWeights:
    """The weights of a word-weight list: `word weight` in each line, `;;` begins a comment.

    The comment `;; Default missing weight '30'` gives the weight of all other words, otherwise 0; parts of a word that
    equals signs join weigh together.
    """
    weights: dict[str, float] = {}
    default = 0.0
    for number, line in numbered_lines(path, encoding):
        text = line
        try:
            if line.startswith((";;", ";*")):
                if "Default missing weight" in line:
                    default = float(line.split("'")[1])
                continue
            word, text = line.split()[:2]
            weights.setdefault(word, float(text))
        except (ValueError, IndexError):
            raise ScoringError(
                f'{path}:{number}: "{one_line(line.strip(), 60)}" gives no weight. Write: word weight'
            ) from None
    if not weights:
        raise ScoringError(f"{path}: no word has a weight. Write in each line: word weight")

    def weigh(words: tuple[str, ...]) -> float:
        if words[-1] == NULL:
            return 0.0
        parts = words[-1].split("=") if "=" in words[-1] else [words[-1]]
        return sum(weights.get(part, default) for part in parts if part)

    return WordWeights(weigh, 1, str(path))
