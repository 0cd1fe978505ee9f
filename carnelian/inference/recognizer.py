"""Audio to transcripts: an acoustic model and a decoder. Validation, evaluation, transcription and serving all go through here."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, overload

import numpy as np
import torch

from carnelian.checkpoint import load_model
from carnelian.data.alphabet import Alphabet
from carnelian.data.audio import as_waveform, load_audio
from carnelian.data.batch import load_batches, padded, plan_batches
from carnelian.data.transcript import Hypothesis, Transcript, transcript
from carnelian.data.utterance import Utterance
from carnelian.decoding.settings import DecodingConfig
from carnelian.errors import CarnelianError
from carnelian.formats.catalog import find_checkpoint
from carnelian.models.acoustic import AcousticModel
from carnelian.models.device import choose_device
from carnelian.models.time_stretch import time_stretch

#: one recording: its path, an utterance of a manifest, or samples as (S,) or (channels, S)
Audio = str | os.PathLike | Utterance | np.ndarray | torch.Tensor


class Decoder(Protocol):
    """Log-probabilities (O, V) of one utterance to hypotheses, best first. May also have `batch`, for many utterances on all cores."""

    def __call__(self, log_probs: np.ndarray) -> list[Hypothesis]: ...


@dataclass(frozen=True, slots=True)
class Emissions:
    """The model's output for one utterance: log-probabilities (O, V), and the seconds of audio that each of the O steps covers."""

    log_probs: np.ndarray
    seconds_per_step: float

    @property
    def best_path_score(self) -> float:
        """Natural log-probability of the best path: the sum of each step's largest log-probability."""
        return float(self.log_probs.max(1).sum())


@dataclass(frozen=True, slots=True)
class Recognized:
    """One result of `Recognizer.recognize`: the utterance, its index in the list, and its transcript."""

    index: int
    utterance: Utterance
    transcript: Transcript


class Recognizer:
    """Turns audio into transcripts with an acoustic model, its alphabet and a decoder (by default greedy).

    With several `time_stretches` (by default those of the model's recipe) each recording is decoded once for each factor, with its
    features interpolated to that many times their length, and the result whose best path has the highest probability is kept.
    This helps with speakers faster or slower than those of the training data, and costs the encoder as many passes. The method
    of choosing by likelihood is that of vocal tract length normalization (Lee and Rose, 1996).
    """

    def __init__(
        self,
        model: AcousticModel,
        alphabet: Alphabet,
        decoder: Decoder | None = None,
        *,
        precision: str = "fp32",
        time_stretches: Sequence[float] = (),
    ):
        self.model, self.alphabet, self.precision = model.eval(), alphabet, precision
        self.decoder: Decoder = decoder or DecodingConfig().decoder(alphabet, model.criterion)
        self.time_stretches = (
            DecodingConfig(time_stretches=tuple(time_stretches)).time_stretches or model.time_stretches
        )
        self.sample_rate: int = model.features.sample_rate

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        decoding: DecodingConfig | None = None,
        hot_words: Mapping[str, float] | None = None,
        device: str = "",
        precision: str = "fp32",
    ) -> "Recognizer":
        """Returns the recognizer of a checkpoint, of the last checkpoint in a run's folder, or of a pretrained model by its name.

        decoding: how to decode (by default greedy). hot_words: expected words with their weights (natural logarithms). device: "cpu"
        or "cuda"; by default a GPU where there is one. precision: "fp32" or "bf16". Raises CarnelianError kinds.
        """
        model, checkpoint = load_model(find_checkpoint(path))
        decoding = decoding or DecodingConfig()
        decoder = decoding.decoder(checkpoint.alphabet, model.criterion, hot_words=hot_words)
        model = model.to(choose_device(device))
        return cls(model, checkpoint.alphabet, decoder, precision=precision, time_stretches=decoding.time_stretches)

    def with_decoding(self, decoding: DecodingConfig) -> "Recognizer":
        """Returns a recognizer with the same model and other decoding settings."""
        decoder = decoding.decoder(self.alphabet, self.model.criterion)
        stretches = decoding.time_stretches or self.time_stretches
        return Recognizer(self.model, self.alphabet, decoder, precision=self.precision, time_stretches=stretches)

    @overload  # a string is a path, never a list of characters
    def __call__(self, audio: Audio, sample_rate: int | None = None) -> Transcript: ...  # type: ignore[overload-overlap]

    @overload  # a string is a path, never a list of characters
    def __call__(self, audio: Sequence[Audio], sample_rate: int | None = None) -> list[Transcript]: ...

    def __call__(self, audio, sample_rate=None):
        """Returns the transcript of one recording, or of each in a list, in the order of the list.

        audio: paths, utterances, or samples as numpy arrays or tensors, float in [-1, 1] or integers, (S,) or (1, S). sample_rate:
        samples per second of arrays and tensors, by default the model's. Raises AudioError for several channels in an array.
        """
        if isinstance(audio, list | tuple):
            return [self(each, sample_rate) for each in audio]
        if isinstance(audio, np.ndarray | torch.Tensor):
            audio = as_waveform(np.asarray(audio), sample_rate or self.sample_rate, self.sample_rate)
        elif isinstance(audio, str | os.PathLike | Utterance):
            audio = load_audio(audio, self.sample_rate)
        else:
            raise CarnelianError(
                f"audio: {type(audio).__name__} cannot be transcribed. Give a path, an utterance, an array, or a list of these"
            )
        [emissions] = self.emissions(*padded([audio]))
        seconds = len(audio) / self.sample_rate
        return transcript(
            self.decoder(emissions.log_probs), seconds_per_step=emissions.seconds_per_step, duration=seconds
        )

    def emissions(self, audio: torch.Tensor, audio_lengths: torch.Tensor) -> list[Emissions]:
        """Returns the model's output for each row of audio (B, S) at the model's sample rate with audio_lengths (B,) samples."""
        device = next(self.model.parameters()).device
        audio, audio_lengths = audio.to(device), audio_lengths.to(device)
        bf16 = torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")
        candidates = []
        with torch.inference_mode(), bf16:
            features, frames = self.model.features(audio, audio_lengths)
            for factor in self.time_stretches:
                stretched = time_stretch(features, frames, factor) if factor != 1 else (features, frames)
                log_probs, steps = self.model.log_probs(*stretched)
                rows = zip(log_probs.float().cpu(), steps.tolist())
                seconds = self.model.seconds_per_step / factor
                candidates.append([Emissions(row[:length].numpy(), seconds) for row, length in rows])
        return [max(row, key=lambda each: each.best_path_score) for row in zip(*candidates)]

    def batches(
        self, utterances: Sequence[Utterance], *, batch_seconds: float = 120.0, workers: int = 2
    ) -> Iterator[tuple[list[int], list[Utterance], list[Emissions], list[float]]]:
        """Yields batches of utterances of similar length, short ones first.

        Each is (indices into `utterances`, the utterances, their emissions, their durations in seconds).
        """
        durations = np.array([utterance.duration for utterance in utterances])
        plan = plan_batches(durations, batch_seconds=batch_seconds, shuffle=False) if len(durations) else []
        loaded = load_batches(utterances, plan, alphabet=self.alphabet, sample_rate=self.sample_rate, workers=workers)
        for indices, batch in zip(plan, loaded):
            seconds = (batch.audio_lengths / self.sample_rate).tolist()
            yield indices.tolist(), batch.utterances, self.emissions(batch.audio, batch.audio_lengths), seconds

    def recognize(
        self, utterances: Sequence[Utterance], *, batch_seconds: float = 120.0, workers: int = 2
    ) -> Iterator[Recognized]:
        """Yields the transcript of each utterance as soon as it is ready: in batches by length, so not in the order of the list."""
        for indices, batch, rows, seconds in self.batches(utterances, batch_seconds=batch_seconds, workers=workers):
            decoded = self.decode(emissions.log_probs for emissions in rows)
            for index, utterance, emissions, hypotheses, duration in zip(indices, batch, rows, decoded, seconds):
                step = emissions.seconds_per_step
                yield Recognized(index, utterance, transcript(hypotheses, seconds_per_step=step, duration=duration))

    def decode(self, log_probs: Iterable[np.ndarray]) -> list[list[Hypothesis]]:
        """Returns the hypotheses of each utterance; uses all cores where the decoder has `batch`."""
        batch: Callable | None = getattr(self.decoder, "batch", None)
        return batch(log_probs) if batch else [self.decoder(each) for each in log_probs]


def load(
    model: str | Path,
    *,
    decoding: DecodingConfig | None = None,
    hot_words: Mapping[str, float] | None = None,
    device: str = "",
    precision: str = "fp32",
) -> Recognizer:
    """Returns the recognizer of a model: `carnelian.load("model")("recording.wav").text`. As `Recognizer.load`."""
    return Recognizer.load(model, decoding=decoding, hot_words=hot_words, device=device, precision=precision)
