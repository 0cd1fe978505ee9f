"""An acoustic model: waveforms to log-probabilities of symbols."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from carnelian.models.losses.ctc import CTC
from carnelian.models.specaugment import Mask


class AcousticModel(nn.Module):
    """Features, masks on them (in training mode only), encoder, head: (B, S) audio, (B,) samples -> (B, O, V) log-probs,
    (B,) steps."""

    def __init__(
        self,
        features: Any,
        encoder: Any,
        symbols: int,
        masks: tuple[Mask, ...] = (),
        criterion: Any | None = None,
        time_stretches: Sequence[float] = (1.0,),
    ):
        """symbols: of the alphabet; the head has as many outputs, and those that the criterion adds (CTC, the default: the blank).

        time_stretches: those that a recognizer uses by default.
        """
        super().__init__()
        self.features: Any = features
        self.encoder: Any = encoder
        self.masks, self.time_stretches = masks, tuple(time_stretches)
        self.criterion: Any = criterion or CTC()
        self.head = nn.Linear(encoder.channels, symbols + self.criterion.extra)
        nn.init.xavier_uniform_(self.head.weight)

    @property
    def seconds_per_step(self) -> float:
        """Returns the seconds of audio that one output step covers."""
        return self.features.hop * self.encoder.stride

    def forward(self, audio: Tensor, audio_lengths: Tensor) -> tuple[Tensor, Tensor]:
        features, frames = self.features(audio, audio_lengths)
        if self.training:
            for mask in self.masks:
                features = mask(features, frames)
        return self.log_probs(features, frames)

    def log_probs(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder and head alone: (B, F, T) features, (B,) frames -> (B, O, V) log-probs, (B,) steps."""
        encoded, steps = self.encoder(features, frames)
        log_probs = self.head(encoded.transpose(1, 2)).float().log_softmax(-1)
        return log_probs, steps


def count_parameters(model: nn.Module) -> int:
    """Returns the number of trainable parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
