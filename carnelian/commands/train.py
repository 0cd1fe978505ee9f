"""carnelian train: a model from a recipe."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from carnelian import console
from carnelian.data.alphabet import Alphabet
from carnelian.data.utterance import Manifest, Utterance
from carnelian.inference.recognizer import Recognizer
from carnelian.models.acoustic import AcousticModel
from carnelian.recipe import load_recipe
from carnelian.scoring.wer import Errors, count_errors
from carnelian.training.distributed import of_this_process
from carnelian.training.fit import total_over_processes
from carnelian.training.run import Validate
from carnelian.training.tasks.acoustic import Score, Stopped, train_acoustic


def train(
    recipe: Annotated[Path, "the recipe, a TOML file"],
    *,
    out: Annotated[Path, "the folder of the run; if it holds this recipe's run, that goes on"],
    set: Annotated[list[str], "a change to the recipe, such as encoder.blocks=5; may be given again"] = [],  # noqa: B006
) -> Path:
    """Train a model as a recipe says; the same command goes on where an earlier run was stopped.

    Ctrl-C and SIGTERM save first; the exit code is then 130 or 143.
    """
    resolved = load_recipe(recipe, set)
    manifests = resolved.get("train", {}).get("validation", [])
    utterances = list(Manifest(*manifests)) if manifests else []
    try:
        path = train_acoustic(resolved, out, validate=validation(utterances) if utterances else None)
    except Stopped as stopped:
        console.note(f"carnelian: {stopped}")
        raise SystemExit(128 + stopped.number) from None
    console.note(f"done: {path}\nTry: carnelian evaluate {path} MANIFEST, or carnelian transcribe {path} FILES")
    return path


def validation(utterances: list[Utterance]) -> Validate:
    """Word errors by greedy decoding, each process's share summed, and three examples."""

    def validate(model: AcousticModel, alphabet: Alphabet, stop: Callable[[], int]) -> Score | None:
        mine, errors, heard = of_this_process(utterances), Errors(), []
        for each in Recognizer(model, alphabet).recognize(mine):
            errors += count_errors(each.utterance.text, each.transcript.text)
            heard.append((each.utterance.text, each.transcript.text))
            if stop():
                break
        counts = [errors.hits, errors.substitutions, errors.deletions, errors.insertions, len(heard) < len(mine)]
        *totals, unfinished = total_over_processes(counts, str(model.head.weight.device))
        if unfinished:
            return None
        return Score(Errors(*map(int, totals)).rate, heard[:: max(1, len(heard) // 3)][:3])

    return validate
