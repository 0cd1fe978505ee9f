"""Seconds of audio per second of one core, for each stage between the disk and the model.

    python benchmarks/data_loading.py [MANIFEST] [--seconds 600] [--repeats 5]

Without a manifest, speech-like noise of 5 to 15 s is written as WAV, FLAC, OGG and MP3 at several rates. With one, its first
`--seconds` are taken. Times are processor time, the lowest of the repeats, with everything in the page cache; "whole" is
`load_batches` with speed perturbation, gain and noise, by wall clock with two workers and by processor time.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from carnelian.commands.shard import write_shards
from carnelian.console import table
from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.data.audio import load_audio, resample
from carnelian.data.augment import Augmentation, at_speed, chain
from carnelian.data.batch import collate, load_batches, plan_batches
from carnelian.data.utterance import Manifest, Utterance, write_manifest

RATE = 16000
ALPHABET = Alphabet(ENGLISH)


def made_corpus(folder: Path, name: str, rate: int, seconds: float, **how: str) -> Manifest:
    """A manifest of speech-like noise (falling spectrum, syllables) in a format."""
    rng, utterances, total = np.random.default_rng(0), [], 0.0
    while total < seconds:
        samples = int(rng.uniform(5, 15) * rate)
        audio = np.cumsum(rng.standard_normal(samples)) / 50
        audio -= np.convolve(audio, np.ones(200) / 200, "same")
        audio *= np.abs(np.sin(np.arange(samples) * 4 * np.pi / rate))
        path = folder / f"{len(utterances)}-{rate}-{name}"
        soundfile.write(path, 0.3 * audio / np.abs(audio).max(), rate, **how)
        utterances.append(Utterance(str(path), samples / rate, "some words that were not said"))
        total += samples / rate
    write_manifest(folder / f"{name}.{rate}.jsonl", utterances)
    return Manifest(folder / f"{name}.{rate}.jsonl")


def lowest(function: Callable[[], object], repeats: int, clock: Callable[[], float] = time.process_time) -> float:
    """The least time of several runs."""
    times = []
    for _ in range(repeats):
        begun = clock()
        function()
        times.append(clock() - begun)
    return min(times)


def stages(manifest: Manifest, folder: Path, repeats: int) -> list[tuple[str, str]]:
    """(stage, seconds of audio per second of one core)."""
    audio = [load_audio(utterance, RATE) for utterance in manifest]
    seconds = sum(map(len, audio)) / RATE
    one, room = str(next(folder.glob("*.jsonl"))), folder / "room.wav"
    decay = np.exp(-np.arange(RATE // 2) * 13.8 / RATE)  # 60 dB in half a second
    soundfile.write(room, 0.3 * decay * np.random.default_rng(0).standard_normal(len(decay)), RATE)
    write_manifest(folder / "room.jsonl", [Utterance(str(room), 0.5)])

    def rate_of(function: Callable[[], object], clock: Callable[[], float] = time.process_time) -> str:
        return f"{seconds / lowest(function, repeats, clock):,.0f}"

    def augmented(augment: Augmentation) -> str:
        rng = np.random.default_rng(0)
        return rate_of(lambda: [augment(waveform, rng) for waveform in audio])

    rows = [
        (
            f"resample {rate} Hz to {RATE} Hz",
            rate_of(lambda given=given, rate=rate: [resample(x, rate, RATE) for x in given]),
        )
        for rate in (8000, 44100, 48000)
        for given in [[resample(waveform, RATE, rate) for waveform in audio]]
    ]
    rows.append(("augment: speed", rate_of(lambda: [at_speed(waveform, 1.07) for waveform in audio])))
    for name, settings in {
        "gain": {},
        "white_noise": {},
        "noise": {"manifest": one},
        "impulse": {"manifest": str(folder / "room.jsonl")},
        "shift": {},
        "telephone": {},
    }.items():
        rows.append((f"augment: {name}", augmented(chain({name: settings}, RATE))))
    utterances = list(manifest)
    parts = [range(first, min(first + 16, len(audio))) for first in range(0, len(audio), 16)]
    rows.append(
        (
            "collate in 16s",
            rate_of(lambda: [collate([utterances[i] for i in p], [audio[i] for i in p], ALPHABET) for p in parts]),
        )
    )
    return rows


def whole(manifest: Manifest, repeats: int) -> list[tuple[str, str]]:
    """(way, seconds of audio per second) of finished batches."""
    augment = chain({"speed": {}, "gain": {}, "white_noise": {}}, RATE)
    speeds = augment.speeds(len(manifest), np.random.default_rng(0)) if augment.speeds else np.ones(len(manifest))
    plan = plan_batches(manifest.durations / speeds, batch_size=16, shards=manifest.shards)
    seconds = float(manifest.durations.sum())

    def load(workers: int) -> None:
        how = {"augment": augment, "speeds": speeds, "workers": workers}
        for _ in load_batches(manifest, plan, alphabet=ALPHABET, sample_rate=RATE, **how):
            pass

    return [
        ("per second of one core", f"{seconds / lowest(lambda: load(0), repeats):,.0f}"),
        ("per second, two workers", f"{seconds / lowest(lambda: load(2), repeats, time.perf_counter):,.0f}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", nargs="?")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if options.manifest:
            given = Manifest(options.manifest)
            enough = int(np.searchsorted(np.cumsum(given.durations), options.seconds)) + 1
            write_manifest(folder / "given.jsonl", (given[index] for index in range(min(enough, len(given)))))
            corpora = {"as given": Manifest(folder / "given.jsonl")}
        else:
            corpora = {
                f"{name} at {rate} Hz": made_corpus(folder, f"x.{name}", rate, options.seconds)
                for name, rate in (("wav", 16000), ("flac", 16000), ("ogg", 16000), ("mp3", 16000), ("flac", 48000))
            }
        rows = []
        for name, manifest in corpora.items():
            seconds = float(manifest.durations.sum())
            rows.append(
                (
                    f"decode (and resample) {name}",
                    f"{seconds / lowest(lambda m=manifest: read(m), options.repeats):,.0f}",
                )
            )
        first = next(iter(corpora.values()))
        rows += stages(first, folder, options.repeats)
        table("seconds of audio per second of one core", ("stage", "audio s / s"), rows)
        packed = list(write_shards(first, folder / "shards", 4, 0))
        write_manifest(folder / "shards" / "manifest.jsonl", packed)
        rows = [(f"files: {name}", value) for name, value in whole(first, options.repeats)]
        rows += [
            (f"shards: {name}", value)
            for name, value in whole(Manifest(folder / "shards" / "manifest.jsonl"), options.repeats)
        ]
        table("whole: decode, speed, gain, noise, batch", ("way", "audio s / s"), rows)


def read(manifest: Manifest) -> None:
    for utterance in manifest:
        load_audio(utterance, RATE)


if __name__ == "__main__":
    main()
