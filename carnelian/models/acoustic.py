"""An acoustic model: waveforms to log-probabilities of symbols."""

from typing import Any

from torch import Tensor, nn

from carnelian.models.specaugment import Mask


class AcousticModel(nn.Module):
    """Features, masks on them while training, encoder, head: (B, S) audio, (B,) samples -> (B, O, V) log-probs, (B,) steps."""

    def __init__(self, features: Any, encoder: Any, symbols: int, masks: tuple[Mask, ...] = ()):
        """`symbols` counts the alphabet without the blank, which the head adds as the last."""
        super().__init__()
        self.features: Any = features
        self.encoder: Any = encoder
        self.masks = masks
        self.head = nn.Linear(encoder.channels, symbols + 1)
        nn.init.xavier_uniform_(self.head.weight)

    @property
    def step(self) -> float:
        """Seconds of audio that one output step covers."""
        return self.features.hop * self.encoder.stride

    def forward(self, audio: Tensor, audio_lengths: Tensor) -> tuple[Tensor, Tensor]:
        features, frames = self.features(audio, audio_lengths)
        if self.training:
            for mask in self.masks:
                features = mask(features, frames)
        encoded, steps = self.encoder(features, frames)
        log_probs = self.head(encoded.transpose(1, 2)).float().log_softmax(-1)
        return log_probs, steps


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers of a model."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
