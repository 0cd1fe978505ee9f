"""Does synthetic speech help where there is little real speech? AN4 with some of its utterances, with and without spoken transcripts.

    python benchmarks/synthetic_speech.py PATH/TO/an4 --out FOLDER                # scored on six held-out training speakers, to choose
    python benchmarks/synthetic_speech.py PATH/TO/an4 --out FOLDER --part test    # on AN4's test part: the tables, once

trains a small model for a fixed number of steps on 100, 300 and all real utterances of the training part (drawn with the seed), each
without synthetic speech and with a share of every batch from the training part's transcripts spoken by an engine, and on each engine
alone; then prints greedy word error rates as two tables: on real speech, and of the models of one engine on the part's transcripts
spoken by each engine. Engines that are not installed are left out. What lies in FOLDER already is not trained again.
"""

import argparse
import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np

from carnelian.corpora.speech.voices import SPEECH_ENGINES
from carnelian.data.utterance import read_manifest, write_manifest
from carnelian.errors import CarnelianError

HELD_OUT = 6  # training speakers
NARROW = {"channels = 256": "channels = 128", "channels = 512": "channels = 256", "channels = 32": "channels = 16"}
NARROW |= {"channels = 64": "channels = 32", "average        = 0.998": "average = 0.99"}


def carnelian(*words: object) -> str:
    """Runs a command and returns what it prints; its progress goes to standard error."""
    command = [sys.executable, "-m", "carnelian", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def small_recipe(path: Path) -> Path:
    """an4/quartznet with half its channels and without the second mask of each utterance: a seventh of the work."""
    text = (files("carnelian") / "recipes" / "an4" / "quartznet.toml").read_text()
    for wide, narrow in NARROW.items():
        assert wide in text, wide
        text = text.replace(wide, narrow)
    path.write_text(
        "".join(f"{line}\n" for line in text.splitlines() if not line.startswith(("consistency", "epochs")))
    )
    return path


def installed_engines(names: list[str]) -> list[str]:
    """The engines that can speak here: of the given ones, or of all that have voices of their own."""
    found = []
    for name in names or [each for each, engine in SPEECH_ENGINES.items() if engine.voices]:
        try:
            SPEECH_ENGINES[name].start()
            found.append(name)
        except CarnelianError as error:
            print(error, file=sys.stderr)
    return found


def speak(folder: Path, texts: Path, engine: str, seed: int) -> Path:
    """The manifest of a text file spoken by an engine."""
    out = folder / "spoken" / f"{engine}-{seed}"
    manifest = out / f"{texts.stem}.jsonl"
    if not manifest.exists():
        carnelian("synthesize", out, "--text", texts, "--engine", engine, "--room", "simulated", "--seed", seed)
    return manifest


def draw_utterances(manifest: Path, count: int, seed: int) -> Path:
    """The manifest of `count` utterances of another, drawn at random; the other itself if `count` is 0."""
    if not count:
        return manifest
    utterances = list(read_manifest(manifest))
    chosen = np.sort(np.random.default_rng(seed).choice(len(utterances), count, replace=False))
    path = manifest.with_name(f"real-{count}-{seed}.jsonl")
    write_manifest(path, [utterances[index] for index in chosen])
    return path


def train(given: argparse.Namespace, name: str, manifests: list[Path]) -> Path:
    """The run of a model trained on a manifest, or on two mixed; unless it is there already."""
    run = given.out / f"run-{name}-{given.steps}-{given.seed}"
    if not list(run.glob(f"step-*{given.steps}.safetensors")):
        settings = {
            "seed": given.seed + 1,
            "train.manifests": [str(manifest) for manifest in manifests],
            "train.epochs": 0,
            "train.steps": given.steps,
            "train.validation": [],
            "train.validate_every": 0,
            "schedule.warmup": 100,
        }
        if len(manifests) == 2:
            settings["train.mix"] = [1 - given.share, given.share]
        options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        carnelian("train", given.out / "small.toml", "--out", run, *options)
    return run


def word_error_rate(run: Path, manifest: Path) -> str:
    """The greedy WER in percent, with its 95 % interval."""
    (score,) = json.loads(carnelian("evaluate", run, manifest, "--json-output"))["manifests"].values()
    return f"{100 * score['wer']:.1f} ({100 * score['wer_low']:.1f} to {100 * score['wer_high']:.1f})"


def row(*cells: object) -> None:
    """Prints a line of a Markdown table at once."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("an4", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="manifests, recordings and runs are kept here")
    parser.add_argument("--part", choices=("dev", "test"), default="dev")
    parser.add_argument("--real", type=int, nargs="*", default=[100, 300, 0], help="numbers of utterances; 0 is all")
    parser.add_argument("--engine", nargs="*", default=[])
    parser.add_argument("--share", type=float, default=0.5, help="of each batch that is synthetic")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    an4 = given.out / "an4"
    if not (an4 / "train.jsonl").exists():
        carnelian("prepare", "an4", given.an4, an4, "--hold-out", HELD_OUT)
    small_recipe(given.out / "small.toml")
    real = an4 / f"{given.part}.jsonl"
    for manifest in (an4 / "train.jsonl", real):
        manifest.with_suffix(".txt").write_text("".join(f"{each.text}\n" for each in read_manifest(manifest)))
    engines = installed_engines(given.engine)
    speech = {engine: speak(given.out, an4 / "train.txt", engine, given.seed) for engine in engines}
    row("real utterances", "no synthetic speech", *(f"with {engine}" for engine in engines))
    row(*["---"] * (2 + len(engines)))
    for count in given.real:
        some = draw_utterances(an4 / "train.jsonl", count, given.seed)
        runs = [train(given, f"{count or 'all'}-none", [some])]
        runs += [train(given, f"{count or 'all'}-{each}-{given.share:g}", [some, speech[each]]) for each in engines]
        row(count or "all", *(word_error_rate(run, real) for run in runs))
    alone = {engine: train(given, f"none-{engine}", [speech[engine]]) for engine in engines}
    row(0, "", *(word_error_rate(run, real) for run in alone.values()))
    print()
    row("trained on", "real speech", *(f"spoken by {engine}" for engine in engines))
    row(*["---"] * (2 + len(engines)))
    others = {engine: speak(given.out, real.with_suffix(".txt"), engine, given.seed + 5) for engine in engines}
    for name, run in {"all real": train(given, "all-none", [an4 / "train.jsonl"]), **alone}.items():
        row(name, *(word_error_rate(run, manifest) for manifest in (real, *others.values())))


if __name__ == "__main__":
    main()
