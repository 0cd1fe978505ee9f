"""Speech in, transcripts out: an acoustic model and a decoder, the one path of validation, evaluation, transcription and serving."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from carnelian.checkpoint import load_model
from carnelian.data.alphabet import Alphabet
from carnelian.data.audio import load_audio
from carnelian.data.batch import load_batches, plan_batches
from carnelian.data.transcript import Hypothesis, Transcript, transcript
from carnelian.data.utterance import Utterance
from carnelian.decoding.settings import Decoding
from carnelian.models.acoustic import AcousticModel
from carnelian.models.stretch import stretched

Decoder = Callable[[np.ndarray], list[Hypothesis]]


@dataclass(frozen=True, slots=True)
class Heard:
    """What the model hears in a recording: log-probabilities (O, V), and the seconds that each of their steps covers."""

    log_probs: np.ndarray
    step: float

    @property
    def best_path(self) -> float:
        """The logarithm of the likeliest path's probability."""
        return float(self.log_probs.max(1).sum())


@dataclass(frozen=True, slots=True)
class Recognized:
    """An utterance of a list, by its place in it, and what was understood."""

    index: int
    utterance: Utterance
    transcript: Transcript


class Recognizer:
    """Turns audio into transcripts with an acoustic model, its alphabet and a decoder (by default the best path).

    With several `stretches` (by default the model's own) each recording is heard at each, as if it took so many times as long, and
    the one whose best path is the likeliest counts: speech faster or slower than the model was trained on, for so many times the
    work. (So Lee and Rose, 1996, chose the length of the vocal tract.)
    """

    def __init__(
        self,
        model: AcousticModel,
        alphabet: Alphabet,
        decoder: Decoder | None = None,
        *,
        precision: str = "fp32",
        stretches: Sequence[float] = (),
    ):
        self.model, self.alphabet = model.eval(), alphabet
        self.decoder = decoder or Decoding().decoder(alphabet, model.criterion)
        self.precision, self.stretches = precision, Decoding(stretches=tuple(stretches)).stretches or model.stretches
        self.sample_rate: int = model.features.sample_rate

    @classmethod
    def load(cls, path: str | Path, decoder: Decoder | None = None, *, device: str = "", **settings: Any):
        """The recognizer of a checkpoint, on a GPU where there is one and no `device` is named; `settings` as the class takes them."""
        model, checkpoint = load_model(path)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model.to(device), checkpoint.alphabet, decoder, **settings)

    def __call__(self, audio: np.ndarray | str | Path | Utterance) -> Transcript:
        """The transcript of a waveform (S,) at the model's sample rate, or of a recording."""
        if not isinstance(audio, np.ndarray):
            audio = load_audio(audio, self.sample_rate)
        [heard] = self.hear(torch.from_numpy(audio)[None], torch.tensor([len(audio)]))
        return transcript(self.decoder(heard.log_probs), step=heard.step, duration=len(audio) / self.sample_rate)

    def hear(self, audio: torch.Tensor, audio_lengths: torch.Tensor) -> list[Heard]:
        """What the model hears in each row of audio (B, S)."""
        device = next(self.model.parameters()).device
        audio, audio_lengths = audio.to(device), audio_lengths.to(device)
        bf16 = torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")
        views = []
        with torch.inference_mode(), bf16:
            features, frames = self.model.features(audio, audio_lengths)
            for stretch in self.stretches:
                said = stretched(features, frames, stretch) if stretch != 1 else (features, frames)
                log_probs, steps = self.model.log_probs(*said)
                rows = zip(log_probs.float().cpu(), steps.tolist())
                views.append([Heard(row[:length].numpy(), self.model.step / stretch) for row, length in rows])
        return [max(row, key=lambda heard: heard.best_path) for row in zip(*views)]

    def batches(
        self, utterances: Sequence[Utterance], *, batch_seconds: float = 120.0, workers: int = 2
    ) -> Iterator[tuple[list[int], list[Utterance], list[Heard], list[float]]]:
        """Utterances in batches of like length, short ones first: their places, themselves, what is heard, and seconds."""
        durations = np.array([utterance.duration for utterance in utterances])
        plan = plan_batches(durations, batch_seconds=batch_seconds, shuffle=False) if len(durations) else []
        loaded = load_batches(utterances, plan, alphabet=self.alphabet, sample_rate=self.sample_rate, workers=workers)
        for indices, batch in zip(plan, loaded):
            seconds = (batch.audio_lengths / self.sample_rate).tolist()
            yield indices.tolist(), batch.utterances, self.hear(batch.audio, batch.audio_lengths), seconds

    def recognize(
        self, utterances: Sequence[Utterance], *, batch_seconds: float = 120.0, workers: int = 2
    ) -> Iterator[Recognized]:
        """What is understood of each utterance, as it comes: batched by length, so in another order than the list's."""
        for indices, batch, rows, seconds in self.batches(utterances, batch_seconds=batch_seconds, workers=workers):
            decoded = self.decode(heard.log_probs for heard in rows)
            for index, utterance, heard, hypotheses, duration in zip(indices, batch, rows, decoded, seconds):
                yield Recognized(index, utterance, transcript(hypotheses, step=heard.step, duration=duration))

    def decode(self, log_probs: Iterable[np.ndarray]) -> list[list[Hypothesis]]:
        """The hypotheses of each utterance; a decoder that can, decodes them on all cores."""
        batch = getattr(self.decoder, "batch", None)
        return batch(log_probs) if batch else [self.decoder(each) for each in log_probs]
