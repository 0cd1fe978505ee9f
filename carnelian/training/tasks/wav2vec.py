"""The task "wav2vec": a front end learned from sound alone, by predicting later frames (arXiv 1904.05862)."""

from pathlib import Path

from carnelian.models.pretraining.wav2vec import build_wav2vec
from carnelian.recipe import Recipe
from carnelian.training.tasks.self_supervised import Objective, train_self_supervised

WAV2VEC = Objective(build_wav2vec, tables=("contrast",))


def train_wav2vec(recipe: Recipe, folder: str | Path, *, allow_changes: bool = False, dry_run: bool = False) -> Path:
    """Pre-trains wav2vec in a folder, or goes on with the run in it, and returns the path of the last checkpoint.

    It serves a training with transcripts as front end: [initialize] checkpoint, parts = ["features"].
    """
    return train_self_supervised(recipe, folder, WAV2VEC, allow_changes=allow_changes, dry_run=dry_run)
