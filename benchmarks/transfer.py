"""Transfer to a narrow band: an AN4 model adapted to spoken digits at 8 kHz, beside the same network trained from nothing.

    python benchmarks/transfer.py AN4_CHECKPOINT FSDD_FOLDER [--out runs/fsdd] [--steps 400]
    python benchmarks/transfer.py AN4_CHECKPOINT FSDD_FOLDER --leave-out george lucas --digits data/an4/train.jsonl

FSDD_FOLDER holds `recordings/` of the Free Spoken Digit Dataset. Trains with 20, 100 and 500 recordings and prints WER and minutes of
each. Without --leave-out it measures on the 200 recordings that the dataset's makers set apart (numbers 0 to 4 of each digit and
speaker), whose speakers are those of the training; with it, for each speaker named, on all of that speaker's recordings, after
training without any. --digits: a manifest from whose recordings the digits are cut out, by forced alignment with the checkpoint; they
are half of each batch then, spoken by other people. With --synthetic two thirds of that half are voices of espeak-ng and flite.
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from carnelian.checkpoint import load_checkpoint
from carnelian.console import table
from carnelian.corpora.speech.spoken_text import SpeechStyle, speak_texts
from carnelian.data.audio import audio_info, load_audio
from carnelian.data.utterance import Manifest, Utterance, read_manifest, write_manifest
from carnelian.decoding.alignment import forced_align
from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.words import Words
from carnelian.inference.recognizer import Recognizer
from carnelian.recipe import Recipe, load_recipe
from carnelian.scoring.report.tables import score_texts
from carnelian.training.tasks.acoustic import train_acoustic

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEST = range(5)
RECIPE = "fsdd/digits"
COUNTS = (20, 100, 500)
MARGIN = 0.2  # seconds that a word cut out of a sentence keeps before its first symbol and after its last, if no other word is there
SPOKEN = 80  # recordings of each digit by each program that speaks


#: changes of the recipe for trainings with the digits of other people, chosen on a training speaker held out
WITH_DIGITS = (
    "augment.telephone={}",
    "augment.speed={low=0.75,high=1.3}",
    "masks.vocal_tract={low=0.85,high=1.15}",
    "masks.spec_augment={frequency_masks=2,frequency_width=15,time_masks=2,time_width=8}",
)


def read_recordings(fsdd: Path, speakers: Sequence[str]) -> Iterator[tuple[Utterance, int]]:
    """Yields each recording of the speakers (of all, if none are named) with its number."""
    for path in sorted((fsdd / "recordings").glob("*.wav")):
        digit, speaker, number = path.stem.split("_")
        if speakers and speaker not in speakers:
            continue
        yield (
            Utterance(str(path), audio_info(path).duration, DIGITS[int(digit)], more={"speaker": speaker}),
            int(number),
        )


def prepare(fsdd: Path, out: Path, left_out: str, speakers: Sequence[str]) -> dict[str, Path]:
    """Manifests: `test`, and nested training lists of 20, 100 and 500 other recordings."""
    training: list[Utterance] = []
    test: list[Utterance] = []
    for utterance, number in read_recordings(fsdd, speakers):
        held_out = utterance.more["speaker"] == left_out if left_out else number in TEST
        (test if held_out else training).append(utterance)
    order = np.random.default_rng(0).permutation(len(training))
    lists = {str(count): [training[index] for index in order[:count]] for count in COUNTS}
    lists["test"] = test
    paths = {name: out / f"{name}.jsonl" for name in lists}
    for name, subset in lists.items():
        write_manifest(paths[name], subset)
    return paths


def cut_digits(checkpoint: Path, utterances: Iterable[Utterance]) -> Iterator[Utterance]:
    """Yields the digits in recordings of sentences as utterances of their own, found by forced alignment with the checkpoint."""
    recognizer = Recognizer.load(checkpoint)
    words = Words(recognizer.alphabet)
    for utterance in utterances:
        texts = utterance.text.split()
        if not set(texts) & set(DIGITS):
            continue
        emissions = recognizer.emissions([load_audio(utterance, recognizer.sample_rate)])[0]
        symbols = np.array(recognizer.alphabet.encode(utterance.text), np.int64)
        spans = words.spans(symbols, *forced_align(emissions.log_probs, symbols))
        seconds = emissions.seconds_per_step
        ends = [0.0, *((span.last + 1) * seconds for span in spans)]
        begins = [*(span.first * seconds for span in spans), utterance.duration]
        for index, text in enumerate(texts):
            if text in DIGITS:
                begin = max((ends[index] + begins[index]) / 2, begins[index] - MARGIN)
                end = min((ends[index + 1] + begins[index + 1]) / 2, ends[index + 1] + MARGIN)
                yield Utterance(
                    utterance.audio_filepath, end - begin, text, utterance.offset + begin, {**utterance.more}
                )


def prepare_digits(checkpoint: Path, manifest: Path, out: Path, synthetic: bool) -> list[Path]:
    """Manifests of digits spoken by other people, and by programs."""
    path = out / "cut.jsonl"
    if not path.exists():
        write_manifest(path, list(cut_digits(checkpoint, read_manifest(manifest))))
    paths = [path]
    for engine, voices in (("espeak-ng", ()), ("flite", ("awb", "rms", "slt"))) if synthetic else ():
        name = f"digits-{engine}"
        paths.append(out / engine / f"{name}.jsonl")
        if not paths[-1].exists():
            style = SpeechStyle(engine=engine, voices=voices, speed=(0.7, 1.3), pitch=(0.85, 1.2))
            speak_texts(out / engine, name, DIGITS, style, per_text=SPOKEN)
    return paths


def recipe_for(manifests: list[Path], earlier: Recipe, settings: argparse.Namespace, pretrained: bool) -> Recipe:
    """The recipe of one training; the first manifest has half of each batch where there are several."""
    others = len(manifests) - 1
    changes = WITH_DIGITS if others else ()
    recipe = load_recipe(RECIPE, [f"train.steps={settings.steps}", *changes, *settings.set])
    recipe |= {key: earlier[key] for key in ("features", "encoder")}
    recipe["train"]["manifests"] = [str(path) for path in manifests]
    if others:
        recipe["train"]["mix"] = [0.5] + [0.5 / others] * others
    if pretrained:
        recipe["initialize"] = {"checkpoint": str(settings.checkpoint)}
    return recipe


def measure(model: Path, test: list[Utterance], *, closed: bool = False) -> tuple[str, str]:
    """Returns the WER in percent and its interval; `closed`: of a search that finds the ten words alone."""
    recognizer = Recognizer.load(model)
    if closed:
        recognizer.decoder = BeamSearch(recognizer.alphabet, lexicon=DIGITS)
    recognized = sorted(recognizer.recognize(test), key=lambda each: each.index)
    report = score_texts([utterance.text for utterance in test], [each.transcript.text for each in recognized])
    return (
        f"{100 * report.words.rate:.1f}",
        f"{100 * report.interval.low:.1f} - {100 * report.interval.high:.1f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("fsdd", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/fsdd"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--leave-out", nargs="+", default=[""], metavar="SPEAKER")
    parser.add_argument("--speakers", nargs="+", default=[], metavar="SPEAKER", help="use only the recordings of these")
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS)
    parser.add_argument("--digits", type=Path, metavar="MANIFEST")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--pretrained-only", action="store_true", help="no training from nothing")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    settings = parser.parse_args()
    earlier = load_checkpoint(settings.checkpoint).recipe
    digits = []
    if settings.digits:
        digits = prepare_digits(settings.checkpoint, settings.digits, settings.out / "digits", settings.synthetic)
    rows = []
    for speaker in settings.leave_out:
        out = settings.out / (speaker or "makers")
        manifests = prepare(settings.fsdd, out, speaker, settings.speakers)
        test = list(Manifest(manifests["test"]))
        for count in settings.counts:
            for name, pretrained in (("AN4", True), ("nothing", False))[: 1 if settings.pretrained_only else 2]:
                recipe = recipe_for([manifests[str(count)], *digits], earlier, settings, pretrained)
                began = time.perf_counter()
                model = train_acoustic(recipe, out / f"{name}-{count}")
                minutes = (time.perf_counter() - began) / 60
                closed = measure(model, test, closed=True)[0]
                rows.append((speaker or "makers'", str(count), name, *measure(model, test), closed, f"{minutes:.1f}"))
                print(json.dumps(rows[-1]), flush=True)
    table(
        "Digits at 8 kHz",
        ("test", "utterances", "started from", "WER %", "95 %", "only the ten words", "minutes"),
        rows,
    )


if __name__ == "__main__":
    main()
