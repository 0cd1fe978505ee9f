"""What is inside a recipe or a checkpoint: `carnelian info RECIPE|CHECKPOINT`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch

from carnelian.checkpoint import Checkpoint, load_checkpoint
from carnelian.console import table
from carnelian.data.alphabet import Alphabet, WordPieces, make_alphabet
from carnelian.errors import RecipeError
from carnelian.files import reading
from carnelian.formats.catalog import find_checkpoint
from carnelian.inference.long_audio import window_difference
from carnelian.inference.torch_engine import load_torch_engine
from carnelian.models.acoustic import AcousticModel
from carnelian.models.cost import OPTIMIZER_STATES, Cost, measure_cost
from carnelian.models.registry import build_model
from carnelian.models.streaming.acoustic import why_not_in_pieces
from carnelian.recipe import Recipe, load_recipe, packaged_recipes
from carnelian.training.reference import check_tables, reference_entries
from carnelian.training.settings import check_recipe


def info(
    path: Annotated[
        Path | None, "a recipe (.toml, or its name), a checkpoint (.safetensors) or a run's folder, for its last one"
    ] = None,
    *,
    keys: Annotated[str, "print the keys of this table of a recipe, with type, range and default, such as train"] = "",
    set: Annotated[list[str], "a change to the recipe, such as encoder.blocks=5; may be given again"] = [],  # noqa: B006
    seconds: Annotated[float, "seconds of each utterance of the batch whose memory is told"] = 10.0,
    json_output: Annotated[bool, "print one JSON object instead of tables"] = False,
) -> None:
    """Show the layers of a model, its parameters, receptive field, stride, multiply-adds and memory; of a checkpoint, all it says.

    Example: carnelian info an4/quartznet
    """
    if keys:
        print_keys(keys)
        return
    if path is None:
        raise RecipeError("info: nothing to show. Give a recipe, a checkpoint or a run's folder, or --keys TABLE")
    checkpoint = None
    if path.suffix == ".toml" or (str(path) in packaged_recipes() and not path.exists()):
        recipe, alphabet = read_recipe(path, set)
    elif set:
        raise RecipeError(f"{path}: --set changes recipes, and this is a checkpoint. Leave --set out, or give a recipe")
    else:
        checkpoint = load_checkpoint(find_checkpoint(path))
        recipe, alphabet = checkpoint.recipe, checkpoint.alphabet
    # shapes alone say it all, but for encoders that another package builds
    with reading(path, "a recipe or checkpoint"):
        with torch.device("meta"):
            model = build_model(recipe, alphabet)
        cost = measure_cost(model)
        figures = summary(model, cost, recipe, seconds)
    if checkpoint and why_not_in_pieces(model):
        engine = load_torch_engine(path)
        figures["largest_difference_of_log_probs_by_windows"] = round(window_difference(engine), 4)
    if json_output:
        held = contents(checkpoint) if checkpoint else {}
        layers = [vars(layer) for layer in cost.layers]
        print(
            json.dumps(
                {**held, **figures, "alphabet": alphabet.symbols, "recipe": recipe, "layers": layers},
                indent=2,
                default=str,
            )
        )
        return
    if checkpoint:
        print_contents(path, checkpoint)
    rows = [
        (layer.name, layer.description, f"{layer.parameters:,}", f"{layer.multiply_adds / 1e6:,.1f}")
        for layer in cost.layers
    ]
    table(f"{path.name}: layers", ("layer", "what it is", "parameters", "M multiply-adds/s"), rows)
    table("the whole", ("", "value"), [(name.replace("_", " "), in_words(value)) for name, value in figures.items()])
    print(f"alphabet: {len(alphabet)} symbols and the blank: {shown(alphabet)}")


def read_recipe(path: Path, changes: list[str]) -> tuple[Recipe, Alphabet]:
    """The recipe of an acoustic model and its alphabet; RecipeError for what training would refuse too."""
    recipe = load_recipe(path, changes)
    if recipe.get("task", "acoustic") != "acoustic" or "alphabet" not in recipe:
        raise RecipeError(f"{path}: no recipe of an acoustic model: it needs [encoder] and an alphabet")
    if "optimizer" in recipe:  # a whole recipe, not only the tables of a model
        check_tables(recipe)
        check_recipe(recipe)
    return recipe, make_alphabet(recipe["alphabet"])


def summary(model: AcousticModel, cost: Cost, recipe: Recipe, seconds: float) -> dict[str, Any]:
    """The figures of the whole model, with their units in their names."""
    train, optimizer = recipe.get("train", {}), recipe.get("optimizer", {}).get("name", "adamw")
    batch = train.get("batch_size") or round(train.get("batch_seconds", 160) / seconds) or 1
    field = getattr(model.encoder, "receptive_field", math.inf) * model.features.hop
    memory = cost.training_bytes(batch * seconds, OPTIMIZER_STATES.get(optimizer, 2))
    return {
        "parameters": cost.parameters,
        "weights_megabytes": round(cost.parameters * 4 / 1e6, 1),
        "million_multiply_adds_per_second_of_audio": round(cost.multiply_adds / 1e6, 2),
        "receptive_field_seconds": "the whole recording" if math.isinf(field) else round(field, 2),
        "stride_frames": model.encoder.stride,
        "seconds_per_step": round(model.seconds_per_step, 6),
        "long_recordings": f"in windows: {whole}" if (whole := why_not_in_pieces(model)) else "in chunks, exactly",
        "batch": f"{batch} x {seconds:g} s",
        "training_megabytes_for_the_batch_in_fp32": round(memory / 1e6),
    }


def contents(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint says about itself besides its recipe."""
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in checkpoint.weights.values()})
    more: Mapping[str, Any] = checkpoint.more or {}
    return {"step": checkpoint.step, "tensors": len(checkpoint.weights), "kinds": ", ".join(kinds), **more}


def print_contents(path: Path, checkpoint: Checkpoint) -> None:
    """A checkpoint's own words, then its recipe, table by table."""
    table(path.name, ("", "value"), [(name, in_words(value)) for name, value in contents(checkpoint).items()])
    settings = [
        (f"{name}.{key}" if isinstance(value, dict) else name, in_words(each))
        for name, value in checkpoint.recipe.items()
        for key, each in (value.items() if isinstance(value, dict) else [("", value)])
    ]
    table("recipe", ("setting", "value"), settings)


def in_words(value: object) -> str:
    """A value for people: thousands apart, long lists by their length."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list) and len(value) > 4:
        return f"{len(value)} entries"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def shown(alphabet: Alphabet) -> str:
    """The symbols in a line; of word pieces the first."""
    if isinstance(alphabet, WordPieces) or len(alphabet) > 100:
        return " ".join(alphabet.symbols[:20]) + " ..."
    return (
        repr("".join(alphabet.symbols))
        if all(len(symbol) == 1 for symbol in alphabet.symbols)
        else str(alphabet.symbols)
    )


def print_keys(name: str) -> None:
    """Prints the keys of a recipe's table."""
    for entry in reference_entries(name):
        table(f"[{entry.table}] {entry.name}".strip(), ("key", "type", "default"), entry.keys)
