"""Beginning from an earlier model, as a recipe's table [start] says: which parts are taken, held still, or moved more slowly."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from carnelian import console
from carnelian.checkpoint import Checkpoint, load_checkpoint, load_weights
from carnelian.data.alphabet import Alphabet, make_alphabet
from carnelian.errors import CheckpointError, RecipeError
from carnelian.recipe import Recipe, call, did_you_mean

PARTS = ("features", "encoder", "head", "criterion")


@dataclass(frozen=True)
class Start:
    """The table [start].

    `parts` are taken from the checkpoint. Those of `freeze` are held still, norms' statistics too, until step `unfreeze` (0: for
    ever). `rates` are factors on the learning rate by part. With another alphabet, `carry` keeps what the head knew of the symbols
    that both have. `other_features` lets the front end differ from the one that the checkpoint was trained with.
    """

    checkpoint: str = ""
    parts: list[str] = field(default_factory=lambda: list(PARTS))
    freeze: list[str] = field(default_factory=list)
    unfreeze: int = 0
    rates: dict[str, float] = field(default_factory=dict)
    carry: bool = True
    other_features: bool = False


def read_start(recipe: Recipe) -> tuple[Start, Checkpoint | None, Recipe]:
    """The table [start], the checkpoint it names, and the recipe with the tables it leaves to that checkpoint."""
    start = call(Start, recipe.get("start", {}), where="start", name="start")
    for key, names in (("parts", start.parts), ("freeze", start.freeze), ("rates", start.rates)):
        for name in names:
            if name not in PARTS:
                raise RecipeError(f"[start] {key}: no part is called '{name}'.{did_you_mean(name, PARTS)}")
    for name, rate in start.rates.items():
        if isinstance(rate, bool) or not isinstance(rate, int | float) or rate < 0:
            raise RecipeError(f"[start] rates: {name} = {rate}. Expected a number, 0 or above")
    if start.unfreeze and not start.freeze:
        raise RecipeError('[start] unfreeze: there is nothing to unfreeze. Name parts in freeze, such as ["encoder"]')
    if {"encoder", "head"} <= set(start.freeze):
        raise RecipeError("[start] freeze: encoder and head together leave nothing to train. Take one away")
    if not start.checkpoint:
        return start, None, recipe
    checkpoint = load_checkpoint(start.checkpoint)
    theirs: Recipe = {**checkpoint.recipe, "alphabet": list(checkpoint.alphabet.symbols)}
    taken: Recipe = {
        key: theirs[key]
        for key in ("features", "encoder", "criterion", "alphabet")
        if key in theirs and key not in recipe
    }
    recipe = {**recipe, **taken}
    check_features(start, checkpoint.recipe.get("features", {}), recipe.get("features", {}))
    criteria = [each.get("criterion", {"name": "ctc"}).get("name") for each in (theirs, recipe)]
    if criteria[0] != criteria[1] and {"head", "criterion"} & set(start.parts):
        raise RecipeError(
            f'[criterion] name = "{criteria[1]}": {start.checkpoint} was trained with {criteria[0]}, whose head does not fit. '
            'Set [start] parts = ["features", "encoder"]'
        )
    return start, checkpoint, recipe


def alphabet_of(recipe: Recipe, beginning: Checkpoint | None) -> Alphabet:
    """The alphabet of a recipe; with the checkpoint's symbols it is the checkpoint's, whose word pieces have their own model."""
    if beginning and recipe["alphabet"] == list(beginning.alphabet.symbols):
        return beginning.alphabet
    return make_alphabet(recipe["alphabet"])


def check_features(start: Start, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """RecipeError where the front end is another than the checkpoint's, and the recipe does not say that this is meant."""
    theirs, ours = ({"name": "log_mel", "sample_rate": 16_000, **table} for table in (theirs, ours))
    differing = [key for key in sorted(theirs.keys() | ours.keys()) if theirs.get(key) != ours.get(key)]
    if differing and not start.other_features and ("features" in start.parts or "encoder" in start.parts):
        key = "sample_rate" if "sample_rate" in differing else differing[0]
        raise RecipeError(
            f"[features] {key} = {ours.get(key)}: {start.checkpoint} was trained with {theirs.get(key)}. Take [features] out of "
            "the recipe (recordings are resampled to the model's rate), or set [start] other_features = true"
        )


def take_parts(model: nn.Module, alphabet: Alphabet, checkpoint: Checkpoint, start: Start) -> None:
    """Puts the parts of the checkpoint that are asked for into the model; CheckpointError where they do not fit."""
    for part in start.parts:
        module, prefix = getattr(model, part), f"{part}."
        weights = {
            name.removeprefix(prefix): tensor for name, tensor in checkpoint.weights.items() if name.startswith(prefix)
        }
        if part == "criterion" and alphabet != checkpoint.alphabet:
            continue  # what it learnt is of their symbols
        if part == "head" and alphabet != checkpoint.alphabet:
            weights = carry_head(module, weights, alphabet, checkpoint.alphabet, start)
        load_weights(module, weights, where=f"{start.checkpoint} ({part})")


@torch.no_grad()
def carry_head(
    head: nn.Module, weights: Mapping[str, Tensor], ours: Alphabet, theirs: Alphabet, start: Start
) -> dict[str, Tensor]:
    """The head's fresh weights, with the rows of the symbols in both alphabets, and the blank's, as they were in `weights`."""
    fresh = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    shared = [(ours.index[symbol], theirs.index[symbol]) for symbol in ours.symbols if symbol in theirs.index]
    carried = len(shared) if start.carry else 0
    console.note(
        f"{start.checkpoint}: another alphabet of {len(theirs)} symbols; the head for {len(ours)} is fresh"
        + (f", but for {carried} symbols of both and the blank" if carried else "")
    )
    if not start.carry:
        return fresh
    mine, old = (torch.tensor(rows) for rows in zip(*shared, (ours.blank, theirs.blank)))
    for name, tensor in fresh.items():
        if name not in weights or weights[name].shape[1:] != tensor.shape[1:]:
            raise CheckpointError(
                f"{start.checkpoint}: its head does not fit the encoder. Leave it out of [start] parts"
            )
        tensor[mine] = weights[name][old]
    return fresh


def parameter_groups(model: nn.Module, start: Start) -> list[dict[str, Any]]:
    """The parameters for an optimizer, in groups with a `factor` on the learning rate where the parts differ in it."""
    if not start.rates:
        return [{"params": list(model.parameters())}]
    groups = [
        {"params": list(getattr(model, part).parameters()), "factor": float(start.rates.get(part, 1.0))}
        for part in PARTS
    ]
    return [group for group in groups if group["params"]]


def hold_still(model: nn.Module, start: Start, step: int) -> None:
    """Makes the model ready to train from a step on: all its parts but those that are frozen then."""
    frozen = start.freeze if not start.unfreeze or step < start.unfreeze else []
    model.train()
    for part in PARTS:
        module = getattr(model, part)
        module.requires_grad_(part not in frozen)
        if part in frozen:
            module.eval()
