"""Error rates for people to read: tables, and pictures. The door to matplotlib."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from carnelian.console import table
from carnelian.errors import MissingExtraError
from carnelian.scoring.confidence import Interval, interval
from carnelian.scoring.wer import Edit, Errors, align_words, count_character_errors


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """What a recognizer got wrong; `confusions` counts the edits that are no hits, `utterances` holds errors of each."""

    words: Errors
    characters: Errors
    interval: Interval
    confusions: Counter[Edit]
    utterances: tuple[Errors, ...]

    def as_dict(self) -> dict:
        """The figures as one JSON object; rates from 0 on, not percent."""
        return {
            "utterances": len(self.utterances),
            "wer": self.words.rate,
            "wer_low": self.interval.low,
            "wer_high": self.interval.high,
            "cer": self.characters.rate,
            "words": self.words.reference_words,
            "hits": self.words.hits,
            "substitutions": self.words.substitutions,
            "deletions": self.words.deletions,
            "insertions": self.words.insertions,
        }


def score_texts(
    references: Iterable[str], hypotheses: Iterable[str], *, speakers: Sequence[Hashable] | None = None, seed: int = 0
) -> ScoreReport:
    """The report of hypotheses beside their references, with a 95 % interval (by speaker, where they are given)."""
    confusions: Counter[Edit] = Counter()
    utterances, characters = [], Errors()
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        edits = align_words(reference.split(), hypothesis.split())
        kinds = Counter(edit.kind for edit in edits)
        utterances.append(Errors(kinds["hit"], kinds["substitution"], kinds["deletion"], kinds["insertion"]))
        confusions.update(edit for edit in edits if edit.kind != "hit")
        characters += count_character_errors(reference, hypothesis)
    words = sum(utterances, Errors())
    return ScoreReport(
        words, characters, interval(utterances, groups=speakers, seed=seed), confusions, tuple(utterances)
    )


def print_rates(reports: dict[str, ScoreReport], title: str = "Error rates") -> None:
    """A line per report: the counts of words, WER in percent with its 95 % interval, and CER."""
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
            f"{100 * report.characters.rate:.2f}",
        )
        for name, report in reports.items()
    ]
    table(title, columns, rows)


def print_confusions(report: ScoreReport, most: int = 10) -> None:
    """A table of the most frequent errors: what was said, what was found, how often."""
    rows = [
        (edit.reference or "(nothing)", edit.hypothesis or "(nothing)", count)
        for edit, count in sorted(report.confusions.items(), key=lambda item: (-item[1], str(item)))[:most]
    ]
    if rows:
        table("Most frequent errors", ("said", "found", "times"), rows)


def plot_confusions(report: ScoreReport, path: Path, most: int = 20) -> None:
    """A heat map of the words most often confused, as an image file (PNG, SVG or PDF by its name)."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot", "A heat map") from None
    pairs = [(edit, count) for edit, count in report.confusions.items() if edit.kind == "substitution"]
    pairs = sorted(pairs, key=lambda item: (-item[1], item[0]))[:most]
    said = sorted({str(edit.reference) for edit, _ in pairs})
    found = sorted({str(edit.hypothesis) for edit, _ in pairs})
    counts = [[dict(pairs).get(Edit("substitution", word, other), 0) for other in found] for word in said]
    figure = Figure(figsize=(2 + 0.4 * len(found), 2 + 0.3 * len(said)), layout="constrained")
    axes = figure.subplots()
    if pairs:
        figure.colorbar(axes.imshow(counts, cmap="magma_r"), label="times")
    axes.set_xticks(range(len(found)), found, rotation=90)
    axes.set_yticks(range(len(said)), said)
    axes.set(xlabel="found", ylabel="said", title=f"{100 * report.words.rate:.2f} % word errors")
    figure.savefig(path)


def plot_weights(rates: dict[tuple[float, float], float], chosen: tuple[float, float], path: Path) -> None:
    """The error rates of a search's weights (alpha, beta) where they lie, those chosen ringed, as an image file."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot", "A picture of weights") from None
    alphas, betas = zip(*rates)
    percent = [100 * rate for rate in rates.values()]
    dark = 3 * min(percent)  # where more is all the same: what matters is how flat it is around the fewest
    figure = Figure(figsize=(10, 8), layout="constrained")
    axes = figure.subplots()
    points = axes.scatter(betas, alphas, s=500, c=percent, cmap="magma_r", vmax=dark or None)
    figure.colorbar(points, label="WER %", extend="max")
    for alpha, beta, each in zip(alphas, betas, percent):
        colour = "white" if each > 0.6 * dark else "black"
        axes.text(beta, alpha, f"{each:.1f}", ha="center", va="center", fontsize=7, color=colour)
    axes.scatter(chosen[1], chosen[0], s=700, facecolors="none", edgecolors="tab:blue", linewidths=2)
    axes.set(xlabel="beta", ylabel="alpha", title=f"chosen: alpha {chosen[0]:g}, beta {chosen[1]:g}")
    figure.savefig(path, dpi=150)
