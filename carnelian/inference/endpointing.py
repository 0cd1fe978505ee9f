"""When an utterance of live speech has ended: Kaldi's five rules (online2/online-endpoint.h), with their defaults."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class EndpointRule:
    """An utterance ends where all of this holds; times in seconds.

    must_contain_speech: it has a symbol other than blanks and spaces. silence: it ends with at least so much. max_relative_cost:
    what ending here costs more than the best that may follow, in natural logarithms. min_utterance: it is at least so long.
    """

    must_contain_speech: bool
    silence: float
    max_relative_cost: float
    min_utterance: float

    def holds(self, spoken: bool, silence: float, relative_cost: float, seconds: float) -> bool:
        """Whether an utterance so far ends by this rule."""
        return (
            (spoken or not self.must_contain_speech)
            and silence >= self.silence
            and relative_cost <= self.max_relative_cost
            and seconds >= self.min_utterance
        )


#: 5 s of silence without speech; 0.5, 1 and 2 s after it; 20 s
KALDI_RULES = (
    EndpointRule(False, 5.0, math.inf, 0.0),
    EndpointRule(True, 0.5, 2.0, 0.0),
    EndpointRule(True, 1.0, 8.0, 0.0),
    EndpointRule(True, 2.0, math.inf, 0.0),
    EndpointRule(False, 0.0, math.inf, 20.0),
)


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """The rules of which any ends an utterance (none: only the end of the audio does), and what counts as silence.

    A step is silent where its most probable symbol is the blank or a space. Where the audio is not quieter than `margin` decibels
    above the noise floor, it counts by `loud_weight` only: between the symbols of a long vowel there are blanks too.
    """

    rules: tuple[EndpointRule, ...] = KALDI_RULES
    margin: float = 10.0
    loud_weight: float = 0.5


#: decibels a second by which the noise floor rises where the audio is louder
FLOOR_RISE = 1.0
QUIETEST = -90.0  # decibels


class NoiseFloor:
    """The level of the background of a stream of audio, in decibels: it falls at once, and rises slowly where the audio is louder."""

    def __init__(self) -> None:
        self.level = math.inf

    def follow(self, level: float, seconds: float) -> float:
        """Takes the level of the next seconds of the stream; returns that of the background."""
        return float(self.follow_all(np.array([level]), seconds)[0])

    def follow_all(self, levels: np.ndarray, seconds: float) -> np.ndarray:
        """As `follow` of each of the next levels (N,), each measured over `seconds`."""
        risen = FLOOR_RISE * seconds * np.arange(1, len(levels) + 1)
        floors = np.minimum(np.minimum.accumulate(levels - risen), self.level) + risen
        self.level = float(floors[-1])
        return floors


def frame_levels(audio: np.ndarray, frame: int, quietest: float = QUIETEST) -> np.ndarray:
    """The level of each whole frame of that many samples of a waveform (S,), in decibels."""
    frames = audio[: len(audio) // frame * frame].reshape(-1, frame)
    return 10 * np.log10(np.maximum(np.square(frames, dtype=np.float64).mean(1), 10 ** (quietest / 10)))


class Endpointer:
    """Follows one utterance after another, step by step."""

    def __init__(self, settings: EndpointSettings, seconds_per_step: float):
        self.settings, self.seconds_per_step = settings, seconds_per_step
        self.floor = NoiseFloor()  # goes on from utterance to utterance
        self.restart()

    def restart(self) -> None:
        """Begins the next utterance."""
        self.steps, self.silence, self.spoken = 0, 0.0, False

    def step(self, blank: bool, audio: np.ndarray, relative_cost: float = 0.0) -> bool:
        """Takes the next step: whether it is a blank or space, and its audio (S,). Returns whether the utterance ends after it."""
        level = float(frame_levels(audio, len(audio))[0]) if len(audio) else QUIETEST
        floor = self.floor.follow(level, self.seconds_per_step)
        self.steps += 1
        if blank:
            quiet = level < floor + self.settings.margin
            self.silence += self.seconds_per_step * (1.0 if quiet else self.settings.loud_weight)
        else:
            self.silence, self.spoken = 0.0, True
        seconds = self.steps * self.seconds_per_step
        # a sum of many steps is a little less than their product
        return any(
            rule.holds(self.spoken, self.silence + 1e-6, relative_cost, seconds + 1e-6) for rule in self.settings.rules
        )
