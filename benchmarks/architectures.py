"""Small models of six architectures on AN4, each trained for the same minutes of one thread's processor time.

    python benchmarks/architectures.py TRAIN.jsonl DEV.jsonl [--test TEST.jsonl] [--minutes 3] [--seed 1 --seed 2 --seed 3]
        [--architecture jasper ...] [--out runs/architectures]

Data: `carnelian prepare an4 PATH/TO/an4 OUT --hold-out 12`. Each run is a process of its own. Its first 60 steps tell how many steps
fit into the minutes; the model is then trained anew for that many, so that its learning rate falls to zero at their end. Finished runs
are kept in OUT/runs.jsonl and not repeated; the table is the mean over the seeds, with the lowest and highest of several.
"""

import json
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import torch
import typer

from carnelian.benchmarking.results import markdown_table
from carnelian.checkpoint import load_checkpoint
from carnelian.cli import as_typer
from carnelian.commands.language_model import build
from carnelian.data.alphabet import learn_pieces
from carnelian.data.utterance import Manifest
from carnelian.decoding.settings import DecodingConfig
from carnelian.files import written
from carnelian.inference.recognizer import Recognizer
from carnelian.recipe import Recipe, load_recipe
from carnelian.scoring.wer import Errors, count_errors
from carnelian.training.tasks.acoustic import train_acoustic

#: learning rate by optimizer: those of the recipes an4/quartznet and an4/conformer
PEAKS = {"muon": 0.008, "adamw": 0.002}
#: steps that are taken to learn how long one takes
TIMED_STEPS = 60
#: n-gram weights near those that `carnelian tune` found for the recipe an4/quartznet; the same for every model
DECODING = {"alpha": 0.4, "beta": 0.9, "beam_width": 64}


@dataclass(frozen=True)
class Architecture:
    """A paper's encoder, made small enough to learn something in a few minutes; `pieces` counts word pieces, 0 is letters.

    published: greedy word error rates of a full-sized model on LibriSpeech's test-clean and test-other, and its parameters, as its
    authors print them.
    """

    encoder: dict[str, Any]
    optimizer: str
    published: str
    pieces: int = 0


ARCHITECTURES = {
    "deepspeech2": Architecture(
        {"name": "deepspeech2", "size": "small", "width": 0.25, "dropout": 0.1}, "adamw", "dev-clean 6.71"
    ),
    "wave2letter": Architecture(
        {"name": "wave2letter", "repeat": 1, "width": 0.1875, "dropout": 0.5}, "muon", "6.58, 19.61; 106.5 M"
    ),
    "jasper": Architecture(
        {"name": "jasper", "blocks": 5, "repeat": 1, "width": 0.1875, "dropout": 0.5},
        "muon",
        "3.86, 11.95; 333 M",
    ),
    "quartznet": Architecture(
        {"name": "quartznet", "blocks": 5, "repeat": 2, "width": 0.5, "stride": 4, "dropout": 0.1},
        "muon",
        "3.90, 11.28; 18.9 M",
    ),
    "citrinet": Architecture(
        {
            "name": "citrinet",
            "channels": 192,
            "last": 256,
            "repeat": 2,
            "blocks": 2,
            "kernel_factor": 0.25,
        },
        "muon",
        "3.7, 8.9; 36 M, further corpora",
        pieces=64,
    ),
    "conformer": Architecture(
        {
            "name": "conformer",
            "channels": 96,
            "layers": 3,
            "heads": 4,
            "kernel": 15,
            "subsampling": "dw_striding",
            "subsampling_channels": 32,
        },
        "adamw",
        "3.4, 8.8; 13 M",
    ),
}


@dataclass(frozen=True)
class TrainedRun:
    """One training and what was measured of it: rates are shares of words, `recognition_factor` processor seconds per audio second."""

    architecture: str
    seed: int
    minutes: float
    steps: int
    epochs: float
    parameters: int
    peak_memory_gb: float
    recognition_factor: float
    rates: dict[str, float]


def recipe_of(architecture: Architecture, train: Path, seed: int, folder: Path) -> Recipe:
    """Returns the recipe an4/quartznet with this encoder; one view of each utterance, and an average over fewer steps."""
    recipe = load_recipe("an4/quartznet")
    kept = {key: recipe[key] for key in ("alphabet", "features", "masks", "augment")}
    decay = {"muon": 0.1, "adamw": 0.001}[architecture.optimizer]
    if architecture.pieces:
        path = folder / f"pieces{architecture.pieces}.model"
        with written(path, "wb") as file:
            texts = (utterance.text or "" for utterance in Manifest(train))
            file.write(learn_pieces(texts, architecture.pieces, "unigram").model)
        kept["alphabet"] = str(path)
    return {
        **kept,
        "seed": seed,
        "encoder": architecture.encoder,
        "optimizer": {"name": architecture.optimizer, "weight_decay": decay},
        "train": {"manifests": [str(train)], "batch_size": 8, "clip": 5.0, "average": 0.99, "workers": 0},
    }


def trained(recipe: Recipe, steps: int, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Trains a recipe for a number of steps; returns the checkpoint and what the training took, as it keeps it."""
    peak = PEAKS[recipe["optimizer"]["name"]]
    schedule = {"name": "cosine", "peak": peak, "warmup": max(1, steps // 8)}
    path = train_acoustic(
        {**recipe, "train": {**recipe["train"], "steps": steps}, "schedule": schedule},
        folder,
    )
    return path, dict((load_checkpoint(path).more or {})["training"])


def word_errors(recognizer: Recognizer, manifest: Path) -> tuple[Errors, float]:
    """Returns the errors on a list, and the processor seconds that recognizing took for each second of audio."""
    utterances = list(Manifest(manifest))
    began = time.process_time()
    recognized = list(recognizer.recognize(utterances))
    spent = time.process_time() - began
    errors = sum(
        (count_errors(each.utterance.text or "", each.transcript.text) for each in recognized),
        Errors(),
    )
    return errors, spent / sum(utterance.duration for utterance in utterances)


def run(name: str, seed: int, minutes: float, lists: dict[str, Path], folder: Path) -> TrainedRun:
    """Trains an architecture for a number of minutes, and measures it on lists by name, greedily and with the trigram."""
    torch.set_num_threads(1)
    recipe = recipe_of(ARCHITECTURES[name], lists["train"], seed, folder)
    timed = trained(recipe, TIMED_STEPS, folder / f"{name}-timed-{seed}-{time.time_ns()}")[1]
    steps = round(minutes * TIMED_STEPS / timed["processor_minutes"])
    path, cost = trained(recipe, steps, folder / f"{name}-{seed}")
    rates, factor = {}, 0.0
    for measured in ("dev", "test"):
        if measured not in lists:
            continue
        errors, factor = word_errors(Recognizer.load(path), lists[measured])
        rates[f"{measured} greedy"] = errors.rate
        decoding = DecodingConfig(language_model=str(lists["language model"]), **DECODING)
        rates[f"{measured} trigram"] = word_errors(Recognizer.load(path, decoding=decoding), lists[measured])[0].rate
    weights = load_checkpoint(path)
    return TrainedRun(
        name,
        seed,
        cost["processor_minutes"],
        steps,
        8 * steps / len(Manifest(lists["train"])),
        sum(tensor.numel() for key, tensor in weights.weights.items() if not key.startswith("features")),
        cost["peak_memory_gb"],
        factor,
        rates,
    )


def run_in_a_process(*arguments: Any) -> TrainedRun:
    """`run` in a process of its own, so that its peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run, arguments)


def read_runs(path: Path) -> list[TrainedRun]:
    """Returns the runs that are finished."""
    return [TrainedRun(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def percent(values: Sequence[float]) -> str:
    """Returns the mean of shares in per cent, with the lowest and the highest where there are several."""
    spread = f" ({100 * min(values):.1f} - {100 * max(values):.1f})" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{spread}"


def table_of(runs: Sequence[TrainedRun]) -> str:
    """Returns the runs as a Markdown table, a row for each architecture."""
    measured = list(runs[0].rates)
    heads = ["architecture", "seeds", "parameters, M", "minutes", "epochs"]
    heads += [*(f"WER % {name}" for name in measured), "RTF", "peak GB", "the full-sized model, as published"]
    rows = []
    for name, architecture in ARCHITECTURES.items():
        found = [each for each in runs if each.architecture == name]
        if not found:
            continue
        rows.append(
            [
                name,
                str(len(found)),
                f"{found[0].parameters / 1e6:.2f}",
                f"{mean(each.minutes for each in found):.1f}",
                f"{mean(each.epochs for each in found):.0f}",
                *(percent([each.rates[key] for each in found]) for key in measured),
                f"{mean(each.recognition_factor for each in found):.4f}",
                f"{max(each.peak_memory_gb for each in found):.2f}",
                architecture.published,
            ]
        )
    return markdown_table(heads, rows)


def prepare_lists(train: Path, dev: Path, test: Path | None, out: Path) -> dict[str, Path]:
    """Returns the manifests by name, and the trigram of the training transcripts, which is estimated where it is missing."""
    out.mkdir(parents=True, exist_ok=True)
    lists = {"train": train, "dev": dev, "language model": out / "trigram.arpa"} | ({"test": test} if test else {})
    if not lists["language model"].exists():
        build([train], order=3, arpa=lists["language model"])
    return lists


def main(
    train: Annotated[Path, "manifest to train on"],
    dev: Annotated[Path, "manifest of speakers held out"],
    *,
    test: Annotated[Path | None, "a test list, to be asked once"] = None,
    minutes: Annotated[float, "processor minutes of each training"] = 3.0,
    seed: Annotated[list[int], "of weights and augmentation; may be given again"] = [1],  # noqa: B006
    architecture: Annotated[list[str], "one of the six; may be given again; default: all"] = [],  # noqa: B006
    out: Annotated[Path, "folder of the runs"] = Path("runs/architectures"),
) -> None:
    lists = prepare_lists(train, dev, test, out)
    finished = read_runs(out / "runs.jsonl")
    for each in seed:
        for name in architecture or ARCHITECTURES:
            if any((found.architecture, found.seed) == (name, each) for found in finished):
                continue
            finished.append(run_in_a_process(name, each, minutes, lists, out))
            with (out / "runs.jsonl").open("a") as file:
                file.write(json.dumps(asdict(finished[-1])) + "\n")
    print(table_of(finished))


if __name__ == "__main__":
    typer.run(as_typer(main))
