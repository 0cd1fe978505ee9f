"""Error rates as one HTML file that needs no network: rates, groups, confusions, calibration, and every utterance with its alignment.

The utterances are compressed in parts, which the page opens as they are looked at: 300,000 of them stay under 50 MB.
"""

import base64
import gzip
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from carnelian.files import written
from carnelian.scoring.calibration import calibrate, correct_words
from carnelian.scoring.confidence import interval
from carnelian.scoring.significance import matched_pairs
from carnelian.scoring.wer import Edit, Errors, align_words, character_errors_of_texts, errors_of_texts

UTTERANCES_PER_PART = 2000  # utterances that are compressed together
MOST_GROUPS = 200  # speakers or subsets that are listed
MOST_WORDS = 50  # confusions that are listed
DURATIONS = (1, 2, 4, 8, 16, 32)  # seconds between the slots of durations
LEVELS = (0, 10, 20, 30, 40)  # decibels between the slots of signal-to-noise ratios
OPERATIONS = {"hit": "h", "substitution": "s", "deletion": "d", "insertion": "i"}


@dataclass(frozen=True, slots=True)
class Clip:
    """Sound to play in the page: a file of a browser's format, and the waveform's outline, values from 0 to 1."""

    content: bytes
    mime: str
    outline: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ReportUtterance:
    """An utterance as the report shows it; snr in decibels, None where it was not measured."""

    name: str
    reference: str
    duration: float
    subset: str = ""
    speaker: str = ""
    snr: float | None = None
    clip: Clip | None = None


@dataclass(frozen=True)
class SystemResult:
    """The hypotheses of one system for all utterances, and the confidences of their words, where it has them."""

    name: str
    hypotheses: Sequence[str]
    confidences: Sequence[Sequence[float]] = field(default_factory=list)


def write_html_report(
    path: Path,
    title: str,
    utterances: Sequence[ReportUtterance],
    systems: Sequence[SystemResult],
    *,
    normalization: str = "none",
    vocabulary: set[str] | None = None,
    advance: Callable[[float], None] = lambda count: None,
) -> None:
    """Writes the report of one or more systems on the same utterances.

    normalization: name and version of what was done to both sides. vocabulary: the words of the language model, to tell errors on
    others. advance: called with the number of utterances done.
    """
    references = [each.reference for each in utterances]
    errors = [errors_of_texts(references, system.hypotheses) for system in systems]
    parts = [
        alignments(utterances[at : at + UTTERANCES_PER_PART], systems, at, advance)
        for at in range(0, len(utterances), UTTERANCES_PER_PART)
    ]
    payload = {
        "title": title,
        "normalization": normalization,
        "utterances": len(utterances),
        "hours": sum(each.duration for each in utterances) / 3600,
        "part": UTTERANCES_PER_PART,
        "systems": [
            describe_system(system, references, each, utterances, vocabulary) for system, each in zip(systems, errors)
        ],
        "comparisons": compare_systems(references, systems),
        "groups": group_rates(utterances, errors),
        "columns": columns(utterances, errors),
    }
    clips = {
        index: {"audio": data_address(each.clip), "outline": [round(value, 2) for value in each.clip.outline]}
        for index, each in enumerate(utterances)
        if each.clip
    }
    page = files("carnelian.scoring.report") / "page"
    text = (page / "report.html").read_text(encoding="utf-8").replace("<!--title-->", escaped(title))
    scripts = [f'<script type="application/json" class="part">{compressed(part)}</script>' for part in parts]
    for mark, content in (
        ("/*style*/", (page / "report.css").read_text(encoding="utf-8")),
        ("/*script*/", (page / "report.js").read_text(encoding="utf-8")),
        ("<!--payload-->", plain_json(payload)),
        ("<!--clips-->", plain_json(clips)),
        ("<!--parts-->", "\n".join(scripts)),
    ):
        text = text.replace(mark, content, 1)  # once: what a user wrote may look like a mark
    with written(path) as file:
        file.write(text)


def alignments(
    utterances: Sequence[ReportUtterance], systems: Sequence[SystemResult], first: int, advance: Callable[[float], None]
) -> list[list[Any]]:
    """Returns for each utterance [name, reference, [[hypothesis, operations, confidences] of each system]]."""
    rows = []
    for offset, utterance in enumerate(utterances):
        found: list[list[Any]] = []
        for system in systems:
            hypothesis = system.hypotheses[first + offset]
            edits = align_words(utterance.reference.split(), hypothesis.split())
            confidences = system.confidences[first + offset] if len(system.confidences) else ()
            found.append(
                [
                    hypothesis,
                    "".join(OPERATIONS[edit.kind] for edit in edits),
                    [round(100 * confidence) for confidence in confidences],
                ]
            )
        rows.append([utterance.name, utterance.reference, found])
    advance(len(utterances))
    return rows


def describe_system(
    system: SystemResult,
    references: Sequence[str],
    errors: Sequence[Errors],
    utterances: Sequence[ReportUtterance],
    vocabulary: set[str] | None,
) -> dict[str, Any]:
    """Returns the figures of one system: rates with intervals, confusions, errors on unknown words, calibration."""
    total = sum(errors, Errors())
    characters = character_errors_of_texts(references, system.hypotheses)
    speakers = [each.speaker for each in utterances]
    by_speaker = interval(errors, groups=speakers) if len(set(speakers)) > 1 else None
    by_utterance = interval(errors)
    edits: Counter[Edit] = Counter()
    confidences: list[float] = []
    correct: list[bool] = []
    for index, each in enumerate(errors):
        if each.total:
            aligned = align_words(references[index].split(), system.hypotheses[index].split())
            edits.update(edit for edit in aligned if edit.kind != "hit")
        if len(system.confidences):
            confidences += system.confidences[index]
            correct += correct_words(references[index], system.hypotheses[index])
    calibration = calibrate(confidences, correct) if len(confidences) == len(correct) and confidences else None
    unknown = None
    if vocabulary is not None:
        words = sum(word not in vocabulary for reference in references for word in reference.split())
        missed = sum(
            count for edit, count in edits.items() if edit.reference is not None and edit.reference not in vocabulary
        )
        unknown = {"words": words, "errors": missed}
    return {
        "name": system.name,
        "rate": total.rate if np.isfinite(total.rate) else None,
        "counts": [total.hits, total.substitutions, total.deletions, total.insertions],
        "interval": [by_utterance.low, by_utterance.high],
        "speakerInterval": [by_speaker.low, by_speaker.high] if by_speaker else None,
        "characterRate": characters.rate if np.isfinite(characters.rate) else None,
        "confusions": [
            [edit.kind, edit.reference, edit.hypothesis, count]
            for kind in ("substitution", "deletion", "insertion")
            for edit, count in sorted(
                ((edit, count) for edit, count in edits.items() if edit.kind == kind), key=lambda each: -each[1]
            )[:MOST_WORDS]
        ],
        "unknown": unknown,
        "calibration": calibration
        and {"slots": calibration.slots, "error": calibration.error, "crossEntropy": calibration.cross_entropy},
    }


def compare_systems(references: Sequence[str], systems: Sequence[SystemResult]) -> list[dict[str, Any]]:
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


def group_rates(utterances: Sequence[ReportUtterance], errors: Sequence[Sequence[Errors]]) -> list[dict[str, Any]]:
    """Returns the rates by subset, speaker, duration and signal-to-noise ratio, with intervals, the worst speakers first."""
    names: dict[str, list[str]] = {
        "Subset": [each.subset for each in utterances],
        "Speaker": [each.speaker for each in utterances],
        "Duration": [slot_name(each.duration, DURATIONS, "s") for each in utterances],
        "Signal to noise": ["" if each.snr is None else slot_name(each.snr, LEVELS, "dB") for each in utterances],
    }
    found = []
    for kind, members in names.items():
        groups: dict[str, list[int]] = {}
        for index, member in enumerate(members):
            if member:
                groups.setdefault(member, []).append(index)
        if len(groups) < 2:
            continue
        rows: list[dict[str, Any]] = []
        for name, indices in groups.items():
            own = [[each[index] for index in indices] for each in errors]
            ranges = [interval(each, draws=200) for each in own]
            totals = [sum(each, Errors()) for each in own]
            rows.append(
                {
                    "name": name,
                    "utterances": len(indices),
                    "words": totals[0].reference_words,
                    "rates": [each.rate if np.isfinite(each.rate) else None for each in totals],
                    "intervals": [[each.low, each.high] for each in ranges],
                }
            )
        if kind in ("Duration", "Signal to noise"):
            rows.sort(key=lambda row: float(row["name"].replace("below", "-inf").split()[0]))
        else:
            rows.sort(key=lambda row: -(row["rates"][0] or 0.0))
        found.append({"kind": kind, "rows": rows[:MOST_GROUPS], "leftOut": max(0, len(rows) - MOST_GROUPS)})
    return found


def slot_name(value: float, edges: Sequence[float], unit: str) -> str:
    """Returns the slot that a value is in, such as "4 to 8 s"."""
    index = int(np.searchsorted(edges, value, side="right"))
    if index == 0:
        return f"below {edges[0]:g} {unit}"
    if index == len(edges):
        return f"{edges[-1]:g} {unit} or more"
    return f"{edges[index - 1]:g} to {edges[index]:g} {unit}"


def columns(utterances: Sequence[ReportUtterance], errors: Sequence[Sequence[Errors]]) -> str:
    """Returns what the table of utterances is sorted and filtered by, compressed: one list for each column."""
    return compressed(
        {
            "errors": [[each.total for each in of_system] for of_system in errors],
            "words": [each.reference_words for each in errors[0]],
            "duration": [round(each.duration, 2) for each in utterances],
            "speaker": [each.speaker for each in utterances],
            "subset": [each.subset for each in utterances],
            "snr": [None if each.snr is None else round(each.snr, 1) for each in utterances],
        }
    )


def compressed(value: Any) -> str:
    """Returns a value as JSON, compressed by gzip, in base64."""
    return base64.b64encode(gzip.compress(json.dumps(value, ensure_ascii=False).encode(), 6, mtime=0)).decode()


def plain_json(value: Any) -> str:
    """Returns a value as JSON that can stand in a script element."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def escaped(text: str) -> str:
    """Returns text that can stand in HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def data_address(clip: Clip) -> str:
    """Returns a clip as a data: address."""
    return f"data:{clip.mime};base64,{base64.b64encode(clip.content).decode()}"
