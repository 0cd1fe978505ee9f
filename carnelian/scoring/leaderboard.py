"""Results in the form of the Open ASR Leaderboard (github.com/huggingface/open_asr_leaderboard, normalizer/)."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from carnelian.files import written

LIBRISPEECH_SPLITS = {"test-clean": "librispeech_test.clean", "test-other": "librispeech_test.other"}
NOT_SCORED = re.compile("ignore time segment in scoring", re.I)


@dataclass(frozen=True, slots=True)
class LeaderboardLine:
    """A transcribed recording: seconds of audio, seconds that transcribing it took, both texts as they are written."""

    audio_filepath: str
    duration: float
    time: float
    text: str
    pred_text: str


def leaderboard_name(model: str, data_set: str) -> str:
    """The file's name, from which the leaderboard's program takes the model (author/name) and the data set."""
    known = LIBRISPEECH_SPLITS.get(data_set)
    data = f"hf-audio-open-asr-leaderboard_{known}" if known else f"local_{data_set}_test"
    return f"MODEL_{model.replace('/', '-')}_DATASET_{data.replace('/', '-')}.jsonl"


def write_leaderboard(path: Path, lines: Iterable[LeaderboardLine]) -> int:
    """Writes the lines that the leaderboard scores, and returns how many were left out.

    References that are empty, or that are marked as not to be scored, are left out, as there.
    """
    left_out = 0
    with written(path) as file:
        for line in lines:
            if not line.text.strip() or NOT_SCORED.search(line.text):
                left_out += 1
                continue
            file.write(json.dumps(asdict(line), ensure_ascii=False) + "\n")
    return left_out
