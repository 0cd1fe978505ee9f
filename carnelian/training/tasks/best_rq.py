"""The task "best_rq": an encoder learned from sound alone, from the labels of a random quantiser (arXiv 2202.01855)."""

from pathlib import Path

from carnelian.models.pretraining.best_rq import build_best_rq
from carnelian.recipe import Recipe
from carnelian.training.tasks.self_supervised import Objective, train_self_supervised

BEST_RQ = Objective(build_best_rq, tables=("encoder", "prediction"), metric="prediction error")


def train_best_rq(recipe: Recipe, folder: str | Path, *, allow_changes: bool = False, dry_run: bool = False) -> Path:
    """Pre-trains an encoder in a folder, or goes on with the run in it, and returns the path of the last checkpoint.

    It serves a training with transcripts as front end and encoder: [initialize] checkpoint, parts = ["features", "encoder"].
    """
    return train_self_supervised(recipe, folder, BEST_RQ, allow_changes=allow_changes, dry_run=dry_run)
