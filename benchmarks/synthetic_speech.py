"""Does synthetic speech help where there is little real speech? AN4 with some of its utterances, with and without spoken transcripts.

    python benchmarks/synthetic_speech.py PATH/TO/an4 --real 100 --engine espeak-ng --steps 400

trains the recipe an4/quartznet for a fixed number of steps on `--real` utterances drawn from AN4's training part (seeded), and once
more with half of every batch from the training part's transcripts spoken by the engine; prints the greedy WER of each on AN4's test
part. `--engine` may be given again; "none" is real speech only, and `--real 0` with an engine is synthetic speech only.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from carnelian.data.utterance import read_manifest, write_manifest


def carnelian(*words: object) -> str:
    """Runs a command and returns what it prints; its progress goes to standard error."""
    command = [sys.executable, "-m", "carnelian", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("an4", type=Path)
    parser.add_argument("--real", type=int, default=100)
    parser.add_argument("--engine", action="append", default=[])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keep manifests, recordings and runs here")
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary)
        if not (folder / "an4" / "train.jsonl").exists():
            carnelian("prepare", "an4", given.an4, folder / "an4")
        everything = list(read_manifest(folder / "an4" / "train.jsonl"))
        chosen = np.sort(np.random.default_rng(given.seed).choice(len(everything), given.real, replace=False))
        real = folder / f"real-{given.real}-{given.seed}.jsonl"
        write_manifest(real, [everything[index] for index in chosen])
        texts = folder / "transcripts.txt"
        texts.write_text("".join(f"{utterance.text}\n" for utterance in everything))
        for engine in given.engine or ["none"]:
            manifests = [str(real)] if given.real else []
            if engine != "none":
                spoken = folder / engine / "transcripts.jsonl"
                if not spoken.exists():
                    carnelian("synthesize", folder / engine, "--text", texts, "--engine", engine, "--room", "simulated")
                manifests.append(str(spoken))
            run = folder / f"run-{given.real}-{engine}-{given.steps}-{given.seed}"
            mix = ["--set", f"train.mix={[0.5, 0.5]}"] if len(manifests) == 2 else []
            begun = time.monotonic()
            carnelian(
                *("train", "an4/quartznet", "--out", run, "--set", f"train.manifests={manifests}", *mix),
                *("--set", "train.epochs=0", "--set", f"train.steps={given.steps}", "--set", f"seed={given.seed + 1}"),
                *("--set", "train.validation=[]", "--set", "train.validate_every=0", "--set", "schedule.warmup=50"),
            )
            seconds = time.monotonic() - begun
            scores = json.loads(carnelian("evaluate", run, folder / "an4" / "test.jsonl", "--json-output"))
            (score,) = scores["manifests"].values()
            print(
                f"{given.real} real, {engine}: {100 * score['wer']:.1f} % WER after {given.steps} steps ({seconds:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
