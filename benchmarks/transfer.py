"""Transfer to a narrow band: an AN4 model adapted to spoken digits at 8 kHz, beside the same network trained from nothing.

    python benchmarks/transfer.py AN4_CHECKPOINT FSDD_FOLDER [--out runs/fsdd] [--steps 400]

Trains with 20, 100 and 500 recordings, measures on the 200 that the dataset's makers set apart (numbers 0 to 4 of each digit and
speaker), and prints WER and minutes of each. FSDD_FOLDER holds `recordings/` of the Free Spoken Digit Dataset.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from carnelian.checkpoint import load_checkpoint
from carnelian.console import table
from carnelian.data.audio import audio_info
from carnelian.data.utterance import Manifest, Utterance, write_manifest
from carnelian.inference.recognizer import Recognizer
from carnelian.recipe import load_recipe
from carnelian.scoring.report.tables import score_texts
from carnelian.training.tasks.acoustic import train_acoustic

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEST = range(5)
RECIPE = "fsdd/digits"


def prepare(fsdd: Path, out: Path) -> dict[str, Path]:
    """Manifests: `test`, and nested training lists of 20, 100 and 500 other recordings."""
    training: list[Utterance] = []
    test: list[Utterance] = []
    for path in sorted((fsdd / "recordings").glob("*.wav")):
        digit, speaker, number = path.stem.split("_")
        utterance = Utterance(str(path), audio_info(path).duration, DIGITS[int(digit)], more={"speaker": speaker})
        (test if int(number) in TEST else training).append(utterance)
    order = np.random.default_rng(0).permutation(len(training))
    lists = {str(count): [training[index] for index in order[:count]] for count in (20, 100, 500)}
    lists["test"] = test
    paths = {name: out / f"{name}.jsonl" for name in lists}
    for name, subset in lists.items():
        write_manifest(paths[name], subset)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("fsdd", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/fsdd"))
    parser.add_argument("--steps", type=int, default=400)
    settings = parser.parse_args()
    manifests = prepare(settings.fsdd, settings.out)
    earlier = load_checkpoint(settings.checkpoint)
    test = list(Manifest(manifests["test"]))
    rows = []
    for count in ("20", "100", "500"):
        for name, start in (("AN4", {"checkpoint": str(settings.checkpoint)}), ("nothing", None)):
            recipe = load_recipe(
                RECIPE, [f"train.steps={settings.steps}", f"train.manifests={json.dumps([str(manifests[count])])}"]
            )
            recipe |= {key: earlier.recipe[key] for key in ("features", "encoder")}
            if start:
                recipe["initialize"] = start
            began = time.perf_counter()
            model = train_acoustic(recipe, settings.out / f"{name}-{count}")
            minutes = (time.perf_counter() - began) / 60
            recognized = sorted(Recognizer.load(model).recognize(test), key=lambda each: each.index)
            report = score_texts([utterance.text for utterance in test], [each.transcript.text for each in recognized])
            low, high = 100 * report.interval.low, 100 * report.interval.high
            rows.append((count, name, f"{100 * report.words.rate:.1f}", f"{low:.1f} - {high:.1f}", f"{minutes:.1f}"))
    table("Digits at 8 kHz", ("utterances", "started from", "WER %", "95 %", "minutes"), rows)


if __name__ == "__main__":
    main()
