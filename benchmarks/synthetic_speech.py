"""Does synthetic speech help where there is little real speech? AN4 with some of its utterances, with and without spoken transcripts.

    python benchmarks/synthetic_speech.py PATH/TO/an4 --out FOLDER                # heard on six held-out training speakers, to choose
    python benchmarks/synthetic_speech.py PATH/TO/an4 --out FOLDER --part test    # on AN4's test part: the tables, once

trains a small model for a fixed number of steps on 100, 300 and all real utterances of the training part (drawn with the seed), each
without synthetic speech and with a share of every batch from the training part's transcripts spoken by an engine, and on each engine
alone; then prints greedy word error rates as two tables: on real speech, and of the models of one engine on the held-out part's
transcripts spoken by the others. Engines that are not installed are left out. What lies in FOLDER already, is not trained again.
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


def engines(names: list[str]) -> list[str]:
    """The engines that can speak here."""
    found = []
    for name in names or [each for each, engine in SPEECH_ENGINES.items() if engine.voices]:
        try:
            SPEECH_ENGINES[name].start()
            found.append(name)
        except CarnelianError as error:
            print(error, file=sys.stderr)
    return found


def spoken(folder: Path, texts: Path, engine: str, seed: int) -> Path:
    """The manifest of a text file spoken by an engine."""
    out = folder / "spoken" / f"{engine}-{seed}"
    manifest = out / f"{texts.stem}.jsonl"
    if not manifest.exists():
        carnelian("synthesize", out, "--text", texts, "--engine", engine, "--room", "simulated", "--seed", seed)
    return manifest


def some(manifest: Path, count: int | None, seed: int) -> Path:
    """A manifest of so many utterances of another, or that itself."""
    if not count:
        return manifest
    utterances = list(read_manifest(manifest))
    chosen = np.sort(np.random.default_rng(seed).choice(len(utterances), count, replace=False))
    path = manifest.with_name(f"real-{count}-{seed}.jsonl")
    write_manifest(path, [utterances[index] for index in chosen])
    return path


def trained(given: argparse.Namespace, name: str, manifests: list[Path]) -> Path:
    """The run of a model trained on a manifest, or on two mixed; unless it is there already."""
    run = given.out / f"run-{name}-{given.steps}-{given.seed}"
    if not list(run.glob(f"step-*{given.steps}.safetensors")):
        mix = ["--set", f"train.mix={[1 - given.share, given.share]}"] if len(manifests) == 2 else []
        carnelian(
            *(
                "train",
                given.out / "small.toml",
                "--out",
                run,
                "--set",
                f"train.manifests={[str(m) for m in manifests]}",
            ),
            *("--set", "train.epochs=0", "--set", f"train.steps={given.steps}", "--set", f"seed={given.seed + 1}"),
            *("--set", "train.validation=[]", "--set", "train.validate_every=0", "--set", "schedule.warmup=100", *mix),
        )
    return run


def heard(run: Path, manifest: Path) -> str:
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
    known = engines(given.engine)
    speech = {engine: spoken(given.out, an4 / "train.txt", engine, given.seed) for engine in known}
    row("real utterances", "no synthetic speech", *(f"with {engine}" for engine in known))
    row(*["---"] * (2 + len(known)))
    for count in given.real:
        part = some(an4 / "train.jsonl", count or None, given.seed)
        with_none = heard(trained(given, f"{count or 'all'}-none", [part]), real)
        runs = (trained(given, f"{count or 'all'}-{each}-{given.share:g}", [part, speech[each]]) for each in known)
        row(count or "all", with_none, *(heard(run, real) for run in runs))
    alone = {engine: trained(given, f"none-{engine}", [speech[engine]]) for engine in known}
    row(0, "", *(heard(run, real) for run in alone.values()))
    print()
    row("trained on", "real speech", *(f"spoken by {engine}" for engine in known))
    row(*["---"] * (2 + len(known)))
    others = {engine: spoken(given.out, real.with_suffix(".txt"), engine, given.seed + 5) for engine in known}
    for name, run in {"all real": trained(given, "all-none", [an4 / "train.jsonl"]), **alone}.items():
        row(name, heard(run, real), *(heard(run, others[engine]) for engine in known))


if __name__ == "__main__":
    main()
