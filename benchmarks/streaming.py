"""What waiting buys in live recognition: a table over right context, the audio that a model sees ahead of each step.

    carnelian prepare an4 PATH/TO/an4 data/an4 --hold-out 4
    python benchmarks/streaming.py benchmarks/streaming.toml runs/streaming data/an4/test.jsonl

Models that are not in the folder yet are trained: first the recipe, whose steps see 2.6 s ahead; then one for each right
context (0.16, 0.32, 0.64, 1.3, 2.6 s), with `[encoder] lookahead`, beginning with the first one, and the same settings for
each. Each recording of the manifest then comes in chunks of 20 ms, with half a second of silence before and four after it.
The columns:

- right context: the audio that a step sees ahead.
- WER offline, and live: of the final results of all endpoints.
- equal: share of the recordings whose live text without endpoints is the offline text.
- first partial: from the first loud frame (less than 30 dB below the loudest) to the first result with a word, audio and computing.
- unstable words: words of a partial result that the next result has no more, or changed, for each word of the final results; and the
  same of the stable words.
- final: from the last loud frame to the final result. false ends: utterances that ended before their last loud frame.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from carnelian.checkpoint import load_model
from carnelian.console import table, track
from carnelian.data.audio import load_audio
from carnelian.data.utterance import Manifest
from carnelian.decoding.settings import DecodingConfig
from carnelian.formats.catalog import find_checkpoint
from carnelian.inference.endpointing import EndpointSettings, frame_levels
from carnelian.inference.processor import machine_facts
from carnelian.inference.recognizer import Recognizer
from carnelian.scoring.wer import Errors, count_errors

CONTEXTS = (0.16, 0.32, 0.64, 1.3, 2.6)
CHUNK, BEFORE, AFTER = 0.02, 0.5, 4.0  # seconds
LOUD = 30.0  # decibels below the loudest frame
COLUMNS = (
    "right context s",
    "WER % offline",
    "live",
    "equal %",
    "first partial s (90 %)",
    "unstable words",
    "stable ones",
    "final s (90 %)",
    "false ends",
    "real-time factor",
)


@dataclass
class Figures:
    """What was measured of one model; times in seconds, from the sound to the result."""

    references: list[str] = field(default_factory=list)
    offline: list[str] = field(default_factory=list)
    live: list[str] = field(default_factory=list)
    equal: int = 0
    first: list[float] = field(default_factory=list)
    final: list[float] = field(default_factory=list)
    revised: int = 0
    revised_stable: int = 0
    words: int = 0
    false_ends: int = 0
    computing: float = 0.0
    seconds: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--limit", type=int, default=0, help="recordings, from the beginning of the manifest; 0: all")
    parser.add_argument("--language-model", default="")
    parser.add_argument("--update-seconds", type=float, default=0.32)
    parser.add_argument("--context", type=float, nargs="*", default=CONTEXTS, help="right contexts in seconds")
    changes = ["train.epochs=3", "train.validate_every=288", "schedule.peak=0.004", "schedule.warmup=30"]
    parser.add_argument("--set", nargs="*", default=changes, help="changes to the recipe, of each right context")
    given = parser.parse_args()
    rows = []
    for context in given.context:
        recognizer = Recognizer.load(
            trained(given.recipe, given.folder, context, given.set), decoding=DecodingConfig(given.language_model)
        )
        found = measure(recognizer, given.manifest, given.limit, given.update_seconds)
        rows.append(row_of(recognizer, found))
    table("live recognition", COLUMNS, rows)
    print(f"{machine_facts()}; {len(found.references)} recordings, {found.words} words")


def trained(recipe: Path, folder: Path, context: float, changes: Sequence[str]) -> Path:
    """The run of the model with a right context, trained where it is not there yet; it begins with the weights of the whole model."""
    whole = train(recipe, folder / "whole", [])
    steps = round(context / load_model(find_checkpoint(whole))[0].seconds_per_step)
    changes = [f"encoder.lookahead={steps}", f'initialize.checkpoint="{whole}"', *changes]
    return train(recipe, folder / f"lookahead-{steps}", changes)


def train(recipe: Path, run: Path, changes: Sequence[str]) -> Path:
    """Trains a recipe with changes, unless its run is there already."""
    if not run.exists():
        words = [sys.executable, "-m", "carnelian", "train", str(recipe), "--out", str(run)]
        subprocess.run([*words, *(word for change in changes for word in ("--set", change))], check=True)
    return run


def measure(recognizer: Recognizer, manifest: Path, limit: int, update_seconds: float) -> Figures:
    """Feeds each recording as it would come from a microphone."""
    found, rate, random = Figures(), recognizer.sample_rate, np.random.default_rng(0)
    utterances = list(Manifest(manifest))[: limit or None]
    for utterance in track(utterances, "recordings", len(utterances)):
        speech = load_audio(utterance, rate)
        silences = [1e-4 * random.standard_normal(round(each * rate)) for each in (BEFORE, AFTER)]
        audio = np.concatenate([silences[0], speech, silences[1]]).astype(np.float32)
        levels = frame_levels(audio, round(CHUNK * rate))
        loud = np.flatnonzero(levels > levels.max() - LOUD)
        offline = recognizer(audio).text
        whole = recognizer.stream(endpoints=EndpointSettings(rules=()))
        texts = [result.text for result in [*whole.accept(audio), *whole.finish()] if result.final]
        found.equal += " ".join(texts) == offline
        found.references.append(utterance.text)
        found.offline.append(offline)
        follow(found, recognizer.stream(update_seconds=update_seconds), audio, loud[0] * CHUNK, (loud[-1] + 1) * CHUNK)
        found.seconds += len(audio) / rate
    return found


def follow(found: Figures, stream, audio: np.ndarray, begin: float, end: float) -> None:
    """Feeds a recording whose sound begins and ends at some seconds chunk by chunk, and adds what its results show."""
    size = round(CHUNK * stream.given_rate)
    texts: list[str] = []
    before: list[str] = []
    stable: list[str] = []
    first = last = None
    for start in range(0, len(audio), size):
        clock = time.perf_counter()
        results = stream.accept(audio[start : start + size])
        took = time.perf_counter() - clock
        found.computing += took
        now = (start + size) / stream.given_rate + took
        for result in results:
            words, sure = result.text.split(), result.stable.split()
            found.revised += lost(before, words)
            found.revised_stable += lost(stable, words)
            before, stable = ([], []) if result.final else (words, sure)
            first = now if first is None and words else first
            if result.final:
                texts.append(result.text)
                last = now
                found.false_ends += now < end
    texts += [result.text for result in stream.finish() if result.final]
    found.live.append(" ".join(texts))
    found.words += len(found.live[-1].split())
    found.first += [first - begin] if first is not None else []
    found.final += [last - end] if last is not None and last > end else []


def lost(before: list[str], after: list[str]) -> int:
    """How many of the words before do not stand in the same place after."""
    return sum(index >= len(after) or word != after[index] for index, word in enumerate(before))


def row_of(recognizer: Recognizer, found: Figures) -> list[str]:
    """A model's row of the table."""
    encoder = recognizer.engine.model.encoder
    context = recognizer.engine.seconds_per_step * encoder.frames_ahead / encoder.stride
    offline, live = (
        sum(map(count_errors, found.references, each), Errors()).rate for each in (found.offline, found.live)
    )
    first, final = (f"{np.median(each):.2f} ({np.quantile(each, 0.9):.2f})" for each in (found.first, found.final))
    return [
        f"{context:.2f}",
        f"{100 * offline:.1f}",
        f"{100 * live:.1f}",
        f"{100 * found.equal / len(found.references):.0f}",
        first,
        f"{found.revised / max(1, found.words):.3f}",
        f"{found.revised_stable / max(1, found.words):.3f}",
        final,
        str(found.false_ends),
        f"{found.computing / found.seconds:.3f}",
    ]


if __name__ == "__main__":
    main()
