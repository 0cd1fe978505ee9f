"""The task "wav2vec2": an encoder learned from sound alone, from masked steps (arXiv 2006.11477)."""

from pathlib import Path
from typing import Any

from carnelian.models.pretraining.wav2vec2 import build_wav2vec2
from carnelian.recipe import Recipe
from carnelian.training.tasks.self_supervised import Objective, train_self_supervised


def cool(model: Any, step: int) -> None:
    """Sets the temperature of the quantiser for a step."""
    model.quantizer.cool(step)


WAV2VEC2 = Objective(build_wav2vec2, tables=("encoder", "quantizer", "contrast"), before_step=cool)


def train_wav2vec2(recipe: Recipe, folder: str | Path, *, allow_changes: bool = False, dry_run: bool = False) -> Path:
    """Pre-trains wav2vec 2.0 in a folder, or goes on with the run in it, and returns the path of the last checkpoint.

    It serves a training with transcripts as encoder: [initialize] checkpoint, parts = ["features", "encoder"].
    """
    return train_self_supervised(recipe, folder, WAV2VEC2, allow_changes=allow_changes, dry_run=dry_run)
