"""What an acoustic model gives for one utterance."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Emissions:
    """The model's output for one utterance: log-probabilities (O, V), and the seconds of audio that each of the O steps covers."""

    log_probs: np.ndarray
    seconds_per_step: float

    @property
    def best_path_score(self) -> float:
        """Natural log-probability of the best path: the sum of each step's largest log-probability."""
        return float(self.log_probs.max(1).sum())
