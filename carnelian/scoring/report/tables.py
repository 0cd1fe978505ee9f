"""Error rates as tables."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from carnelian.console import table
from carnelian.scoring.compounds import align_compounds, count_compounds
from carnelian.scoring.confidence import Interval, interval
from carnelian.scoring.wer import (
    Edit,
    Errors,
    character_errors_of_texts,
    edits_of_steps,
    errors_of_edits,
    errors_of_texts,
    steps_of_texts,
)


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """What a recognizer got wrong; `confusions` counts the edits that are no hits, `utterances` holds errors of each.

    normalization: name and version of what was done to both sides before, which belongs beside every figure.
    """

    words: Errors
    characters: Errors | None  # None where characters were not compared
    interval: Interval
    confusions: Counter[Edit]
    utterances: tuple[Errors, ...]
    normalization: str = "none"

    def as_dict(self) -> dict:
        """The figures as one JSON object; rates from 0 on, not percent."""
        return {
            "utterances": len(self.utterances),
            "wer": self.words.rate,
            "wer_low": self.interval.low,
            "wer_high": self.interval.high,
            "cer": self.characters.rate if self.characters else None,
            "words": self.words.reference_words,
            "hits": self.words.hits,
            "substitutions": self.words.substitutions,
            "deletions": self.words.deletions,
            "insertions": self.words.insertions,
            "normalization": self.normalization,
        }


def score_texts(
    references: Iterable[str],
    hypotheses: Iterable[str],
    *,
    speakers: Sequence[Hashable] | None = None,
    merge_compounds: bool = False,
    normalization: str = "none",
    seed: int = 0,
) -> ScoreReport:
    """The report of hypotheses beside their references, with a 95 % interval (by speaker, where they are given).

    merge_compounds: "white paper" equals "whitepaper", as on the Open ASR Leaderboard. normalization: the name of what
    was done to the texts, only for the report.
    """
    references, hypotheses = list(references), list(hypotheses)
    characters = character_errors_of_texts(references, hypotheses)
    utterances = errors_of_texts(references, hypotheses)
    confusions: Counter[Edit] = Counter()
    wrong = [index for index, errors in enumerate(utterances) if errors.total]
    if merge_compounds:
        for index in wrong:
            one, other = references[index].split(), hypotheses[index].split()
            confusions.update(edit for edit in align_compounds(one, other) if edit.kind != "hit")
            utterances[index] = count_compounds(one, other)
    else:
        pairs = [references[index] for index in wrong], [hypotheses[index] for index in wrong]
        for steps, reference, hypothesis in zip(steps_of_texts(*pairs), *pairs):
            confusions.update(edits_of_steps(steps, reference.split(), hypothesis.split(), hits=False))
    words = sum(utterances, Errors())
    ranges = interval(utterances, groups=speakers, seed=seed)
    if merge_compounds:
        normalization += ", compounds merged"
    return ScoreReport(words, characters, ranges, confusions, tuple(utterances), normalization)


def print_rates(reports: dict[str, ScoreReport], title: str = "Error rates") -> None:
    """A line per report: the counts of words, WER in percent with its 95 % interval, and CER; and the normalisation."""
    title += f" (normalisation: {', '.join(dict.fromkeys(each.normalization for each in reports.values()))})"
    columns = ("", "words", "hits", "subs", "dels", "ins", "WER %", "95 %", "CER %")
    rows = [
        (
            name,
            report.words.reference_words,
            report.words.hits,
            report.words.substitutions,
            report.words.deletions,
            report.words.insertions,
            f"{100 * report.words.rate:.2f}",
            f"{100 * report.interval.low:.2f}-{100 * report.interval.high:.2f}",
            f"{100 * report.characters.rate:.2f}" if report.characters else "",
        )
        for name, report in reports.items()
    ]
    table(title, columns, rows)


def report_of_edits(
    edits: Sequence[Sequence[Edit]], *, speakers: Sequence[Hashable] | None = None, normalization: str, seed: int = 0
) -> ScoreReport:
    """The report of utterances that are aligned already."""
    utterances = tuple(errors_of_edits(each) for each in edits)
    confusions = Counter(edit for each in edits for edit in each if edit.kind != "hit")
    ranges = interval(utterances, groups=speakers, seed=seed)
    return ScoreReport(sum(utterances, Errors()), None, ranges, confusions, utterances, normalization)


def print_groups(title: str, groups: dict[str, Errors]) -> None:
    """A line per group (speaker, subset): its counts of words and its error rate."""
    rows = [
        (
            name,
            errors.reference_words,
            errors.hits,
            errors.substitutions,
            errors.deletions,
            errors.insertions,
            f"{100 * errors.rate:.2f}",
        )
        for name, errors in groups.items()
    ]
    table(title, ("", "words", "hits", "subs", "dels", "ins", "WER %"), rows)


def print_confusions(report: ScoreReport, most: int = 10) -> None:
    """A table of the most frequent errors: reference, hypothesis, how often."""
    rows = [
        (edit.reference or "(nothing)", edit.hypothesis or "(nothing)", count)
        for edit, count in sorted(report.confusions.items(), key=lambda item: (-item[1], str(item)))[:most]
    ]
    if rows:
        table("Most frequent errors", ("reference", "hypothesis", "times"), rows)
