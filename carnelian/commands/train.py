"""carnelian train: a model from a recipe."""

from pathlib import Path
from typing import Annotated

from carnelian import console
from carnelian.data.alphabet import Alphabet
from carnelian.data.utterance import Manifest
from carnelian.models.acoustic import AcousticModel
from carnelian.recipe import load_recipe
from carnelian.recognizer import Recognizer
from carnelian.scoring.wer import Errors, count_errors
from carnelian.training.acoustic import Score, train_acoustic


def train(
    recipe: Annotated[Path, "the recipe, a TOML file"],
    *,
    out: Annotated[Path, "the folder of the run; if it holds this recipe's run, that goes on"],
    set: Annotated[list[str], "a change to the recipe, such as encoder.blocks=5; may be given again"] = [],  # noqa: B006
) -> None:
    """Train a model as a recipe says; the same command goes on where an earlier run was stopped."""
    resolved = load_recipe(recipe, set)
    manifests = resolved.get("train", {}).get("validation", [])
    utterances = list(Manifest(*manifests)) if manifests else []

    def validate(model: AcousticModel, alphabet: Alphabet) -> Score:
        recognized = list(Recognizer(model, alphabet).recognize(utterances))
        errors = sum((count_errors(each.utterance.text, each.transcript.text) for each in recognized), Errors())
        examples = [
            (each.utterance.text, each.transcript.text) for each in recognized[:: max(1, len(recognized) // 3)][:3]
        ]
        return Score(errors.rate, examples)

    path = train_acoustic(resolved, out, validate=validate if utterances else None)
    console.note(f"done: {path}\nTry: carnelian evaluate {path} MANIFEST, or carnelian transcribe {path} FILES")
