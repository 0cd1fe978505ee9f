"""carnelian train: a model from a recipe."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from carnelian import console
from carnelian.data.alphabet import Alphabet
from carnelian.data.utterance import Manifest, Utterance
from carnelian.errors import ManifestError, RecipeError
from carnelian.inference.recognizer import Recognizer
from carnelian.inference.torch_engine import TorchEngine
from carnelian.models.acoustic import AcousticModel
from carnelian.recipe import load_recipe
from carnelian.scoring.wer import Errors, count_errors
from carnelian.training.distributed import of_this_process
from carnelian.training.fit import total_over_processes
from carnelian.training.run import Score, Validate
from carnelian.training.signals import Stopped
from carnelian.training.tasks.acoustic import train_acoustic


def train(
    recipe: Annotated[Path, "the recipe: a TOML file, or a name that `carnelian recipes list` prints"],
    *,
    out: Annotated[Path | None, "the folder of the run; if it holds a run of this recipe, that run goes on"] = None,
    set: Annotated[list[str], "a change to the recipe, such as encoder.blocks=5; may be given again"] = [],  # noqa: B006
    allow_changes: Annotated[
        bool, "go on although recipe, data or number of processes are not those of the run so far"
    ] = False,
    dry_run: Annotated[bool, "open the data, build the model, take one step, and keep nothing"] = False,
) -> Path:
    """Train a model as a recipe says; the same command goes on where an earlier run was stopped.

    Ctrl-C and SIGTERM save first; the exit code is then 130 or 143.

    Example: carnelian train an4/quartznet --out runs/an4
    """
    if out is None and not dry_run:
        raise RecipeError("train: no folder for the run. Give --out FOLDER, or --dry-run")
    resolved = load_recipe(recipe, set)
    manifests = resolved.get("train", {}).get("validation", [])
    utterances = list(Manifest(*manifests)) if manifests else []
    if manifests and not any(utterance.text for utterance in utterances):
        raise ManifestError(
            f"{', '.join(map(str, manifests))}: no utterance with a transcript to validate on. Change [train] validation"
        )
    try:
        path = train_acoustic(
            resolved,
            out or Path(),
            validate=validation(utterances) if utterances else None,
            allow_changes=allow_changes,
            dry_run=dry_run,
        )
    except Stopped as stopped:
        console.note(f"carnelian: {stopped}")
        raise SystemExit(128 + stopped.number) from None
    if dry_run:
        return path
    console.note(f"done: {path}\nTry: carnelian evaluate {path} MANIFEST, or carnelian transcribe {path} FILES")
    return path


def validation(utterances: list[Utterance]) -> Validate:
    """Word errors by greedy decoding, each process's share summed, and three examples."""

    def validate(model: AcousticModel, alphabet: Alphabet, stop: Callable[[], int]) -> Score | None:
        mine, errors, examples = of_this_process(utterances), Errors(), []
        for each in Recognizer(TorchEngine(model, alphabet)).recognize(mine):
            errors += count_errors(each.utterance.text, each.transcript.text)
            examples.append((each.utterance.text, each.transcript.text))
            if stop():
                break
        counts = [errors.hits, errors.substitutions, errors.deletions, errors.insertions, len(examples) < len(mine)]
        *totals, unfinished = total_over_processes(counts, str(model.head.weight.device))
        if unfinished:
            return None
        return Score(Errors(*map(int, totals)).rate, examples[:: max(1, len(examples) // 3)][:3])

    return validate
