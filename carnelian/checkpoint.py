"""A checkpoint: weights in one safetensors file, with alphabet, recipe and step in its metadata. Data, never code.

The training state (optimizer, running averages, place in the epoch) lies beside it in a second file of the same kind.
The only importer of safetensors.
"""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from carnelian.data.alphabet import Alphabet, load_alphabet
from carnelian.errors import CheckpointError
from carnelian.files import one_line, reading
from carnelian.models.acoustic import AcousticModel
from carnelian.models.registry import build_model
from carnelian.recipe import Recipe, modernize

FORMAT = "carnelian 1"
Built = TypeVar("Built", bound=nn.Module)
UMASK = os.umask(0o022)
os.umask(UMASK)  # it can only be read by being set


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint holds; `more` is what else was noted in it (validation scores, where it was imported from)."""

    weights: dict[str, Tensor]
    alphabet: Alphabet
    recipe: Recipe
    step: int = 0
    more: Mapping[str, Any] | None = None


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors and metadata beside the path, forces them to the disk, and renames: the path holds all or what it held."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, beside, dict(metadata))
        os.chmod(beside, 0o666 & ~UMASK)  # safetensors writes for the owner alone
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):  # where the folder is no folder
            beside.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path}: could not be written ({error}). What was there before is whole; make room and go on"
        ) from None


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file written by `save_tensors`; CheckpointError for any other, cut or missing file."""
    with reading(path, "a checkpoint of this package (.safetensors)", CheckpointError):
        if not Path(path).exists():
            raise CheckpointError(f"{path}: no such checkpoint. Give the path of a .safetensors file")
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        except (SafetensorError, ValueError) as error:
            raise CheckpointError(
                f"{path}: not a whole checkpoint ({one_line(str(error), 100)}). Give a .safetensors file; "
                'for another toolkit\'s use "carnelian import"'
            ) from None


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint, all or nothing."""
    metadata = {
        "format": FORMAT,
        "alphabet": checkpoint.alphabet.saved(),
        "recipe": json.dumps(checkpoint.recipe, ensure_ascii=False),
        "step": str(checkpoint.step),
        "more": json.dumps(checkpoint.more or {}),
    }
    save_tensors(path, checkpoint.weights, metadata)


def saved_steps(folder: str | Path) -> dict[int, Path]:
    """The whole checkpoints of a run by their steps, rising: the weights are written last, so where they are the state is."""
    found = ((re.fullmatch(r"step-(\d+)\.safetensors", path.name), path) for path in Path(folder).glob("step-*"))
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def load_checkpoint(path: str | Path) -> Checkpoint:
    """What a checkpoint holds, or the last one in a run's folder; CheckpointError for a file that is no checkpoint of ours."""
    if Path(path).is_dir():
        steps = saved_steps(path)
        if not steps:
            raise CheckpointError(
                f"{path}: no checkpoint in this folder. Give the folder of a run, or a .safetensors file"
            )
        path = steps[max(steps)]
    weights, metadata = load_tensors(path)
    if metadata.get("format") != FORMAT:
        if "state" in metadata:
            raise CheckpointError(f"{path}: a training state, not a checkpoint. Give the step-N.safetensors beside it")
        found = metadata.get("format") or "no format"
        raise CheckpointError(f'{path}: not a checkpoint of this package ({found}, expected "{FORMAT}")')
    with reading(path, "a checkpoint: its metadata do not make sense", CheckpointError):
        alphabet, recipe = load_alphabet(metadata["alphabet"]), modernize(json.loads(metadata["recipe"]))
        more = json.loads(metadata.get("more", "{}"))
        if not isinstance(recipe, dict) or not isinstance(more, dict):
            raise CheckpointError(f"{path}: its metadata do not make sense (no tables). Save or import it again")
        return Checkpoint(weights, alphabet, recipe, int(metadata["step"]), more)


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], *, where: str | Path) -> None:
    """Puts weights into a model; CheckpointError naming the first that is missing, left over or of another shape."""
    check_weights(model, weights, where=where)
    model.load_state_dict(dict(weights))


def check_weights(model: nn.Module, weights: Mapping[str, Tensor], *, where: str | Path) -> None:
    """Raises CheckpointError naming the first weight that is missing, left over or of another shape than the model's."""
    own = model.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or extra:
        what = f"has no {missing[0]}" if missing else f"holds {extra[0]}, which the model has not"
        count = len(missing) + len(extra)
        raise CheckpointError(f"{where}: {what} ({count} such tensors). Its settings and its weights are of two models")
    for name, tensor in own.items():
        if tensor.shape != weights[name].shape:
            found, expected = tuple(weights[name].shape), tuple(tensor.shape)
            raise CheckpointError(f"{where}: {name} is of shape {found}, the model expects {expected}")


def load_model(path: str | Path) -> tuple[AcousticModel, Checkpoint]:
    """The recognizer of a checkpoint, in evaluation mode, and what else the checkpoint holds."""
    checkpoint = load_checkpoint(path)
    return build_from(checkpoint, build_model, where=path), checkpoint


def build_from(checkpoint: Checkpoint, build: Callable[[Recipe, Alphabet], Built], *, where: str | Path) -> Built:
    """Returns the model that `build` makes of a checkpoint's recipe and alphabet, with its weights, in evaluation mode.

    It is built without memory first: a recipe may ask for more than the file holds.
    """
    with reading(where, "a checkpoint", CheckpointError):
        with torch.device("meta"):
            check_weights(build(checkpoint.recipe, checkpoint.alphabet), checkpoint.weights, where=where)
        model = build(checkpoint.recipe, checkpoint.alphabet)
        load_weights(model, checkpoint.weights, where=where)
    return model.eval()


def average_checkpoints(paths: Sequence[str | Path]) -> Checkpoint:
    """The mean of checkpoints of one training: weights averaged in float64, one file at a time, and all else from the last."""
    last = load_checkpoint(paths[-1])
    sums = {name: tensor.double() for name, tensor in last.weights.items()}
    for path in paths[:-1]:
        other = load_checkpoint(path)
        if other.alphabet != last.alphabet or other.weights.keys() != sums.keys():
            raise CheckpointError(f"{path}: another model than {paths[-1]}. Average checkpoints of one training")
        for name, tensor in other.weights.items():
            if tensor.shape != sums[name].shape:
                raise CheckpointError(f"{path}: {name} is of another shape than in {paths[-1]}. Average one training's")
            sums[name] += tensor
    weights = {name: (tensor / len(paths)).to(last.weights[name].dtype) for name, tensor in sums.items()}
    steps = [*(last.more or {}).get("averaged", []), *(str(path) for path in paths)]
    return Checkpoint(weights, last.alphabet, last.recipe, last.step, {"averaged": steps})
