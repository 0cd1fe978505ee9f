"""An acoustic model fed with audio as it comes; all log-probabilities together equal those of the whole recording."""

import torch
from torch import Tensor

from carnelian.errors import RecipeError
from carnelian.models.acoustic import AcousticModel
from carnelian.models.encoders.conformer import Conformer
from carnelian.models.encoders.conformer_stream import ConformerStream
from carnelian.models.features import NORMALIZATIONS, SpectralFeatures


class FeatureStream:
    """Feeds a front end piece by piece. Raises RecipeError for one that looks at the whole recording first."""

    def __init__(self, features: SpectralFeatures):
        if not isinstance(features, SpectralFeatures) or features.normalize is not NORMALIZATIONS["none"]:
            raise RecipeError(
                "this model normalises its features over the whole recording, so that it cannot be fed piece by piece. "
                'Use one whose [features] normalize is "none"'
            )
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

    def take(self, end: int) -> Tensor:
        """The frames from the next one up to `end`; what later ones need is kept."""
        assert self.audio is not None
        if end == self.next:
            return self.audio.new_zeros(len(self.audio), self.features.channels, 0)
        lengths = torch.full((len(self.audio),), self.audio.shape[1], device=self.audio.device)
        found, _ = self.features(self.audio, lengths)
        new = found[:, :, self.next - self.first : end - self.first]
        first = max(0, end - self.before)
        self.audio = self.audio[:, (first - self.first) * self.features.hop_samples :]
        self.first, self.next = first, end
        return new


class AcousticStream:
    """Feeds an acoustic model in evaluation mode with audio as it comes.

    Steps come out once the chunk of attention that they belong to is full. Raises RecipeError for a model that sees further ahead.
    """

    def __init__(self, model: AcousticModel):
        if not isinstance(model.encoder, Conformer):
            raise RecipeError(
                f"{type(model.encoder).__name__}: this encoder is not fed piece by piece here. Cache-aware Conformers are"
            )
        self.model = model
        self.features, self.encoder = FeatureStream(model.features), ConformerStream(model.encoder)

    def step(self, audio: Tensor) -> Tensor:
        """(B, S) new samples -> (B, O, V) new log-probabilities, O also 0."""
        with torch.inference_mode():
            return self.log_probs(self.encoder.step(self.features.step(audio)))

    def finish(self) -> Tensor:
        """(B, O, V): the log-probabilities that are left at the end of the recording."""
        with torch.inference_mode():
            last = self.encoder.step(self.features.finish())
            return self.log_probs(torch.cat([last, self.encoder.finish()], 2))

    def log_probs(self, encoded: Tensor) -> Tensor:
        return self.model.head(encoded.mT).float().log_softmax(-1)
