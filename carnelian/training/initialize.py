"""Training that begins with an earlier model, as a recipe's table [initialize] describes: the parts taken, frozen, or
moved more slowly; and the outputs of a frozen front end, kept on disk."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from carnelian.checkpoint import Checkpoint, load_checkpoint, load_tensors, load_weights, save_tensors
from carnelian.data.alphabet import Alphabet, make_alphabet
from carnelian.errors import CheckpointError, RecipeError
from carnelian.formats.catalog import find_checkpoint
from carnelian.models.layers import Convolution
from carnelian.models.registry import build_model
from carnelian.ranges import NonNegativeFloat, NonNegativeInt
from carnelian.recipe import Recipe, call, did_you_mean

PARTS = ("features", "encoder", "head", "criterion")


@dataclass(frozen=True)
class Initialization:
    """The table [initialize].

    checkpoint: the earlier model. parts: what is taken from it. freeze: parts that are not trained, their norms' statistics included,
    until optimizer step `unfreeze` (0: never trained). rates: factors on the learning rate by part. copy_shared_symbols: with another
    alphabet, take the head's weights for the symbols in both. other_features: allow a front end other than the checkpoint's.
    cache: the folder where the outputs of a frozen front end are kept, so that each recording goes through it once.
    """

    checkpoint: str = ""
    parts: list[str] = field(default_factory=lambda: list(PARTS))
    freeze: list[str] = field(default_factory=list)
    unfreeze: NonNegativeInt = 0
    rates: dict[str, NonNegativeFloat] = field(default_factory=dict)
    copy_shared_symbols: bool = True
    other_features: bool = False
    cache: str = ""


def read_initialization(recipe: Recipe) -> tuple[Initialization, Checkpoint | None, Recipe]:
    """The table [initialize], the checkpoint it names, and the recipe with the tables it leaves to that checkpoint."""
    config = call(Initialization, recipe.get("initialize", {}), where="initialize")
    for key, names in (("parts", config.parts), ("freeze", config.freeze), ("rates", config.rates)):
        for name in names:
            if name not in PARTS:
                raise RecipeError(f"[initialize] {key}: no part is called '{name}'.{did_you_mean(name, PARTS)}")
    if config.unfreeze and not config.freeze:
        raise RecipeError(
            '[initialize] unfreeze: there is nothing to unfreeze. Name parts in freeze, such as ["encoder"]'
        )
    if {"encoder", "head"} <= set(config.freeze):
        raise RecipeError("[initialize] freeze: encoder and head together leave nothing to train. Take one away")
    if config.cache and ("features" not in config.freeze or config.unfreeze):
        raise RecipeError('[initialize] cache: the front end is trained. Set freeze = ["features"], without unfreeze')
    if config.cache and recipe.get("augment"):
        raise RecipeError("[initialize] cache: [augment] changes each recording in each epoch. Remove one of the two")
    if not config.checkpoint:
        return config, None, recipe
    checkpoint = load_checkpoint(find_checkpoint(config.checkpoint))
    theirs: Recipe = {**checkpoint.recipe, "alphabet": list(checkpoint.alphabet.symbols)}
    taken: Recipe = {
        key: theirs[key]
        for key in ("features", "encoder", "criterion", "alphabet")
        if key in theirs and key not in recipe
    }
    recipe = {**recipe, **taken}
    check_features(config, checkpoint.recipe.get("features", {}), recipe.get("features", {}))
    criteria = [each.get("criterion", {"name": "ctc"}).get("name") for each in (theirs, recipe)]
    if criteria[0] != criteria[1] and {"head", "criterion"} & set(config.parts):
        raise RecipeError(
            f'[criterion] name = "{criteria[1]}": {config.checkpoint} was trained with {criteria[0]}, whose head does not fit. '
            'Set [initialize] parts = ["features", "encoder"]'
        )
    return config, checkpoint, recipe


def choose_alphabet(recipe: Recipe, pretrained: Checkpoint | None) -> Alphabet:
    """The alphabet of a recipe; with the checkpoint's symbols it is the checkpoint's, whose word pieces have their own model."""
    if pretrained and recipe["alphabet"] == list(pretrained.alphabet.symbols):
        return pretrained.alphabet
    return make_alphabet(recipe["alphabet"])


def check_features(config: Initialization, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """RecipeError where the front end is another than the checkpoint's, and the recipe does not say that this is meant."""
    theirs, ours = ({"name": "log_mel", "sample_rate": 16_000, **table} for table in (theirs, ours))
    differing = [key for key in sorted(theirs.keys() | ours.keys()) if theirs.get(key) != ours.get(key)]
    if differing and not config.other_features and ("features" in config.parts or "encoder" in config.parts):
        key = "sample_rate" if "sample_rate" in differing else differing[0]
        raise RecipeError(
            f"[features] {key} = {ours.get(key)}: {config.checkpoint} was trained with {theirs.get(key)}. Take [features] out of "
            "the recipe (recordings are resampled to the model's rate), or set [initialize] other_features = true"
        )


def load_parts(model: nn.Module, alphabet: Alphabet, checkpoint: Checkpoint, config: Initialization) -> list[str]:
    """Copies the parts of a checkpoint that the recipe names into the model, and returns what was taken, a line for each part.

    Raises CheckpointError where a part does not fit.
    """
    lines = []
    for part in config.parts:
        module, prefix = getattr(model, part), f"{part}."
        weights = {
            name.removeprefix(prefix): tensor for name, tensor in checkpoint.weights.items() if name.startswith(prefix)
        }
        if part == "criterion" and alphabet != checkpoint.alphabet:
            continue  # what it learnt is about their symbols
        if part == "encoder":
            weights = kernels_in_time(module, weights, checkpoint)
        total, words = len(module.state_dict()), ""
        if part == "head" and alphabet != checkpoint.alphabet:
            weights, words = copy_shared_symbols(module, weights, alphabet, checkpoint.alphabet, config)
        load_weights(module, weights, where=f"{config.checkpoint} ({part})")
        if total:
            lines.append(f"{part}: {words or f'{len(weights)} of {total} tensors'} from {config.checkpoint}")
    return lines


def kernels_in_time(encoder: nn.Module, weights: dict[str, Tensor], checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Returns an encoder's weights, moved where its `lookahead` differs from the checkpoint's: each tap of a kernel keeps its place in
    time; those that are further ahead than the encoder sees are cut off, and new ones behind begin at zero."""
    ours = {name: each for name, each in encoder.named_modules() if isinstance(each, Convolution)}
    looks_ahead = checkpoint.recipe.get("encoder", {}).get("lookahead", -1) >= 0
    if not looks_ahead and all(each.padding[0] == each.padding[1] for each in ours.values()):
        return weights
    with torch.device("meta"):
        theirs = dict(build_model(checkpoint.recipe, checkpoint.alphabet).encoder.named_modules())
    moved = dict(weights)
    for name, each in ours.items():
        if not isinstance(theirs.get(name), Convolution):
            continue  # the encoders differ, which is told where the weights are loaded
        taps, rest = divmod(each.padding[0] - theirs[name].padding[0], each.dilation)
        if rest:
            raise CheckpointError(
                f"encoder.{name}: a kernel of dilation {each.dilation} cannot be moved by {taps * each.dilation + rest} frames. "
                "Give another [encoder] lookahead, or train from the beginning"
            )
        for key in (f"{name}.weight", f"{name}.parametrizations.weight.original1"):
            if taps and key in weights:
                moved[key] = F.pad(weights[key], (taps, -taps))
    return moved


@torch.no_grad()
def copy_shared_symbols(
    head: nn.Module, weights: Mapping[str, Tensor], ours: Alphabet, theirs: Alphabet, config: Initialization
) -> tuple[dict[str, Tensor], str]:
    """Returns the head's new weights, with the rows of the blank and of the symbols in both alphabets taken from `weights`, and a
    description of that."""
    fresh = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    shared = [(ours.index[symbol], theirs.index[symbol]) for symbol in ours.symbols if symbol in theirs.index]
    if not config.copy_shared_symbols:
        return fresh, f"new, for {len(ours)} symbols instead of the {len(theirs)}"
    mine, old = (torch.tensor(rows) for rows in zip(*shared, (ours.blank, theirs.blank)))
    for name, tensor in fresh.items():
        if name not in weights or weights[name].shape[1:] != tensor.shape[1:]:
            raise CheckpointError(
                f"{config.checkpoint}: its head does not fit the encoder. Leave it out of [initialize] parts"
            )
        tensor[mine] = weights[name][old]
    return fresh, f"the rows of the blank and {len(shared)} of {len(ours)} symbols"


def parameter_groups(model: nn.Module, config: Initialization) -> list[dict[str, Any]]:
    """The parameters for an optimizer, in groups with a `factor` on the learning rate where the parts differ in it."""
    if not config.rates:
        return [{"params": list(model.parameters())}]
    groups = [
        {"params": list(getattr(model, part).parameters()), "factor": float(config.rates.get(part, 1.0))}
        for part in PARTS
    ]
    return [group for group in groups if group["params"]]


def freeze(model: nn.Module, config: Initialization, step: int) -> None:
    """Makes the model ready to train from a step on: all its parts but those that are frozen then."""
    frozen = config.freeze if not config.unfreeze or step < config.unfreeze else []
    model.train()
    for part in PARTS:
        module = getattr(model, part)
        module.requires_grad_(part not in frozen)
        if part in frozen:
            module.eval()


def cache_features(features: nn.Module, folder: str | Path, settings: Mapping[str, Any]) -> None:
    """Makes a frozen front end compute each recording once, and read its features from a folder from then on.

    A recording's file is named by a hash of its samples, in a folder named by a hash of the front end's settings and weights, so
    that nothing old is ever taken for new. A file that is damaged is written again.
    """
    described = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
    for name, tensor in features.state_dict().items():
        described.update(name.encode())
        described.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    place, multiple = Path(folder) / described.hexdigest(), max(1, int(getattr(features, "pad_to", 0)))
    features.forward = partial(cached_features, features.forward, place, multiple)  # type: ignore[method-assign]


@torch.no_grad()
def cached_features(
    compute: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    folder: Path,
    multiple: int,
    audio: Tensor,
    audio_lengths: Tensor,
) -> tuple[Tensor, Tensor]:
    """The features (B, F, T) and frames (B,) of a batch, of which `compute` makes those that are not in the folder.

    T is a multiple of `multiple`, with zeros at the end, as it is without the folder.
    """
    rows = [row[:length] for row, length in zip(audio, audio_lengths.tolist())]
    names = [hashlib.blake2b(row.detach().cpu().numpy().tobytes(), digest_size=16).hexdigest() for row in rows]
    paths = [folder / name[:2] / f"{name}.safetensors" for name in names]
    kept = [kept_features(path) for path in paths]
    missing = [index for index, each in enumerate(kept) if each is None]
    if missing:
        lengths = audio_lengths[missing]
        computed, frames = compute(audio[missing, : int(lengths.max())], lengths)
        for index, each, count in zip(missing, computed, frames.tolist()):
            kept[index] = own = each[:, :count].cpu()
            save_tensors(paths[index], {"features": own}, {})
    found = [each.to(audio.device) for each in kept if each is not None]
    frames = torch.tensor([each.shape[1] for each in found], device=audio.device)
    features = pad_sequence([each.mT for each in found], batch_first=True).mT
    return F.pad(features, (0, -features.shape[-1] % multiple)).contiguous(), frames


def kept_features(path: Path) -> Tensor | None:
    """Returns what `cached_features` has kept in a file (F, T), None where there is no such file or it is damaged."""
    if not path.exists():
        return None
    try:
        return load_tensors(path)[0].get("features")
    except CheckpointError:
        return None
