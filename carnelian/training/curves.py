"""Learning curves of runs, from the logs in their folders: loss, validation, rate and gradient norm over steps, time and audio."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from carnelian.errors import CheckpointError
from carnelian.files import reading, written
from carnelian.recipe import in_short

CURVES = ("loss", "validation_wer", "rate", "gradient_norm")
MOST_POINTS = 600  # of a curve; of more, means of equal parts
LONGEST_STEP = 600.0  # seconds between two lines of a log; more is a pause between two calls of `train`


@dataclass(frozen=True)
class LearningCurves:
    """The curves of a run: each a list of (step, hours of training, hours of audio seen, value); and its recipe."""

    name: str
    recipe: dict[str, Any]
    points: dict[str, list[tuple[float, float, float, float]]]

    @property
    def best(self) -> float | None:
        """The lowest validation WER, None without any."""
        return min((value for *_, value in self.points["validation_wer"]), default=None)


def read_curves(folder: Path) -> LearningCurves:
    """Returns the curves of a run's folder. Raises CheckpointError for a folder without a log."""
    path = folder / "log.jsonl"
    if not path.exists():
        raise CheckpointError(f"{folder}: no log.jsonl in this folder. Give the folder of a run of `carnelian train`")
    points: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in CURVES}
    hours = audio = 0.0
    before: float | None = None
    with reading(path, "the log of a run", CheckpointError):
        for line in path.read_text(encoding="utf-8").split("\n"):
            if not line.strip():
                continue
            entry = json.loads(line)
            passed = max(0.0, entry["time"] - before) if before is not None else 0.0
            passed = passed if passed < LONGEST_STEP else 0.0
            before = entry["time"]
            hours += passed / 3600
            audio += passed * entry.get("audio_seconds_per_second", 0.0) / 3600
            for name in CURVES:
                value = entry.get(name)
                if isinstance(value, int | float) and math.isfinite(value):
                    points[name].append((entry["step"], hours, audio, value))
        recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    return LearningCurves(str(folder), recipe, points)


def thinned(points: Sequence[tuple[float, ...]]) -> list[list[float]]:
    """Returns at most MOST_POINTS points: of more, the means of equal parts."""
    size = -(-len(points) // MOST_POINTS) or 1
    parts = [points[at : at + size] for at in range(0, len(points), size)]
    return [[round(sum(values) / len(part), 6) for values in zip(*part)] for part in parts]


def flat_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """Returns the keys of all tables of a recipe as table.key."""
    return {
        f"{table}.{key}" if key else table: value
        for table, values in recipe.items()
        for key, value in (values.items() if isinstance(values, dict) else [("", values)])
    }


def differing_settings(runs: Sequence[LearningCurves]) -> list[list[str]]:
    """Returns [key, value of each run] for the settings in which the recipes differ."""
    recipes = [flat_recipe(run.recipe) for run in runs]
    rows = []
    for key in sorted(set().union(*recipes)):
        values = ["–" if key not in recipe else in_short(recipe[key]) for recipe in recipes]
        if len(set(values)) > 1:
            rows.append([key, *values])
    return rows


def write_curves(path: Path, runs: Sequence[LearningCurves]) -> None:
    """Writes the curves of runs as one HTML file that needs no network, or as an image for any other suffix."""
    if path.suffix.lower() not in (".html", ".htm"):
        from carnelian.scoring.report.plots import plot_lines

        lines = {name: {run.name: thinned(run.points[name]) for run in runs} for name in CURVES}
        plot_lines(lines, path)
        return
    described = [
        {
            "name": run.name,
            "steps": int(run.points["loss"][-1][0]) if run.points["loss"] else 0,
            "hours": run.points["loss"][-1][1] if run.points["loss"] else 0.0,
            "audio": run.points["loss"][-1][2] if run.points["loss"] else 0.0,
            "loss": run.points["loss"][-1][3] if run.points["loss"] else None,
            "best": run.best,
            "points": {name: thinned(run.points[name]) for name in CURVES},
        }
        for run in runs
    ]
    payload = json.dumps({"runs": described, "settings": differing_settings(runs)}, ensure_ascii=False)
    page = (files("carnelian.training") / "page" / "curves.html").read_text(encoding="utf-8")
    with written(path) as file:
        file.write(page.replace("<!--payload-->", payload.replace("<", "\\u003c"), 1))
