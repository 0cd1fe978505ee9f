"""Does wav2vec's pre-training help where few utterances have transcripts? AN4 with 10, 50 and 200 of them, by front end.

    python benchmarks/pretraining.py PATH/TO/an4 WAV2VEC --out FOLDER                # on 12 held-out training speakers, to choose
    python benchmarks/pretraining.py PATH/TO/an4 WAV2VEC --out FOLDER --part test    # on AN4's test part: the table, once

WAV2VEC is the run of a pre-training whose recordings hold neither of the two parts. The same small encoder is trained with CTC for a
fixed number of steps, with the same masks (SpecAugment), from each seed's own draw of utterances with transcripts, on
- log-mel features;
- log-mel features, with the other training utterances as the first model labels them, half of each batch (pseudo-labels);
- wav2vec's features, frozen, and trained at a tenth of the rate.
Prints greedy word and character error rates as two tables: the mean over the seeds, its 95 % interval over draws of speakers, and each
seed's own. What lies in FOLDER already is not trained again: the work can be stopped, and divided by `--seeds` and `--methods`.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from carnelian.checkpoint import saved_steps
from carnelian.commands.prepare import prepare
from carnelian.commands.pseudo_label import pseudo_label
from carnelian.data.utterance import Utterance, read_manifest, write_manifest
from carnelian.errors import ManifestError
from carnelian.inference.recognizer import Recognizer
from carnelian.scoring.confidence import interval
from carnelian.scoring.wer import Errors, errors_of_texts
from carnelian.training.tasks.acoustic import train_acoustic

HELD_OUT = 12  # training speakers
METHODS = LOG_MEL, PSEUDO, FROZEN, TRAINED = "log-mel", "pseudo-labels", "wav2vec-frozen", "wav2vec-trained"
ENCODER = {
    "name": "convolutional",
    "blocks": [
        {"channels": 192, "kernel": 5, "stride": 2, "dropout": 0.1},
        {"channels": 192, "kernel": 5, "stride": 2, "dropout": 0.1},
        *({"channels": 192, "kernel": 9, "repeat": 2, "residual": "plain", "separable": True, "dropout": 0.1},) * 3,
        {"channels": 256, "kernel": 1, "dropout": 0.1},
    ],
}
MASKS = {"frequency_masks": 2, "frequency_width": 15, "time_masks": 5, "time_width": 12}


def recipe(given: argparse.Namespace, method: str, manifests: list[Path], seed: int) -> dict[str, Any]:
    """The recipe of one training; of two manifests each gives half of a batch."""
    train: dict[str, Any] = {"manifests": [str(path) for path in manifests], "steps": given.steps, "batch_size": 8}
    if len(manifests) == 2:
        train["mix"] = [0.5, 0.5]
    tables: dict[str, Any] = {
        "alphabet": " abcdefghijklmnopqrstuvwxyz'",
        "seed": seed,
        "train": {**train, "clip": 5.0, "average": 0.99},
        "encoder": ENCODER,
        "masks": {"spec_augment": MASKS},
        "optimizer": {"name": "muon", "weight_decay": 0.1},
        "schedule": {"name": "cosine", "peak": 0.008, "warmup": given.steps // 10},
    }
    if method in (LOG_MEL, PSEUDO):
        return tables | {"features": {"name": "log_mel", "normalize": "all_features"}}
    start: dict[str, Any] = {"checkpoint": str(given.wav2vec), "parts": ["features"]}
    start |= (
        {"freeze": ["features"], "cache": str(given.out / "features")}
        if method == FROZEN
        else {"rates": {"features": 0.1}}
    )
    return tables | {"initialize": start}


def parted(given: argparse.Namespace, count: int, seed: int) -> tuple[Path, Path]:
    """Manifests of `count` training utterances, drawn with the seed, and of the others."""
    folder = given.out / f"{count}-{seed}"
    paths = folder / "labelled.jsonl", folder / "others.jsonl"
    utterances = list(read_manifest(given.out / "an4" / "train.jsonl"))
    chosen = set(np.random.default_rng(seed).choice(len(utterances), count, replace=False).tolist())
    for path, inside in zip(paths, (True, False)):
        write_manifest(path, [each for index, each in enumerate(utterances) if (index in chosen) == inside])
    return paths


def trained(given: argparse.Namespace, method: str, count: int, seed: int) -> Path | None:
    """The model of one training, unless it is there already; None where no pseudo-label is confident enough."""
    run = given.out / f"{count}-{seed}" / method
    if given.steps in saved_steps(run):
        return saved_steps(run)[given.steps]
    labelled, others = parted(given, count, seed)
    manifests = [labelled]
    if method == PSEUDO:
        labels = run.with_suffix(".jsonl")
        try:
            first = trained(given, LOG_MEL, count, seed)
            assert first
            pseudo_label(first, [others], out=labels, min_confidence=given.min_confidence, overwrite=True)
        except ManifestError:
            return None
        manifests.append(labels)
    return train_acoustic(recipe(given, method, manifests, seed), run)


def errors_on(model: Path, utterances: list[Utterance]) -> dict[str, list[Errors]]:
    """The errors of greedy transcripts of utterances, in their order: of words, and of characters."""
    found = sorted(Recognizer.load(model).recognize(utterances), key=lambda each: each.index)
    references, hypotheses = [each.text for each in utterances], [each.transcript.text for each in found]
    letters = [[" ".join(text.replace(" ", "_")) for text in side] for side in (references, hypotheses)]
    return {"word": errors_of_texts(references, hypotheses), "character": errors_of_texts(letters[0], letters[1])}


def cell(by_seed: list[list[Errors]], speakers: list[str]) -> str:
    """The mean error rate of the models of all seeds, its interval over draws of speakers, and that of each seed."""
    if not by_seed:
        return "no label is confident"
    everything = [errors for one in by_seed for errors in one]
    sure = interval(everything, groups=speakers * len(by_seed))
    rates = " ".join(f"{100 * sum(one, Errors()).rate:.1f}" for one in by_seed)
    return f"{100 * sum(everything, Errors()).rate:.1f} ({100 * sure.low:.1f} - {100 * sure.high:.1f}; {rates})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("an4", type=Path)
    parser.add_argument("wav2vec", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="manifests, features and runs are kept here")
    parser.add_argument("--part", choices=("dev", "test"), default="dev")
    parser.add_argument("--labelled", type=int, nargs="*", default=[10, 50, 200], help="utterances with transcripts")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--min-confidence", type=float, default=0.8, help="of pseudo-labels")
    parser.add_argument("--train-only", action="store_true", help="print no table")
    given = parser.parse_args()
    if not (given.out / "an4" / "train.jsonl").exists():
        prepare("an4", given.an4, given.out / "an4", hold_out=HELD_OUT)
    utterances = list(read_manifest(given.out / "an4" / f"{given.part}.jsonl"))
    speakers = [str(each.more["speaker"]) for each in utterances]
    lines: dict[str, list[list[str]]] = {"word": [], "character": []}
    for count in given.labelled:
        cells: dict[str, list[str]] = {kind: [] for kind in lines}
        for method in given.methods:
            began = time.process_time()
            models = [trained(given, method, count, seed) for seed in given.seeds]
            print(f"{count} {method}: {time.process_time() - began:.0f} s of processor time", flush=True)
            found = [] if given.train_only else [errors_on(model, utterances) for model in models if model]
            for kind in cells:
                cells[kind].append(cell([each[kind] for each in found], speakers))
        for kind, row in cells.items():
            lines[kind].append([str(count), *row])
    heading = [["utterances with transcripts", *given.methods], ["---"] * (1 + len(given.methods))]
    for kind, rows in () if given.train_only else lines.items():
        print(f"\n{kind} error rates, %")
        print("\n".join(f"| {' | '.join(row)} |" for row in [*heading, *rows]))


if __name__ == "__main__":
    main()
