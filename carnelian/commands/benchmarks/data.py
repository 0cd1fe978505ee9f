"""How fast recordings become batches: `carnelian benchmark data`."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from carnelian.benchmarking.results import BenchmarkRun
from carnelian.commands.benchmarks.measurement import BenchmarkOptions, Contender, measure_in_turns, run_benchmark
from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.data.audio import load_audio, resample
from carnelian.data.recording import encode_audio
from carnelian.data.utterance import Manifest, Utterance, write_manifest
from carnelian.errors import CarnelianError

RATE = 16_000
MADE_FORMATS = (("wav", RATE), ("flac", RATE), ("ogg", RATE), ("mp3", RATE), ("flac", 48_000))
TIMED_AUGMENTATIONS: dict[str, dict[str, str]] = {
    "gain": {},
    "white_noise": {},
    "noise": {},
    "impulse": {},
    "shift": {},
    "telephone": {},
}
BATCH = 16
#: all symbols of any text: what is timed is audio
ALPHABET = Alphabet(ENGLISH)


def benchmark_data(
    manifest: Annotated[
        Path | None, "recordings to read; without it, noise is written as WAV, FLAC, OGG and MP3"
    ] = None,
    *,
    seconds: Annotated[float, "seconds of audio that each stage works on"] = 600.0,
    options: BenchmarkOptions = BenchmarkOptions(),  # noqa: B008
) -> None:
    """Time each stage from a file to a batch on one core: seconds of audio a second, with all files in the memory's cache.

    Example: carnelian benchmark data data/an4/train.jsonl --seconds 300
    """
    if seconds <= 0:
        raise CarnelianError(f"--seconds {seconds:g}: expected seconds above 0")

    def measure() -> BenchmarkRun:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            if manifest:
                corpora = {"decode": first_seconds(manifest, folder, seconds)}
            else:
                corpora = {
                    f"decode {kind} at {rate} Hz": made_corpus(folder, kind, rate, seconds)
                    for kind, rate in MADE_FORMATS
                }
            stages: list[tuple[str, Manifest, Callable[[], object]]]
            stages = [(name, corpus, partial(read_all, corpus)) for name, corpus in corpora.items()]
            corpus = next(iter(corpora.values()))
            stages += [(name, corpus, call) for name, call in stages_of(corpus, folder)]
            contenders = [
                Contender({"stage": name}, call, {"audio_seconds": float(given.durations.sum())})
                for name, given, call in stages
            ]
            return measure_in_turns("data", contenders, options)

    run_benchmark(options, measure, clock="processor")


def made_corpus(folder: Path, kind: str, rate: int, seconds: float) -> Manifest:
    """Returns a manifest of speech-like noise (falling spectrum, syllables) of 5 to 15 s in a format."""
    rng, total = np.random.default_rng(0), 0.0
    utterances: list[Utterance] = []
    while total < seconds:
        samples = int(rng.uniform(5, 15) * rate)
        audio = np.cumsum(rng.standard_normal(samples)) / 50
        audio -= np.convolve(audio, np.ones(200) / 200, "same")
        audio *= np.abs(np.sin(np.arange(samples) * 4 * np.pi / rate))
        path = folder / f"{len(utterances)}-{rate}.{kind}"
        path.write_bytes(encode_audio(0.3 * audio / np.abs(audio).max(), rate, kind))
        utterances.append(Utterance(str(path), samples / rate, "some words that were not said"))
        total += samples / rate
    path = folder / f"{kind}.{rate}.jsonl"
    write_manifest(path, utterances)
    return Manifest(path)


def first_seconds(manifest: Path, folder: Path, seconds: float) -> Manifest:
    """Returns the first utterances of a manifest, enough to make up the given seconds."""
    given = Manifest(manifest)
    count = min(int(np.searchsorted(np.cumsum(given.durations), seconds)) + 1, len(given))
    write_manifest(folder / "given.jsonl", (given[index] for index in range(count)))
    return Manifest(folder / "given.jsonl")


def read_all(manifest: Manifest) -> None:
    """Decodes all recordings, and resamples those that need it."""
    for utterance in manifest:
        load_audio(utterance, RATE)


def stages_of(manifest: Manifest, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yields the stages after decoding with their names: resampling, each augmentation, padding, and all of them together."""
    from carnelian.commands.shard import write_shards
    from carnelian.data.augment import at_speed, chain

    utterances = list(manifest)
    audio = [load_audio(utterance, RATE) for utterance in utterances]
    for rate in (8000, 44100, 48000):
        given = [resample(waveform, RATE, rate) for waveform in audio]
        yield f"resample {rate} Hz to {RATE} Hz", partial(resample_all, given, rate)
    faster: Any = lambda waveform, rng: at_speed(waveform, 1.07)  # noqa: E731
    yield "augment: speed", partial(augment_all, faster, audio)
    settings = TIMED_AUGMENTATIONS | {
        "noise": {"manifest": manifest.paths[0]},
        "impulse": {"manifest": str(made_room(folder))},
    }
    for name, keys in settings.items():
        augment = chain({name: keys}, RATE)
        yield f"augment: {name}", partial(augment_all, augment, audio)
    parts = [range(first, min(first + BATCH, len(audio))) for first in range(0, len(audio), BATCH)]
    batches = [([utterances[index] for index in part], [audio[index] for index in part]) for part in parts]
    yield "collate", partial(collate_all, batches)
    yield "all: decode, speed, gain, noise, batch", lambda: load_all(manifest)
    write_manifest(
        folder / "shards" / "manifest.jsonl", list(write_shards(manifest, folder / "shards", min(4, len(manifest)), 0))
    )
    packed = Manifest(folder / "shards" / "manifest.jsonl")
    yield "all, from shards", lambda: load_all(packed)


def made_room(folder: Path) -> Path:
    """Returns a manifest of one impulse response of half a second, which falls by 60 dB."""
    decay = np.exp(-np.arange(RATE // 2) * 13.8 / RATE)
    (folder / "room.wav").write_bytes(
        encode_audio(0.3 * decay * np.random.default_rng(0).standard_normal(len(decay)), RATE, "wav")
    )
    write_manifest(folder / "room.jsonl", [Utterance(str(folder / "room.wav"), 0.5)])
    return folder / "room.jsonl"


def resample_all(audio: list[np.ndarray], rate: int) -> None:
    """Resamples waveforms of one rate to that of models."""
    for waveform in audio:
        resample(waveform, rate, RATE)


def augment_all(augment: Any, audio: list[np.ndarray]) -> None:
    """Augments waveforms."""
    rng = np.random.default_rng(0)
    for waveform in audio:
        augment(waveform, rng)


def collate_all(batches: list[tuple[list[Utterance], list[np.ndarray]]]) -> None:
    """Pads the waveforms of each batch to one length."""
    from carnelian.data.batch import collate

    for utterances, audio in batches:
        collate(utterances, audio, ALPHABET)


def load_all(manifest: Any) -> None:
    """Makes the batches of an epoch, augmented, in this process."""
    from carnelian.data.augment import chain
    from carnelian.data.batch import load_batches, plan_batches

    augment: Any = chain({"speed": {}, "gain": {}, "white_noise": {}}, RATE)
    speeds = augment.speeds(len(manifest), np.random.default_rng(0))
    plan = plan_batches(manifest.durations / speeds, batch_size=BATCH, shards=manifest.shards)
    for _ in load_batches(
        manifest, plan, alphabet=ALPHABET, sample_rate=RATE, augment=augment, speeds=speeds, workers=0
    ):
        pass
