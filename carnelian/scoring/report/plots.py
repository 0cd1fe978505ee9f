"""Error rates as pictures. Imports matplotlib."""

from importlib.util import find_spec
from pathlib import Path

from carnelian.errors import MissingExtraError
from carnelian.scoring.report.tables import ScoreReport
from carnelian.scoring.wer import Edit


def check_plots(purpose: str, wanted: bool = True) -> None:
    """Raises MissingExtraError where matplotlib is not installed, before the work whose result would be drawn."""
    if wanted and find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plot", purpose)


def plot_confusions(report: ScoreReport, path: Path, most: int = 20) -> None:
    """A heat map of the words most often confused, as an image file (PNG, SVG or PDF by its name)."""
    check_plots("A heat map")
    from matplotlib.figure import Figure

    pairs = [(edit, count) for edit, count in report.confusions.items() if edit.kind == "substitution"]
    pairs = sorted(pairs, key=lambda item: (-item[1], item[0]))[:most]
    spoken = sorted({str(edit.reference) for edit, _ in pairs})
    written = sorted({str(edit.hypothesis) for edit, _ in pairs})
    counts = [[dict(pairs).get(Edit("substitution", word, other), 0) for other in written] for word in spoken]
    figure = Figure(figsize=(2 + 0.4 * len(written), 2 + 0.3 * len(spoken)), layout="constrained")
    axes = figure.subplots()
    if pairs:
        figure.colorbar(axes.imshow(counts, cmap="magma_r"), label="times")
    axes.set_xticks(range(len(written)), written, rotation=90)
    axes.set_yticks(range(len(spoken)), spoken)
    axes.set(xlabel="hypothesis", ylabel="reference", title=f"{100 * report.words.rate:.2f} % word errors")
    figure.savefig(path)


def plot_weights(rates: dict[tuple[float, float], float], chosen: tuple[float, float], path: Path) -> None:
    """The error rates of a search's weights (alpha, beta) where they lie, those chosen ringed, as an image file."""
    check_plots("A picture of weights")
    from matplotlib.figure import Figure

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


def plot_lines(charts: dict[str, dict[str, list[list[float]]]], path: Path) -> None:
    """Draws curves below one another into an image file: chart -> line -> points whose first number is x and last y."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot", "A picture of curves") from None
    figure = Figure(figsize=(10, 3 * len(charts)), layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(len(charts), sharex=True), charts.items()):
        for name, points in lines.items():
            axes.plot(
                [point[0] for point in points],
                [point[-1] for point in points],
                label=name,
                marker="." * (len(points) < 50),
            )
        axes.set(ylabel=title.replace("_", " "))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
