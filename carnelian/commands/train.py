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
from carnelian.recipe import Recipe, did_you_mean, in_short, load_recipe
from carnelian.scoring.wer import Errors, count_errors
from carnelian.training.distributed import of_this_process
from carnelian.training.fit import total_over_processes
from carnelian.training.run import Score, Validate
from carnelian.training.signals import Stopped
from carnelian.training.tasks.acoustic import train_acoustic
from carnelian.training.tasks.best_rq import train_best_rq
from carnelian.training.tasks.corrector import train_corrector
from carnelian.training.tasks.language import train_language
from carnelian.training.tasks.wav2vec import train_wav2vec
from carnelian.training.tasks.wav2vec2 import train_wav2vec2


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
    task = resolved.get("task", "acoustic")
    if task not in TASKS:
        raise RecipeError(f"{recipe}: task = {in_short(task)}: there is no such task.{did_you_mean(str(task), TASKS)}")
    try:
        path = TASKS[task](resolved, out or Path(), allow_changes=allow_changes, dry_run=dry_run)
    except Stopped as stopped:
        console.note(f"carnelian: {stopped}")
        raise SystemExit(128 + stopped.number) from None
    if not dry_run:
        console.note(f"done: {path}\n{NEXT[task].format(path=path)}")
    return path


def train_recognizer(recipe: Recipe, folder: Path, *, allow_changes: bool, dry_run: bool) -> Path:
    """Trains an acoustic model, with word errors as its validation."""
    manifests = recipe.get("train", {}).get("validation", [])
    utterances = list(Manifest(*manifests)) if manifests else []
    if manifests and not any(utterance.text for utterance in utterances):
        raise ManifestError(
            f"{', '.join(map(str, manifests))}: no utterance with a transcript to validate on. Change [train] validation"
        )
    return train_acoustic(
        recipe,
        folder,
        validate=validation(utterances) if utterances else None,
        allow_changes=allow_changes,
        dry_run=dry_run,
    )


#: what a recipe's `task` may be, and the function that trains it
TASKS: dict[str, Callable[..., Path]] = {
    "acoustic": train_recognizer,
    "best_rq": train_best_rq,
    "corrector": train_corrector,
    "language": train_language,
    "wav2vec": train_wav2vec,
    "wav2vec2": train_wav2vec2,
}
INITIALIZE = 'Next: in the recipe of a recognizer, [initialize] checkpoint = "{path}" and parts = '
NEXT = {
    "acoustic": "Try: carnelian evaluate {path} MANIFEST, or carnelian transcribe {path} FILES",
    "best_rq": INITIALIZE + '["features", "encoder"]',
    "corrector": "Next, on pairs of held-out speakers: carnelian correct threshold {path} PAIRS",
    "language": "Try: carnelian language-model score {path} TEXT --summary, or carnelian evaluate MODEL MANIFEST --rescore {path}",
    "wav2vec": INITIALIZE + '["features"]',
    "wav2vec2": INITIALIZE + '["features", "encoder"]',
}


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
