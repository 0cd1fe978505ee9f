"""The page of `carnelian evaluate --report`: rates, groups, confusions, calibration, and every utterance with its alignment."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from itertools import chain, combinations
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from carnelian.console import duration_text
from carnelian.scoring.calibration import calibrate
from carnelian.scoring.confidence import interval_of_counts
from carnelian.scoring.report.frame import Column, ReportUtterance, SampledAudio, base_columns, write_page
from carnelian.scoring.significance import matched_pairs
from carnelian.scoring.wer import Errors, character_errors_of_texts, edits_of_steps, steps_of_texts

MOST_GROUPS = 200  # speakers or subsets that are listed
MOST_WORDS = 50  # confusions that are listed
DURATIONS = (1, 2, 4, 8, 16, 32)  # seconds between the slots of durations
LEVELS = (0, 10, 20, 30, 40)  # decibels between the slots of signal-to-noise ratios


@dataclass(frozen=True)
class SystemResult:
    """The hypotheses of one system for all utterances, and the confidences of their words, where it has them."""

    name: str
    hypotheses: Sequence[str]
    confidences: Sequence[Sequence[float]] = field(default_factory=list)


class AlignedSystem:
    """A system's hypotheses aligned with the references.

    steps: of each utterance a string of h, s, d, i; counts (N, 4): how many of those; edits: the errors. confidences: of all words in
    a row, empty where there is not one for each word; firsts (N + 1,): where each utterance's begin.
    """

    def __init__(self, system: SystemResult, references: Sequence[str]):
        self.name, self.hypotheses, self.references = system.name, system.hypotheses, references
        self.steps = steps_of_texts(references, self.hypotheses)
        self.counts = np.array([[each.count(kind) for kind in "hsdi"] for each in self.steps], np.int64).reshape(-1, 4)
        self.edits = [
            edits_of_steps(steps, reference.split(), hypothesis.split(), hits=False) if wrong else []
            for steps, reference, hypothesis, wrong in zip(
                self.steps, references, self.hypotheses, self.errors.tolist()
            )
        ]
        self.confidences = np.fromiter(chain.from_iterable(system.confidences), float)
        self.firsts = np.concatenate([[0], np.cumsum(self.counts[:, [0, 1, 3]].sum(axis=1))])
        if len(self.confidences) != self.firsts[-1]:
            self.confidences = np.zeros(0)
        self.letters = (48 + np.rint(50 * self.confidences)).astype(np.uint8).tobytes().decode()

    @property
    def errors(self) -> np.ndarray:
        """The errors (N,) of each utterance."""
        return self.counts[:, 1:].sum(axis=1)

    @property
    def words(self) -> np.ndarray:
        """The words (N,) of each reference."""
        return self.counts[:, :3].sum(axis=1)

    def rated(self, indices: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Errors and words (N, 2) of utterances: what an interval is drawn from."""
        counts = self.counts[indices]
        return np.stack([counts[:, 1:].sum(axis=1), counts[:, :3].sum(axis=1)], axis=1)

    def row(self, index: int) -> list[Any]:
        """What the page shows of an utterance: operations, the words that are no hits, and confidences in steps of 2 % as letters."""
        others = [edit.hypothesis for edit in self.edits[index] if edit.hypothesis is not None]
        return [self.steps[index], others, self.letters[self.firsts[index] : self.firsts[index + 1]]]


def write_html_report(
    path: Path,
    title: str,
    utterances: Sequence[ReportUtterance],
    systems: Sequence[SystemResult],
    *,
    normalization: str = "none",
    vocabulary: set[str] | None = None,
    sample: Callable[[np.ndarray], SampledAudio] = lambda order: SampledAudio(),
    advance: Callable[[float], None] = lambda count: None,
) -> None:
    """Writes the report of one or more systems on the same utterances.

    normalization: name and version of what was done to both sides. vocabulary: the words of the language model, to tell errors on
    others. sample: the audio of some utterances, given their indices, the worst first. advance: called with the number of utterances
    done.
    """
    references = [each.reference for each in utterances]
    aligned = [AlignedSystem(system, references) for system in systems]
    errors = np.array([each.errors for each in aligned])
    order = np.argsort(-errors[0], kind="stable")
    audio = sample(order)
    figures = {
        "normalization": normalization,
        "duration": duration_text(sum(each.duration for each in utterances)),
        "systems": [describe_system(each, utterances, vocabulary) for each in aligned],
        "comparisons": compare_systems(references, aligned),
        "groups": group_rates(utterances, aligned, audio),
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = np.nan_to_num(100 * errors / aligned[0].words, nan=0.0, posinf=np.inf)
    columns = [Column("errors", "Errors", errors), Column("rate", "WER %", rates), *base_columns(utterances, audio)]
    write_page(
        path,
        "evaluation",
        title,
        figures,
        lambda index: [utterances[index].name, references[index], [each.row(index) for each in aligned]],
        columns,
        order,
        audio.clips,
        advance,
    )


def describe_system(
    system: AlignedSystem, utterances: Sequence[ReportUtterance], vocabulary: set[str] | None
) -> dict[str, Any]:
    """Returns the figures of one system: rates with intervals, confusions, errors on unknown words, calibration."""
    total = Errors(*system.counts.sum(axis=0).tolist())
    characters = character_errors_of_texts(system.references, system.hypotheses)
    speakers = [each.speaker for each in utterances]
    by_speaker = interval_of_counts(system.rated(), groups=speakers) if len(set(speakers)) > 1 else None
    by_utterance = interval_of_counts(system.rated())
    edits = Counter(chain.from_iterable(system.edits))
    unknown = None
    if vocabulary is not None:
        spoken = Counter(chain.from_iterable(map(str.split, system.references)))
        count = sum(times for word, times in spoken.items() if word not in vocabulary)
        missed = sum(times for edit, times in edits.items() if edit.reference and edit.reference not in vocabulary)
        unknown = {"words": count, "errors": missed}
    calibration = None
    if len(system.confidences):
        correct = np.frombuffer("".join(system.steps).replace("d", "").encode(), np.uint8) == ord("h")
        found = calibrate(system.confidences, correct)
        calibration = {"slots": found.bins, "error": found.error, "crossEntropy": found.cross_entropy}
    return {
        "name": system.name,
        "rate": total.rate if np.isfinite(total.rate) else None,
        "counts": [total.hits, total.substitutions, total.deletions, total.insertions],
        "interval": [by_utterance.low, by_utterance.high],
        "speakerInterval": [by_speaker.low, by_speaker.high] if by_speaker else None,
        "characterRate": characters.rate if np.isfinite(characters.rate) else None,
        "confusions": [
            [*edit, times]
            for kind in ("substitution", "deletion", "insertion")
            for edit, times in nlargest(
                MOST_WORDS, (each for each in edits.items() if each[0].kind == kind), itemgetter(1)
            )
        ],
        "unknown": unknown,
        "calibration": calibration,
    }


def compare_systems(references: Sequence[str], systems: Sequence[AlignedSystem]) -> list[dict[str, Any]]:
    """Returns for each two systems NIST's matched-pairs test, and its result in words."""
    found = []
    for one, other in combinations(systems, 2):
        test = matched_pairs(references, one.hypotheses, other.hypotheses)
        better = one if test.mean < 0 else other
        words = "not distinguishable" if test.probability > 0.05 else f"{better.name} is better"
        found.append(
            {
                "systems": [one.name, other.name],
                "z": test.z if np.isfinite(test.z) else None,
                "probability": test.probability,
                "words": words,
            }
        )
    return found


def group_rates(
    utterances: Sequence[ReportUtterance], systems: Sequence[AlignedSystem], audio: SampledAudio
) -> list[dict[str, Any]]:
    """Returns the rates by subset, speaker, duration and signal-to-noise ratio, with intervals, the worst speakers first."""
    names: dict[str, list[str]] = {
        "Subset": [each.subset for each in utterances],
        "Speaker": [each.speaker for each in utterances],
        "Duration": slot_names([each.duration for each in utterances], DURATIONS, "s"),
        "Signal to noise": slot_names([audio.ratios.get(index) for index in range(len(utterances))], LEVELS, "dB"),
    }
    found = []
    for kind, members in names.items():
        groups: dict[str, list[int]] = {}
        for index, member in enumerate(members):
            if member:
                groups.setdefault(member, []).append(index)
        if len(groups) < 2:
            continue
        rows = [describe_group(name, np.array(indices), systems) for name, indices in groups.items()]
        if kind in ("Duration", "Signal to noise"):
            rows.sort(key=lambda row: float(row["name"].replace("below", "-inf").split()[0]))
        else:
            rows.sort(key=lambda row: -(row["rates"][0] or 0.0))
        for row in rows[:MOST_GROUPS]:
            drawn = [interval_of_counts(each.rated(row["indices"]), draws=200) for each in systems]
            row["intervals"] = [[each.low, each.high] for each in drawn]
        listed = [{key: row[key] for key in row if key != "indices"} for row in rows[:MOST_GROUPS]]
        found.append({"kind": kind, "rows": listed, "leftOut": len(rows) - len(listed)})
    return found


def describe_group(name: str, indices: np.ndarray, systems: Sequence[AlignedSystem]) -> dict[str, Any]:
    """Returns the rates of utterances that belong together, and their indices."""
    totals = [Errors(*each.counts[indices].sum(axis=0).tolist()) for each in systems]
    return {
        "name": name,
        "utterances": len(indices),
        "words": totals[0].reference_words,
        "rates": [each.rate if np.isfinite(each.rate) else None for each in totals],
        "indices": indices,
    }


def slot_names(values: Sequence[float | None], edges: Sequence[float], unit: str) -> list[str]:
    """Returns the slot that each value is in, such as "4 to 8 s"; "" for None."""
    between = [f"{low:g} to {high:g} {unit}" for low, high in zip(edges, edges[1:])]
    names = [f"below {edges[0]:g} {unit}", *between, f"{edges[-1]:g} {unit} or more", ""]
    numbers = np.array([np.nan if value is None else value for value in values])
    slots = np.where(np.isnan(numbers), -1, np.searchsorted(edges, numbers, side="right"))
    return [names[slot] for slot in slots.tolist()]
