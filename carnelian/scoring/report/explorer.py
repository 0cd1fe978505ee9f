"""The page of `carnelian explore`: what a corpus holds, and every utterance, the outliers or a model's worst first."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from carnelian.console import duration_text
from carnelian.scoring.report.evaluation import AlignedSystem, SystemResult
from carnelian.scoring.report.frame import Column, ReportUtterance, SampledAudio, base_columns, write_page
from carnelian.scoring.wer import Errors

OUTLIER = 3.5  # modified z-score, as Iglewicz and Hoaglin, "How to detect and handle outliers", 1993, propose
RARE = 3.0  # a character in less than one of 10 to the power of this many utterances is rare
MOST_LISTED = 100  # words, characters and speakers in a table
SLOTS_OF_HISTOGRAM = 40


@dataclass
class Outliers:
    """How far each utterance (N,) is from the others, by its most striking reason, and all its reasons in words."""

    scores: np.ndarray
    reasons: dict[int, list[str]] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, indices: np.ndarray, scores: np.ndarray | float, words: Callable[[int], str]) -> None:
        """Adds a reason to utterances; `words` says it of the one with this index."""
        np.maximum.at(self.scores, indices, scores)
        for index in indices.tolist():
            self.reasons.setdefault(index, []).append(words(index))
        self.kinds[kind] += len(indices)


def write_explorer(
    path: Path,
    title: str,
    utterances: Sequence[ReportUtterance],
    *,
    system: SystemResult | None = None,
    vocabulary: set[str] | None = None,
    duplicates: Sequence[tuple[int, int]] = (),
    unread: Sequence[int] = (),
    sample: Callable[[np.ndarray], SampledAudio] = lambda order: SampledAudio(),
    advance: Callable[[float], None] = lambda count: None,
) -> None:
    """Writes the page of the utterances of one or more manifests.

    system: what a model recognized, whose worst utterances then come first. vocabulary: the words of a language model. duplicates:
    pairs of utterances, the later one first, that are the same segment with the same text. unread: utterances whose recording cannot
    be read. sample: the audio of some utterances, given their indices as the page lists them. advance: called with the number of
    utterances done.
    """
    texts = [each.reference for each in utterances]
    seconds = np.array([each.duration for each in utterances])
    lengths, words = np.array([len(text.strip()) for text in texts]), [text.split() for text in texts]
    counts = np.array(list(map(len, words)))
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = np.where(lengths > 0, lengths / seconds, np.nan)
    outliers = find_outliers(texts, seconds, rates)
    columns = [Column("rate", "Characters/s", rates, 1), Column("words", "Words", counts)]
    if vocabulary is not None:
        outside = np.array([sum(word not in vocabulary for word in each) for each in words])
        many = np.flatnonzero((outside > 0) & (2 * outside >= counts))
        outliers.add(
            "unknown words", many, OUTLIER + outside[many] / counts[many], lambda i: f"{outside[i]} unknown words"
        )
        columns.append(Column("outside", "Unknown words", outside))
    first = dict(duplicates)
    outliers.add(
        "duplicate", np.array(list(first), int), 4.0, lambda index: f"the same as utterance {first[index] + 1}"
    )
    outliers.add("not read", np.array(unread, int), 20.0, lambda index: "the recording cannot be read")
    columns = [Column("score", "Outlier", outliers.scores, 1), *columns]
    aligned, order = None, np.argsort(-outliers.scores, kind="stable")
    if system:
        aligned = AlignedSystem(system, texts)
        columns = [Column("errors", "Errors", aligned.errors), *columns]
        order = np.lexsort((-outliers.scores, -aligned.errors))
    audio = sample(order)
    columns += base_columns(utterances, audio)
    figures = describe_corpus(utterances, words, seconds, rates, vocabulary)
    figures["histograms"]["Signal to noise, of a sample"] = slots_of(np.array(list(audio.ratios.values())), "dB")
    figures |= {"outlier": OUTLIER, "outliers": outliers.kinds.most_common()}
    figures |= {"model": describe_recognizer(aligned) if aligned else None}

    def row(index: int) -> list[Any]:
        found = aligned.row(index) if aligned else None
        return [utterances[index].name, texts[index], outliers.reasons.get(index, []), found]

    write_page(path, "explorer", title, figures, row, columns, order, audio.clips, advance)


def find_outliers(texts: Sequence[str], seconds: np.ndarray, rates: np.ndarray) -> Outliers:
    """Returns the utterances without a text, those unlike the others in duration or rate, and those with rare characters."""
    found = Outliers(np.zeros(len(texts)))
    found.add(
        "no text",
        np.array([index for index, text in enumerate(texts) if not text.strip()], int),
        10.0,
        lambda _: "no text",
    )
    for values, kinds, unit in ((seconds, ("short", "long"), "s"), (rates, ("slow", "fast"), "characters/s")):
        scores, middle = modified_scores(values), np.nanmedian(values) if np.isfinite(values).any() else 0.0
        np.fmax(found.scores, np.abs(scores), out=found.scores)
        for kind, beyond in zip(kinds, (scores <= -OUTLIER, scores >= OUTLIER)):

            def described(
                index: int, kind: str = kind, values: np.ndarray = values, middle: float = middle, unit: str = unit
            ) -> str:
                return f"{kind}: {values[index]:.2f} {unit} (median {middle:.2f})"

            found.add(kind, np.flatnonzero(beyond), 0.0, described)
    rare = rare_characters(texts)
    holding = [index for index, text in enumerate(texts) if not rare.keys().isdisjoint(text)] if rare else []
    scores = np.array([max(rare.get(letter, 0.0) for letter in texts[index]) for index in holding])
    found.add(
        "rare characters",
        np.array(holding, int),
        0.5 + scores,
        lambda i: f"rare characters: {''.join(sorted(set(texts[i]) & rare.keys()))}",
    )
    return found


def modified_scores(values: np.ndarray) -> np.ndarray:
    """Returns how many robust standard deviations each logarithm is from the median, 0 where that cannot be said."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms = np.log(values)
    logarithms[~np.isfinite(logarithms)] = np.nan
    if np.isnan(logarithms).all():
        return np.zeros(len(values))
    apart = logarithms - np.nanmedian(logarithms)
    spread = np.nanmedian(np.abs(apart))
    return np.nan_to_num(0.6745 * apart / spread) if spread > 0 else np.zeros(len(values))


def rare_characters(texts: Sequence[str]) -> dict[str, float]:
    """Returns the characters that are in less than one of 1,000 texts, with the negative logarithm (base 10) of their share."""
    holding = Counter(chain.from_iterable(map(set, texts)))
    shares = {letter: float(np.log10(len(texts) / times)) for letter, times in holding.items()}
    return {letter: share for letter, share in shares.items() if share > RARE}


def describe_corpus(
    utterances: Sequence[ReportUtterance],
    words: Sequence[Sequence[str]],
    seconds: np.ndarray,
    rates: np.ndarray,
    vocabulary: set[str] | None,
) -> dict[str, Any]:
    """Returns the figures of a corpus: totals, histograms, alphabet, vocabulary, words that a language model lacks, speakers."""
    times = Counter(chain.from_iterable(words))
    letters: Counter[str] = Counter()
    holding: Counter[str] = Counter()
    for each in utterances:
        letters.update(each.reference)
        holding.update(set(each.reference))
    speakers: dict[str, list[float]] = {}
    for each in utterances:
        if each.speaker:
            speakers.setdefault(each.speaker, []).append(each.duration)
    outside = (
        Counter({word: count for word, count in times.items() if word not in vocabulary})
        if vocabulary is not None
        else None
    )
    longest = sorted(speakers.items(), key=lambda item: -sum(item[1]))
    return {
        "duration": duration_text(float(seconds.sum())),
        "seconds": [float(each) for each in np.quantile(seconds, [0, 0.05, 0.5, 0.95, 1])] if len(seconds) else [],
        "words": times.total(),
        "distinct": len(times),
        "once": sum(count == 1 for count in times.values()),
        "histograms": {
            "Durations": slots_of(seconds, "seconds"),
            "Characters per second": slots_of(rates[np.isfinite(rates)], "characters/s"),
            "Words of an utterance": slots_of(np.array(list(map(len, words))), "words", 1.0),
        },
        "alphabet": [
            [letter, f"U+{ord(letter):04X}", count, holding[letter]]
            for letter, count in letters.most_common()[: 3 * MOST_LISTED]
        ],
        "letters": len(letters),
        "vocabulary": times.most_common(MOST_LISTED),
        "outside": outside
        and {"words": outside.total(), "distinct": len(outside), "most": outside.most_common(MOST_LISTED)},
        "speakers": len(speakers),
        "most": [[name, len(own), sum(own) / 60] for name, own in longest[:MOST_LISTED]],
    }


def describe_recognizer(aligned: AlignedSystem) -> dict[str, Any]:
    """Returns a model's name and error rate."""
    total = Errors(*aligned.counts.sum(axis=0).tolist())
    return {"name": aligned.name, "rate": total.rate if np.isfinite(total.rate) else None}


def slots_of(values: np.ndarray, unit: str, least: float = 1e-3) -> dict[str, Any] | None:
    """Returns a histogram, None of no values; what is beyond the upper 0.1 % is in its last slot.

    Its edges are round, and at least `least` apart.
    """
    if not len(values):
        return None
    low, high = float(values.min()), float(np.quantile(values, 0.999))
    width = max((high - low) / SLOTS_OF_HISTOGRAM, least)
    power = 10.0 ** np.floor(np.log10(width))
    width = power * next(each for each in (1, 2, 5, 10) if each * power >= width * 0.999)
    edges = np.arange(np.floor(low / width), np.floor(high / width) + 2) * width
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)  # an edge may be rounded past the lowest
    return {"edges": [round(each, 4) for each in edges.tolist()], "counts": counts.tolist(), "unit": unit}
