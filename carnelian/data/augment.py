"""Augmentations: functions (audio, rng) -> audio, made by factories whose keyword arguments are a recipe's keys; and speeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from carnelian.data.audio import load_audio, resample
from carnelian.data.utterance import Manifest
from carnelian.errors import RecipeError
from carnelian.ranges import Fraction, between
from carnelian.recipe import as_table, check_keys, did_you_mean, settings_of

SpeedFactor = Annotated[float, between(0.25, 4)]
Decibels = Annotated[float, between(-200, 200)]
Seconds = Annotated[float, between(-10, 10)]
Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]
Speeds = Callable[[int, np.random.Generator], np.ndarray]


def speed(
    low: SpeedFactor = 0.9,
    high: SpeedFactor = 1.1,
    factors: Sequence[SpeedFactor] = (),
    probability: Fraction = 1.0,
) -> Speeds:
    """Returns a function that draws the speed of each utterance: one of `factors`, or any between low and high (Ko et al., 2015).

    Drawn for a whole epoch before it is divided into batches, so that a batch holds utterances of similar length after the change.
    """

    def draw(count: int, rng: np.random.Generator) -> np.ndarray:
        drawn = rng.choice(factors, count) if len(factors) else rng.uniform(low, high, count)
        return np.where(rng.random(count) < probability, drawn, 1.0)

    return draw


def at_speed(audio: np.ndarray, factor: float) -> np.ndarray:
    """Played faster or slower, pitch and all."""
    return audio if factor == 1 else resample(audio, float(factor), 1.0, quality="MQ")


def gain(low: Decibels = -10.0, high: Decibels = 10.0, probability: Fraction = 1.0) -> Augmentation:
    """Louder or softer by low to high decibels."""

    def apply(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return audio * np.float32(10 ** (rng.uniform(low, high) / 20))

    return sometimes(probability, apply)


def white_noise(low: Decibels = -90.0, high: Decibels = -46.0, probability: Fraction = 1.0) -> Augmentation:
    """Adds white noise of low to high decibels below full scale."""

    def apply(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        level = np.float32(10 ** (rng.uniform(low, high) / 20))
        return audio + level * rng.standard_normal(len(audio), dtype=np.float32)

    return sometimes(probability, apply)


def noise(
    manifest: str, low: Decibels = 0.0, high: Decibels = 30.0, probability: Fraction = 1.0, sample_rate: int = 16000
) -> Augmentation:
    """Adds a recording from a manifest of noises, at a signal-to-noise ratio of low to high decibels.

    A longer noise is cut at a random place, a shorter one repeated.
    """
    noises = recordings(manifest)

    def apply(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        chosen = noises[int(rng.integers(len(noises)))]
        seconds = min(chosen.duration, len(audio) / sample_rate)
        offset = chosen.offset + rng.uniform(0, chosen.duration - seconds)
        added = np.resize(load_audio(replace(chosen, offset=offset, duration=seconds), sample_rate), len(audio))
        ratio = 10 ** (rng.uniform(low, high) / 10)
        power, added_power = np.mean(audio**2), np.mean(added**2)
        return audio + added * np.float32(np.sqrt(power / (ratio * added_power))) if added_power > 0 else audio

    return sometimes(probability, apply)


def impulse(manifest: str, probability: Fraction = 1.0, sample_rate: int = 16000) -> Augmentation:
    """Puts the speech into a room: convolves with an impulse response from a manifest of them.

    The response is moved so that its peak comes at once and scaled so that loudness stays.
    """
    responses = recordings(manifest)

    def apply(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        chosen = responses[int(rng.integers(len(responses)))]
        one = replace(chosen, more={"channel": 0} | chosen.more)  # the channels of a room are not alike: no average
        response = load_audio(one, sample_rate)
        return reverberate(audio, response[np.abs(response).argmax() :])

    return sometimes(probability, apply)


def reverberate(audio: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Returns the audio (S,) convolved with a room's response, cut to its length and as loud as before."""
    size = len(audio) + len(response) - 1
    unit = 1 << max(0, size.bit_length() - 4)  # rounded up to a number of small factors, which transforms fast
    size = -(-size // unit) * unit
    wet = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(response, size), size)[: len(audio)]
    power = np.mean(wet**2)
    return (wet * np.sqrt(np.mean(audio**2) / power) if power > 0 else audio).astype(np.float32)


def shift(
    low: Seconds = -0.005, high: Seconds = 0.005, probability: Fraction = 1.0, sample_rate: int = 16000
) -> Augmentation:
    """Moves the speech by low to high seconds inside its stretch; what is laid bare is silence."""

    def apply(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        samples = int(np.clip(round(rng.uniform(low, high) * sample_rate), -len(audio), len(audio)))
        silence = np.zeros(abs(samples), np.float32)
        return np.concatenate([silence, audio[:-samples]] if samples > 0 else [audio[-samples:], silence])

    return sometimes(probability, apply)


def telephone(probability: Fraction = 1.0, sample_rate: int = 16000) -> Augmentation:
    """Sends the speech through a telephone line: 8 kHz, and mu-law in 8 bits (ITU-T G.711's curve)."""

    def apply(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        narrow = np.clip(resample(audio, sample_rate, 8000, quality="MQ"), -1, 1)
        companded = np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.float32(np.log(256))
        companded = np.round(companded * 127) / np.float32(127)
        narrow = np.sign(companded) * np.expm1(np.abs(companded) * np.float32(np.log(256))) / 255
        wide = resample(narrow.astype(np.float32), 8000, sample_rate, quality="MQ")[: len(audio)]
        return np.pad(wide, (0, len(audio) - len(wide)))

    return sometimes(probability, apply)


AUGMENTATIONS: dict[str, Callable[..., Any]] = {
    "speed": speed,
    "gain": gain,
    "white_noise": white_noise,
    "noise": noise,
    "impulse": impulse,
    "shift": shift,
    "telephone": telephone,
}


def recordings(manifest: str) -> Manifest:
    """The recordings of a manifest, which must list some."""
    listed = Manifest(manifest)
    if not len(listed):
        raise RecipeError(
            f'{manifest}: an empty manifest. Give one that lists recordings; "carnelian prepare" writes it'
        )
    return listed


def sometimes(probability: float, apply: Augmentation) -> Augmentation:
    """The augmentation for a share of the utterances, and nothing for the others."""
    return lambda audio, rng: apply(audio, rng) if rng.random() < probability else audio


@dataclass(frozen=True)
class Chain:
    """Augmentations one after the other, and the speeds at which what they get is to be played (None: as recorded)."""

    steps: tuple[Augmentation, ...]
    speeds: Speeds | None

    def __call__(self, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for step in self.steps:
            audio = step(audio, rng)
        return audio


def chain(augmentations: Any, sample_rate: int = 16000) -> Chain:
    """Returns the augmentations of a recipe's tables, in their order: `{"speed": {"low": 0.9}, "gain": {}}`. Raises RecipeError."""
    made: dict[str, Any] = {}
    for name, table in as_table(augmentations, where="augment").items():
        if name not in AUGMENTATIONS:
            raise RecipeError(f"[augment.{name}]: no such augmentation.{did_you_mean(name, AUGMENTATIONS)}")
        where = f"augment.{name}"
        settings = as_table(table, where=where)
        known = {key: parameter.default for key, (_, parameter) in settings_of(AUGMENTATIONS[name]).items()}
        check_keys(AUGMENTATIONS[name], settings, where=where, given=["sample_rate"])
        values = known | settings
        if "low" in values and values["low"] > values["high"]:
            raise RecipeError(f"[{where}] low = {values['low']}, high = {values['high']}: give the lower first")
        given = {"sample_rate": sample_rate} if "sample_rate" in known else {}
        made[name] = AUGMENTATIONS[name](**given, **settings)
    speeds = made.pop("speed", None)
    return Chain(tuple(made.values()), speeds)
