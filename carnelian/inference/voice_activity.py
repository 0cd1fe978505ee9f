"""Where nobody speaks in a recording, for its display: by the audio's energy, or by the network Silero."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from carnelian.errors import CarnelianError
from carnelian.inference.endpointing import EndpointSettings, NoiseFloor, frame_levels

#: what `--voice-activity` knows; "none": pauses are what lies between the times of words
VOICE_ACTIVITIES = ("energy", "silero", "none")
SHORTEST_SILENCE = 0.1  # seconds
ENERGY_SECONDS = 0.02  # of a frame
MARGIN = EndpointSettings().margin

Silences = tuple[tuple[float, float], ...]


class FrameClassifier(Protocol):
    """Tells which of a recording's consecutive frames are silent; `state` is what it remembers of those before."""

    samples: int  # of a frame
    state: np.ndarray

    def silent(self, frames: np.ndarray) -> np.ndarray:
        """(N, S) the next frames -> (N,) whether each is silent."""
        ...


class QuietFrames:
    """Frames that are less than the margin of live recognition above the noise floor, which follows the quietest ones."""

    def __init__(self, sample_rate: int, margin: float = MARGIN):
        self.samples, self.margin, self.floor = round(ENERGY_SECONDS * sample_rate), margin, NoiseFloor()

    @property
    def state(self) -> np.ndarray:
        """The noise floor (1,)."""
        return np.array([self.floor.level])

    @state.setter
    def state(self, state: np.ndarray) -> None:
        self.floor.level = float(state[0])

    def silent(self, frames: np.ndarray) -> np.ndarray:
        """(N, S) the next frames -> (N,) whether each is silent."""
        levels = frame_levels(frames.reshape(-1), self.samples)
        return levels < self.floor.follow_all(levels, ENERGY_SECONDS) + self.margin


class VoiceActivity:
    """Finds the silences of a recording whose audio comes in chunks."""

    def __init__(self, frames: FrameClassifier, sample_rate: int):
        self.frames, self.sample_rate = frames, sample_rate
        self.rest = np.zeros(0, np.float32)  # of less than a frame
        self.samples = 0  # taken in, with the rest
        self.found: list[tuple[float, float]] = []
        self.begun = -1.0  # of a silence that still goes on, in seconds; -1: none

    def accept(self, audio: np.ndarray, first: int) -> None:
        """Takes the samples (S,) from the sample `first` on; those that it knows are left out."""
        new = audio[max(0, self.samples - first) :]
        self.samples += len(new)
        audio, size = np.concatenate([self.rest, new]), self.frames.samples
        count = len(audio) // size
        self.rest = audio[count * size :]
        if not count:
            return
        silent = self.frames.silent(audio[: count * size].reshape(count, size))
        start = (self.samples - len(self.rest)) // size - count  # frames before these
        for frame in np.flatnonzero(np.diff(silent, prepend=self.begun >= 0)):
            self.change((start + int(frame)) * size / self.sample_rate)

    def change(self, seconds: float) -> None:
        """Speech begins or ends."""
        if self.begun < 0:
            self.begun = seconds
            return
        if seconds - self.begun >= SHORTEST_SILENCE:
            self.found.append((self.begun, seconds))
        self.begun = -1.0

    def silences(self) -> Silences:
        """(start, end) in seconds of each silence, if the recording ended here."""
        end = self.samples / self.sample_rate
        last = [(self.begun, end)] if 0 <= self.begun <= end - SHORTEST_SILENCE else []
        return tuple((round(start, 3), round(stop, 3)) for start, stop in [*self.found, *last])

    def kept(self) -> dict[str, np.ndarray]:
        """All that it has taken in, as arrays: see `restore`."""
        return {
            "silences": np.array(self.found).reshape(-1, 2),
            "silence_begun": np.array([self.begun, self.samples]),
            "silence_rest": self.rest,
            "silence_state": self.frames.state,
        }

    def restore(self, kept: Mapping[str, np.ndarray]) -> None:
        """Becomes as that whose arrays were `kept`."""
        self.found = [(float(start), float(end)) for start, end in kept["silences"]]
        self.begun, self.samples = float(kept["silence_begun"][0]), int(kept["silence_begun"][1])
        self.rest, self.frames.state = kept["silence_rest"], kept["silence_state"]


def make_voice_activity(kind: str, sample_rate: int) -> VoiceActivity | None:
    """Returns what finds silences: "energy", "silero", or for "none" nothing. Raises CarnelianError kinds."""
    if kind not in VOICE_ACTIVITIES:
        raise CarnelianError(f'voice activity "{kind}": not known. Known: {", ".join(VOICE_ACTIVITIES)}')
    if kind == "none":
        return None
    if kind == "energy":
        return VoiceActivity(QuietFrames(sample_rate), sample_rate)
    from carnelian.inference.silero import SileroFrames

    return VoiceActivity(SileroFrames(sample_rate), sample_rate)
