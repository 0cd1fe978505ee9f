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


class Endpointer:
    """Follows one utterance after another, step by step."""

    def __init__(self, settings: EndpointSettings, seconds_per_step: float):
        self.settings, self.seconds_per_step = settings, seconds_per_step
        self.floor = math.inf  # decibels; goes on from utterance to utterance
        self.restart()

    def restart(self) -> None:
        """Begins the next utterance."""
        self.steps, self.silence, self.spoken = 0, 0.0, False

    def step(self, blank: bool, audio: np.ndarray, relative_cost: float = 0.0) -> bool:
        """Takes the next step: whether it is a blank or space, and its audio (S,). Returns whether the utterance ends after it."""
        power = float(np.mean(np.square(audio, dtype=np.float64))) if len(audio) else 0.0
        level = max(QUIETEST, 10 * math.log10(power)) if power else QUIETEST
        self.floor = min(level, self.floor + FLOOR_RISE * self.seconds_per_step)
        self.steps += 1
        if blank:
            quiet = level < self.floor + self.settings.margin
            self.silence += self.seconds_per_step * (1.0 if quiet else self.settings.loud_weight)
        else:
            self.silence, self.spoken = 0.0, True
        seconds = self.steps * self.seconds_per_step
        # a sum of many steps is a little less than their product
        return any(
            rule.holds(self.spoken, self.silence + 1e-6, relative_cost, seconds + 1e-6) for rule in self.settings.rules
        )
