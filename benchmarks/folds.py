"""A recipe's word error rate on training speakers that it was not trained on, by cross-validation; no test list is asked.

    python benchmarks/folds.py TRAIN.jsonl [--recipe an4/quartznet] [--folds 5] [--seed 1 --seed 2 --seed 3] [--out runs/folds]
        [--set KEY=VALUE ...]

The manifest's speakers are divided into folds; each fold is recognized by a model that was trained on the others, greedily and with
a trigram of the others' transcripts. A run of an4/quartznet takes 8 to 15 minutes of one thread, so all take hours: what is finished
lies in OUT and is not done again, and a training that was stopped goes on. Data: `carnelian prepare an4 PATH/TO/an4 OUT`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import numpy as np
import typer

from carnelian.benchmarking.results import markdown_table
from carnelian.cli import as_typer
from carnelian.commands.language_model import build
from carnelian.corpora.hold_out import Parts, held_out_parts, speaker_name
from carnelian.data.utterance import Manifest, Utterance, write_manifest
from carnelian.decoding.settings import DecodingConfig
from carnelian.errors import ManifestError
from carnelian.files import written
from carnelian.inference.recognizer import Recognizer
from carnelian.recipe import Recipe, load_recipe
from carnelian.scoring.confidence import interval
from carnelian.scoring.wer import Errors, count_errors
from carnelian.training.tasks.acoustic import train_acoustic

DECODERS = ("greedy", "trigram")
#: of each utterance: its speaker, and its errors by decoder
Scores = list[tuple[str, dict[str, Errors]]]


def divided(utterances: Sequence[Utterance], folds: int) -> list[list[bool]]:
    """Returns for each fold which utterances are in it: all of a speaker in one, drawn at random, always the same.

    Utterances without a speaker are in no fold, so in every training.
    """
    speakers = sorted({speaker_name(each) for each in utterances} - {""})
    if len(speakers) < folds:
        raise ManifestError(
            f"{len(speakers)} speakers cannot be divided into {folds} folds. Give --folds {len(speakers)} or less"
        )
    order = np.random.default_rng(0).permutation(len(speakers)).tolist()
    fold_of = {speakers[number]: index % folds for index, number in enumerate(order)}
    return [[fold_of.get(speaker_name(each)) == fold for each in utterances] for fold in range(folds)]


def scored(recognizers: dict[str, Recognizer], utterances: Sequence[Utterance]) -> Scores:
    """Returns the errors of each recognizer on each utterance."""
    errors: list[dict[str, Errors]] = [{} for _ in utterances]
    for name, recognizer in recognizers.items():
        for each in recognizer.recognize(utterances):
            errors[each.index][name] = count_errors(each.utterance.text or "", each.transcript.text)
    return [(speaker_name(utterance), found) for utterance, found in zip(utterances, errors)]


def measured(recipe: Recipe, parts: Parts, folder: Path, weights: dict[str, Any]) -> Scores:
    """Trains on the first part, and returns the scores on the second; both are kept in the folder."""
    train, arpa, kept = folder / "train.jsonl", folder / "trigram.arpa", folder / "errors.json"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_manifest(train, parts[0])
        build([train], order=3, arpa=arpa, overwrite=True)
        table = recipe["train"] | {"manifests": [str(train)], "validation": [], "validate_every": 0}
        path = train_acoustic({**recipe, "train": table}, folder / "run")
        decoding = DecodingConfig(language_model=str(arpa), **weights)
        recognizers = {"greedy": Recognizer.load(path), "trigram": Recognizer.load(path, decoding=decoding)}
        found = scored(recognizers, parts[1])
        with written(kept) as file:
            json.dump(
                [[speaker, {name: asdict(errors) for name, errors in row.items()}] for speaker, row in found], file
            )
    rows = json.loads(kept.read_text())
    return [(speaker, {name: Errors(**errors) for name, errors in row.items()}) for speaker, row in rows]


def rate_text(scores: Scores, decoder: str) -> str:
    """Returns a word error rate in per cent with its interval over speakers."""
    errors = [row[decoder] for _, row in scores]
    found = interval(errors, groups=[speaker for speaker, _ in scores])
    return f"{100 * sum(errors, Errors()).rate:.2f} ({100 * found.low:.2f} - {100 * found.high:.2f})"


def main(
    train: Annotated[Path, "manifest of the training, with speakers"],
    *,
    recipe: Annotated[str, "a recipe's name or file"] = "an4/quartznet",
    folds: Annotated[int, "parts that the speakers are divided into"] = 5,
    seed: Annotated[list[int], "of weights and augmentation; may be given again"] = [1],  # noqa: B006
    set_: Annotated[list[str], "a change to the recipe, such as train.epochs=5; may be given again"] = [],  # noqa: B006
    alpha: Annotated[float, "weight of the trigram; as tuned for an4/quartznet"] = 0.41,
    beta: Annotated[float, "bonus for each word"] = 0.89,
    beam_width: Annotated[int, "hypotheses kept at each step"] = 16,
    out: Annotated[Path, "folder of the runs"] = Path("runs/folds"),
) -> None:
    utterances = list(Manifest(train))
    weights = {"alpha": alpha, "beta": beta, "beam_width": beam_width}
    everything: dict[int, Scores] = {}
    rows = []
    for number in seed:
        for fold, held in enumerate(divided(utterances, folds)):
            parts = held_out_parts(utterances, held)
            settings = {**load_recipe(recipe, set_), "seed": number}
            scores = measured(settings, parts, out / f"seed-{number}-fold-{fold}", weights)
            everything.setdefault(number, []).extend(scores)
            rows.append([number, fold + 1, len(parts[1]), *(rate_text(scores, each) for each in DECODERS)])
    for number, scores in everything.items():
        rows.append([number, "all", len(scores), *(rate_text(scores, each) for each in DECODERS)])
    heads = ["seed", "fold", "utterances", *(f"WER %, {each} (95 % over speakers)" for each in DECODERS)]
    print(markdown_table(heads, [[str(cell) for cell in row] for row in rows]))
    for decoder in DECODERS:
        rates = [100 * sum((row[decoder] for _, row in scores), Errors()).rate for scores in everything.values()]
        print(f"{decoder}: mean over the seeds {mean(rates):.2f} % ({min(rates):.2f} - {max(rates):.2f})")


if __name__ == "__main__":
    typer.run(as_typer(main))
