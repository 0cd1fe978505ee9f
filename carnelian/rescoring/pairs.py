"""Pairs to train a corrector on: which of them are of use, and the folds of a cross-decoding."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from carnelian.data.text.pairs import Pair
from carnelian.data.utterance import Utterance
from carnelian.scoring.wer import Errors, count_errors

LARGEST_WER = 0.5


@dataclass
class PairFilter:
    """Lets pairs through that are of use, and counts the others. `errors` are those of the pairs that went through."""

    largest_wer: float = LARGEST_WER
    kept: int = 0
    without_text: int = 0
    duplicates: int = 0
    too_wrong: int = 0
    errors: Errors = field(default_factory=Errors)
    seen: set[tuple[str, str]] = field(default_factory=set)

    def usable(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Returns the pairs with a reference, none of them twice, and none of a word error rate above the largest."""
        found = []
        for pair in pairs:
            errors = count_errors(pair.text, pair.hypothesis)
            if not pair.text:
                self.without_text += 1
            elif (pair.hypothesis, pair.text) in self.seen:
                self.duplicates += 1
            elif errors.rate > self.largest_wer:
                self.too_wrong += 1
            else:
                self.seen.add((pair.hypothesis, pair.text))
                self.errors += errors
                found.append(pair)
        self.kept += len(found)
        return found

    def rows(self) -> list[tuple[str, str]]:
        """Returns what became of the pairs, for a table."""
        return [
            ("pairs", f"{self.kept:,}"),
            ("word error rate of the pairs", f"{100 * self.errors.rate:.2f} %"),
            ("left out: the same pair again", f"{self.duplicates:,}"),
            (f"left out: word error rate above {100 * self.largest_wer:g} %", f"{self.too_wrong:,}"),
            ("left out: no reference", f"{self.without_text:,}"),
        ]


def utterance_speaker(utterance: Utterance) -> str:
    """Returns who speaks, "" where the manifest does not say."""
    return str(utterance.more.get("speaker", ""))


def speaker_folds(speakers: Sequence[str], sizes: Sequence[float], count: int) -> np.ndarray:
    """Returns the fold (N,) of each utterance: all of a speaker in one, folds of similar total size, the same for the same input.

    An utterance of an unknown speaker ("") is taken for one of a speaker of its own. Fewer speakers than folds leave folds empty.
    """
    names = [speaker or f"\0{index}" for index, speaker in enumerate(speakers)]
    totals: dict[str, float] = {}
    for name, size in zip(names, sizes, strict=True):
        totals[name] = totals.get(name, 0.0) + size
    filled, chosen = np.zeros(count), {}
    for name in sorted(totals, key=lambda name: (-totals[name], name)):
        chosen[name] = int(filled.argmin())
        filled[chosen[name]] += totals[name]
    return np.array([chosen[name] for name in names], np.int64)
