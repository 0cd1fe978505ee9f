"""Chooses how a model is quantised, by what it costs in errors and gains in speed on recordings with their text."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from carnelian.console import bar
from carnelian.data.audio import load_audio
from carnelian.data.utterance import Utterance
from carnelian.decoding.greedy import Greedy
from carnelian.errors import CarnelianError
from carnelian.inference.export.graph import OnnxModel
from carnelian.inference.export.int8 import Quantizer, Ranges, Scheme
from carnelian.inference.long_audio import log_probs_of
from carnelian.inference.onnx_engine import OnnxEngine
from carnelian.inference.processor import multiplies_bytes
from carnelian.scoring.confidence import Interval, difference
from carnelian.scoring.wer import Errors, count_errors

#: recordings that the ranges of activations are taken from, and that the schemes are compared on
CALIBRATION, TRIAL, SENSITIVITY = 48, 100, 4
#: word error rate that quantisation may cost
ALLOWED_LOSS = 0.002


@dataclass(frozen=True, slots=True)
class Trial:
    """What a model did on recordings, on one thread; errors: none where the recordings have no text."""

    errors: list[Errors]
    log_probs: list[np.ndarray]
    seconds: float
    audio_seconds: float

    @property
    def total(self) -> Errors:
        """The errors of all recordings together."""
        return sum(self.errors, Errors())


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantised model and the proof of its worth, beside the same model in float32."""

    model: OnnxModel
    scheme: Scheme
    #: convolutions that went back to float32, in the order of their loss
    in_float: list[str]
    float32: Trial
    int8: Trial

    @property
    def loss(self) -> float:
        """The word error rate of int8 less that of float32."""
        return self.int8.total.rate - self.float32.total.rate

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the loss."""
        return difference(self.int8.errors, self.float32.errors)[0]


def try_model(model: OnnxModel, audio: Sequence[np.ndarray], texts: Sequence[str]) -> Trial:
    """Recognizes recordings (S,) greedily with an exported model."""
    return try_engine(OnnxEngine(model.SerializeToString(), threads=1), audio, texts)


def try_engine(engine: Any, audio: Sequence[np.ndarray], texts: Sequence[str]) -> Trial:
    """Recognizes recordings (S,) greedily, one after the other. texts: what they say; may be empty."""
    decoder = Greedy(engine.alphabet)
    log_probs_of(engine, audio[0])  # the first run also plans the memory
    started = time.perf_counter()
    log_probs = [log_probs_of(engine, each) for each in audio]
    seconds = time.perf_counter() - started
    errors = [count_errors(text, decoder(each)[0].text) for text, each in zip(texts, log_probs)]
    return Trial(errors, log_probs, seconds, sum(map(len, audio)) / engine.sample_rate)


def divergence(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """The Kullback-Leibler divergence of log-probabilities (O, V) from the expected ones, averaged over all steps."""
    total = sum(float((np.exp(a) * (a - b)).sum()) for a, b in zip(expected, found))
    return total / max(1, sum(map(len, expected)))


def spread(count: int, most: int) -> list[int]:
    """Returns at most the given number of indices, evenly over `count`."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()


def quantize(model: OnnxModel, utterances: Sequence[Utterance], sample_rate: int) -> Quantized:
    """Returns the model with its convolutions in 8 bits, in the fastest scheme, as long as that costs no more than 0.2 WER points.

    utterances: recordings with their text, of the kind that the model is for. Both types of activations and both calibrations are
    tried; then layers go back to float32 in the order of their loss. Raises CarnelianError for utterances without text.
    """
    if not any(utterance.text.strip() for utterance in utterances):
        raise CarnelianError(
            "--calibrate: the manifest has no utterance with text. Give recordings with their transcripts"
        )
    utterances = sorted(utterances, key=lambda utterance: utterance.duration)
    audio = [load_audio(utterance, sample_rate) for utterance in utterances]
    texts = [utterance.text for utterance in utterances]
    quantizer = Quantizer(model)
    if not quantizer.convolutions:
        raise CarnelianError(
            "--precision int8: this encoder has no convolutions that can run in 8 bits. Export it as fp32"
        )
    with bar("quantising") as advance:
        advance(text="ranges of the activations")
        ranges = quantizer.ranges(audio[index] for index in spread(len(audio), CALIBRATION))
        trial = spread(len(audio), TRIAL)
        scheme = choose_scheme(quantizer, ranges, [audio[index] for index in trial], [texts[index] for index in trial])
        advance(text="word errors")
        before = try_model(model, audio, texts)
        in_float: list[str] = []
        order: list[str] = []
        while True:
            quantized = quantizer.quantized(scheme, ranges, in_float)
            after = try_model(quantized, audio, texts)
            loss = after.total.rate - before.total.rate
            if loss <= ALLOWED_LOSS or len(in_float) == len(quantizer.convolutions):
                break
            advance(text=f"{100 * loss:.2f} points lost; convolutions in the order of their loss")
            order = order or by_loss(
                quantizer, scheme, ranges, [audio[index] for index in spread(len(audio), SENSITIVITY)]
            )
            in_float = order[: max(1, 2 * len(in_float))]
    return Quantized(quantized, scheme, in_float, before, after)


def choose_scheme(quantizer: Quantizer, ranges: Ranges, audio: Sequence[np.ndarray], texts: Sequence[str]) -> Scheme:
    """The faster type of activations on this processor, with the calibration that changes the log-probabilities least."""
    expected = try_model(quantizer.model, audio, texts)
    seconds: dict[str, float] = {}
    changes: dict[Scheme, float] = {}
    for activations in ("uint8", "int8"):
        for calibration in ("minmax", "percentile"):
            scheme = Scheme(activations, calibration, reduce_range=activations == "uint8" and not multiplies_bytes())
            trial = try_model(quantizer.quantized(scheme, ranges), audio, texts)
            seconds[activations] = min(seconds.get(activations, np.inf), trial.seconds)
            changes[scheme] = divergence(expected.log_probs, trial.log_probs)
    faster = min(seconds, key=lambda activations: seconds[activations])
    return min((scheme for scheme in changes if scheme.activations == faster), key=lambda scheme: changes[scheme])


def by_loss(quantizer: Quantizer, scheme: Scheme, ranges: Ranges, audio: Sequence[np.ndarray]) -> list[str]:
    """The names of all convolutions, first the one that alone in 8 bits changes the log-probabilities most."""
    expected = try_model(quantizer.model, audio, ()).log_probs
    names = [node.name for node in quantizer.convolutions]
    losses = {}
    for name in names:
        alone = quantizer.quantized(scheme, ranges, set(names) - {name})
        losses[name] = divergence(expected, try_model(alone, audio, ()).log_probs)
    return sorted(names, key=lambda name: -losses[name])
