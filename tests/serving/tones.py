"""A service whose recognizer knows tones: `python tests/serving/tones.py '{"max_requests": 4}'` prints its port and serves.

Seven tones are its words. It is exact, needs no training, and may be told to take its time ("work": seconds per second of audio),
and to be fed with live audio piece by piece ("ahead": the seconds that it then sees ahead).
"""

import json
import sys
import time

import numpy as np

from carnelian.data.transcript import Transcript, Word
from carnelian.serving.app import make_app
from carnelian.serving.config import ServingConfig
from carnelian.serving.server import run_server
from carnelian.serving.service import ServedModel, Service

RATE = 16_000
FRAME = 800  # samples: 50 ms
WORDS = {"do": 440, "re": 560, "mi": 680, "fa": 800, "sol": 920, "la": 1040, "ti": 1160}


def recognize_one(audio: np.ndarray) -> Transcript:
    """The tones of a waveform, each as a word with its times."""
    count = len(audio) // FRAME
    spectra = np.abs(np.fft.rfft(audio[: count * FRAME].reshape(count, FRAME) * np.hanning(FRAME), axis=1))
    bins = [round(frequency * FRAME / RATE) for frequency in WORDS.values()]
    loud = spectra[:, bins]
    found = np.where(loud.max(1) > 10, loud.argmax(1), -1) if count else np.zeros(0, int)
    words, names = [], list(WORDS)
    starts = np.flatnonzero(np.diff(found, prepend=-1))
    for start, end in zip(starts, [*starts[1:], count]):
        if found[start] >= 0 and end - start >= 2:
            at = FRAME / RATE
            words.append(Word(names[found[start]], round(start * at, 3), round(end * at, 3), 0.9))
    return Transcript(" ".join(word.text for word in words), tuple(words), (), len(audio) / RATE)


class ToneStream:
    """The same recognizer, fed with live audio: it knows all but the last `ahead` seconds of what it got."""

    def __init__(self, ahead: float, work: float):
        self.ahead, self.work, self.step_samples = ahead, work, FRAME
        self.audio = np.zeros(0, np.float32)  # since the segment's start

    def step(self, audio: np.ndarray, last: bool = False) -> Transcript:
        time.sleep(self.work * len(audio) / RATE)
        self.audio = np.concatenate([self.audio, audio])
        known = len(self.audio) if last else max(0, len(self.audio) - round(self.ahead * RATE))
        return recognize_one(self.audio[: known // FRAME * FRAME])

    def drop(self, steps: int) -> None:
        self.audio = self.audio[steps * FRAME :]

    def restarted(self) -> "ToneStream":
        return ToneStream(self.ahead, self.work)


def main() -> None:
    settings = json.loads(sys.argv[1])
    work, grace, wyoming = settings.pop("work", 0.0), settings.pop("grace", 10.0), settings.pop("wyoming", None)
    keys, ahead = tuple(settings.pop("keys", ())), settings.pop("ahead", None)

    def recognize(audio, hot_words):
        time.sleep(work * sum(map(len, audio)) / RATE)
        return [recognize_one(each) for each in audio]

    stream = None if ahead is None else lambda hot_words: ToneStream(ahead, work)
    model = ServedModel("tones", RATE, recognize, lambda text: [ord(each) for each in text], tuple, stream=stream)
    service = Service(model, ServingConfig(**settings))
    app = make_app(service, keys=keys)
    run_server(app, service, host="127.0.0.1", port=0, grace=grace, wyoming=wyoming)


if __name__ == "__main__":
    main()
