"""An acoustic model fed with audio as it comes; all log-probabilities together equal those of the whole recording."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carnelian.errors import RecipeError
from carnelian.models.acoustic import AcousticModel
from carnelian.models.encoders.conformer import Conformer
from carnelian.models.features import NORMALIZATIONS, SpectralFeatures
from carnelian.models.layers import ConvolutionalEncoder
from carnelian.models.streaming.conformer import ConformerStream, steps_behind, why_not_streaming
from carnelian.models.streaming.convolutional import ConvolutionalStream, why_not_by_pieces

#: from features (B, F, T) that follow each other, not normalized, to normalized ones
FeatureNormalizer = Callable[[Tensor], Tensor]


def why_not_in_pieces(model: AcousticModel) -> str:
    """The reason why a model cannot be fed piece by piece with the same result; empty if it can."""
    encoder = model.encoder
    if not isinstance(model.features, SpectralFeatures):
        return "its features are not spectral ones"
    if isinstance(encoder, ConvolutionalEncoder):
        return why_not_by_pieces(encoder)
    if isinstance(encoder, Conformer):
        return why_not_streaming(encoder)
    return f"its encoder ({type(encoder).__name__}) looks at the whole recording"


def seconds_ahead(model: AcousticModel) -> float:
    """The seconds of audio after a step that the encoder waits for before it gives the step; infinite for the whole recording."""
    encoder = model.encoder
    if why_not_in_pieces(model):
        return math.inf
    if isinstance(encoder, Conformer):
        return (encoder.contexts[0].right + 1) * model.seconds_per_step
    return encoder.frames_ahead * model.features.hop


def restart_step(model: AcousticModel, step: int) -> int:
    """The step from whose audio on a model must be fed to give `step` and all after it as if it were fed from the beginning."""
    encoder, together = model.encoder, model.features.pad_to or 1
    if isinstance(encoder, Conformer):
        behind = steps_behind(encoder)
        together = math.lcm(together, encoder.contexts[0].right + 1)
    else:
        behind = math.ceil((encoder.receptive_field - encoder.frames_ahead) / encoder.stride)
    if behind < 0:
        return 0
    behind += -(-model.features.fft // (model.features.hop_samples * encoder.stride)) + 1
    return max(0, step - behind) // together * together


#: frames whose statistics the first ones share, and as how many frames a prior counts at most
WARM_UP, PRIOR_FRAMES = 100, 1000


class FeatureStatistics:
    """Mean and deviation of features over all frames so far, as a model's normalization takes them over a whole recording."""

    def __init__(self, features: SpectralFeatures):
        self.features = features
        self.count = 0
        self.mean: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0  # sum of the squared distances from the mean

    @property
    def axes(self) -> tuple[int, ...]:
        return (2,) if self.features.normalize is NORMALIZATIONS["per_feature"] else (1, 2)

    def add(self, features: Tensor) -> None:
        """Takes in the next features (B, F, T), T also 0. Sums of pieces are combined exactly (Chan et al., 1979)."""
        count = math.prod(features.shape[axis] for axis in self.axes)
        if not count:
            return
        values = features.double()
        mean = values.mean(self.axes, keepdim=True)
        squares = (values - mean).square().sum(self.axes, keepdim=True)
        total, distance = self.count + count, mean - self.mean
        self.mean = self.mean + distance * (count / total)
        self.squares = self.squares + squares + distance**2 * (self.count * count / total)
        self.count = total

    def state(self) -> dict[str, np.ndarray]:
        """The statistics as arrays: see `restore`."""
        values = {"count": self.count, "mean": self.mean, "squares": self.squares}
        return {name: torch.as_tensor(each).cpu().numpy() for name, each in values.items()}

    def restore(self, state: Mapping[str, np.ndarray], device: torch.device) -> "FeatureStatistics":
        """Takes the statistics whose `state` this is; returns itself."""
        self.count = int(state["count"])
        self.mean, self.squares = (torch.from_numpy(state[name]).to(device) for name in ("mean", "squares"))
        return self

    def normalize(self, features: Tensor) -> Tensor:
        """Features (B, F, T) at mean 0 and deviation 1 by these statistics."""
        if self.features.normalize is NORMALIZATIONS["none"]:
            return features
        variance = self.squares / max(1, self.count - 1)
        return (features - self.mean).float() / (torch.as_tensor(variance).sqrt().float() + 1e-5)


class RunningNormalizer:
    """Normalizes features as they come, each frame by the statistics of all frames up to it, and of a prior.

    The result does not depend on how the audio is cut into pieces. Without a prior, the first `WARM_UP` frames wait for each other
    and share their statistics.
    """

    def __init__(self, features: SpectralFeatures, prior: FeatureStatistics | None = None):
        self.statistics = FeatureStatistics(features)
        self.waiting: Tensor | None = None
        self.started = prior is not None and prior.count > 0
        self.count = 0.0
        self.sum: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0
        if prior is not None and prior.count:
            bands = 1 if len(self.statistics.axes) == 1 else features.channels
            self.count = float(min(prior.count, PRIOR_FRAMES * bands))
            self.sum = prior.mean * self.count
            self.squares = (prior.squares / max(1, prior.count - 1) + prior.mean**2) * self.count

    def __call__(self, features: Tensor) -> Tensor:
        """Features (B, F, T) that are next -> normalized ones that are next, (B, F, T')."""
        if self.statistics.features.normalize is NORMALIZATIONS["none"]:
            return features
        if not self.started:
            features = features if self.waiting is None else torch.cat([self.waiting, features], 2)
            self.waiting = features
            if features.shape[2] < WARM_UP:
                return features[:, :, :0]
            return self._start(WARM_UP)
        return self._normalize(features)

    def finish(self) -> Tensor | None:
        """The frames that still wait at the end of the recording, normalized; None where there are none."""
        if self.started or self.waiting is None or not self.waiting.shape[2]:
            return None
        return self._start(self.waiting.shape[2])

    def _start(self, frames: int) -> Tensor:
        """The frames that waited, the first `frames` of them normalized by their common statistics."""
        assert self.waiting is not None
        features, self.waiting, self.started = self.waiting, None, True
        self.statistics.add(features[:, :, :frames])
        first = self.statistics.normalize(features[:, :, :frames])
        self._normalize(features[:, :, :frames])  # takes them into the running sums
        return torch.cat([first, self._normalize(features[:, :, frames:])], 2)

    def _normalize(self, features: Tensor) -> Tensor:
        if not features.shape[2]:
            return features
        values, bands = features.double(), features.shape[1]
        together = len(self.statistics.axes) > 1  # over all bands
        per_frame = bands if together else 1
        sums, squares = (
            (each.sum(1, keepdim=True) if together else each).cumsum(2) for each in (values, values.square())
        )
        sums, squares = sums + self.sum, squares + self.squares
        counts = self.count + per_frame * torch.arange(1, features.shape[2] + 1, device=features.device)
        self.sum, self.squares, self.count = sums[:, :, -1:], squares[:, :, -1:], float(counts[-1])
        mean = sums / counts
        variance = ((squares - counts * mean.square()) / (counts - 1).clamp_min(1)).clamp_min(0)
        return ((values - mean) / (variance.sqrt() + 1e-5)).float()


class FeatureStream:
    """Feeds a front end piece by piece; the features are those of the whole recording, before their normalization."""

    def __init__(self, features: SpectralFeatures):
        self.features = features
        #: frames before the next one that are computed again: those whose windows reach into it, and the first's pre-emphasis
        self.before = -(-(features.fft // 2 + 1) // features.hop_samples)
        self.audio: Tensor | None = None  # (B, S) from frame `first` on
        self.first = self.next = 0

    def step(self, audio: Tensor) -> Tensor:
        """(B, S) new samples, S of any size also 0 -> (B, F, T) the frames whose windows are full."""
        self.audio = audio if self.audio is None else torch.cat([self.audio, audio], 1)
        hop, fft = self.features.hop_samples, self.features.fft
        # one sample more than the window, so that reflection at the end does not reach the last of these frames
        full = (self.first * hop + self.audio.shape[1] - fft // 2 - 1) // hop + 1
        return self.take(max(full, self.next))

    def finish(self) -> Tensor:
        """(B, F, T): the frames that are left at the end of the recording."""
        if self.audio is None:
            raise ValueError("the stream got no audio")
        total = int(self.features.frames(torch.tensor(self.audio.shape[1])))
        return self.take(max(self.first + total, self.next))

    @property
    def windows(self) -> int:
        """The frames of the whole recording with those that are padding, if it ended here."""
        if self.audio is None:
            return 0
        count = self.first + self.audio.shape[1] // self.features.hop_samples + 1
        return count + (-count % self.features.pad_to if self.features.pad_to else 0)

    def take(self, end: int) -> Tensor:
        """The frames from the next one up to `end`; what later ones need is kept."""
        assert self.audio is not None
        if end == self.next:
            return self.audio.new_zeros(len(self.audio), self.features.channels, 0)
        lengths = torch.full((len(self.audio),), self.audio.shape[1], device=self.audio.device)
        found = self.features.unnormalized(self.audio.float(), lengths)
        new = found[:, :, self.next - self.first : end - self.first]
        first = max(0, end - self.before)
        self.audio = self.audio[:, (first - self.first) * self.features.hop_samples :]
        self.first, self.next = first, end
        return new


class AcousticStream:
    """Feeds an acoustic model in evaluation mode with audio as it comes.

    Steps come out once all that they see is there. Raises RecipeError for a model that looks at the whole recording.
    """

    def __init__(self, model: AcousticModel, normalizer: FeatureNormalizer | None = None):
        """normalizer: for a model whose features are normalized over the whole recording: by statistics of a first pass
        (`FeatureStatistics.normalize`), or running ones (`RunningNormalizer`)."""
        if reason := why_not_in_pieces(model):
            raise RecipeError(f"this model is not fed piece by piece: {reason}")
        if normalizer is None and model.features.normalize is not NORMALIZATIONS["none"]:
            raise RecipeError(
                "this model normalises its features over the whole recording, so that it cannot be fed piece by piece. "
                'Use one whose [features] normalize is "none", or give a normalizer'
            )
        self.model, self.normalizer = model, normalizer or (lambda features: features)
        self.features = FeatureStream(model.features)
        self.encoder: Any = (ConformerStream if isinstance(model.encoder, Conformer) else ConvolutionalStream)(
            model.encoder
        )

    def step(self, audio: Tensor) -> Tensor:
        """(B, S) new samples -> (B, O, V) new log-probabilities, O also 0."""
        with torch.inference_mode():
            return self.log_probs(self.encoder.step(self.normalizer(self.features.step(audio))))

    def finish(self) -> Tensor:
        """(B, O, V): the log-probabilities that are left at the end of the recording."""
        with torch.inference_mode():
            windows = self.features.windows
            pieces = [self.normalizer(self.features.finish())]
            if isinstance(self.normalizer, RunningNormalizer) and (rest := self.normalizer.finish()) is not None:
                pieces.append(rest)
            last = self.encoder.step(torch.cat(pieces, 2))
            padded = {"padded_to": windows} if isinstance(self.encoder, ConvolutionalStream) else {}
            return self.log_probs(torch.cat([last, self.encoder.finish(**padded)], 2))

    def log_probs(self, encoded: Tensor) -> Tensor:
        return self.model.head(encoded.mT).float().log_softmax(-1)
