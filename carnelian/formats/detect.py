"""Which toolkit a file comes from, by what it holds; and its model as a checkpoint of ours."""

import tarfile
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from carnelian.checkpoint import Checkpoint, check_weights, save_checkpoint
from carnelian.data.alphabet import Alphabet
from carnelian.errors import CheckpointError
from carnelian.file_kinds import misplaced
from carnelian.files import one_line, reading
from carnelian.formats.deep_learning_examples import read_deep_learning_examples
from carnelian.formats.nemo.checkpoint import read_lightning, read_nemo
from carnelian.formats.nemo.configuration import read_configuration
from carnelian.formats.nemo.pair import read_pair
from carnelian.formats.safe_loading import ForeignModel, read_file, read_pickle
from carnelian.models.registry import build_model

CHECKPOINT_KINDS = (
    "NeMo .nemo archives, Lightning .ckpt and 0.x encoder/decoder pairs, DeepLearningExamples Jasper and QuartzNet .pt, "
    "fairseq wav2vec .pt, and Hugging Face folders"
)


def import_model(
    path: Path, out: Path, *, config: Path | None = None, weights: Literal["average", "last"] = "average"
) -> ForeignModel:
    """Writes the model in another toolkit's file or folder as a checkpoint, all or nothing, and returns it."""
    with reading(path, "another toolkit's checkpoint", CheckpointError):
        found = detect_and_read(path, config=config, weights=weights)
        if "encoder" in found.recipe:
            with torch.device("meta"):  # only shapes are compared
                check_weights(build_model(found.recipe, found.alphabet), found.weights, where=path)
    recipe = dict(found.recipe)
    if type(found.alphabet) is Alphabet:
        recipe = {"alphabet": list(found.alphabet.symbols), **recipe}
    save_checkpoint(out, Checkpoint(found.weights, found.alphabet, recipe, 0, {"imported": path.name}))
    return found


def detect_and_read(
    path: Path, *, config: Path | None = None, weights: Literal["average", "last"] = "average"
) -> ForeignModel:
    """The model in another toolkit's file or folder; `config` and `weights` as in `carnelian import`."""
    if path.is_dir():
        from carnelian.formats.hugging_face import read_hugging_face

        return read_hugging_face(path)
    if other := misplaced(path, "another toolkit's checkpoint"):
        raise CheckpointError(one_line(other))
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path}: already a .safetensors file. Checkpoints of this package need no import")
    data = read_file(path)
    if tarfile.is_tarfile(path) or data[:2] == b"\x1f\x8b" or path.suffix == ".nemo":
        del data  # as large as the model
        return read_nemo(path)
    content = read_pickle(str(path), data)
    return read_content(path, content, config, weights)


def read_content(path: Path, content: Any, config: Path | None, weights: Literal["average", "last"]) -> ForeignModel:
    """The model in what a pickle held."""
    configuration = read_configuration(config, read_file(config)) if config else None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: holds {type(content).__name__}, expected a dictionary of weights. Known: {CHECKPOINT_KINDS}"
        )
    if "ema_state_dict" in content or ("state_dict" in content and "best_wer" in content):
        return read_deep_learning_examples(path, content, weights, configuration)
    if "state_dict" in content:
        return read_lightning(path, content)
    if "model" in content and ("args" in content or "cfg" in content):
        from carnelian.formats.fairseq import read_fairseq

        return read_fairseq(path, content)
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return read_pair(path, content, configuration)
    keys = ", ".join(str(key) for key in list(content)[:5])
    raise CheckpointError(
        f"{path}: holds {keys or 'nothing'}, which no known toolkit writes. Known: {CHECKPOINT_KINDS}"
    )
