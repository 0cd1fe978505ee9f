"""The waveform itself as one feature, for encoders with a front end of their own."""

import torch
from torch import Tensor, nn

from carnelian.models.features import SampleRate


class Waveform(nn.Module):
    """(B, S) audio and (B,) samples -> (B, 1, S) features, zero past each row's samples, and (B,) frames, which are samples."""

    def __init__(self, sample_rate: int, normalize: bool):
        super().__init__()
        self.channels, self.sample_rate, self.hop, self.normalize = 1, sample_rate, 1 / sample_rate, normalize

    def forward(self, audio: Tensor, audio_lengths: Tensor) -> tuple[Tensor, Tensor]:
        inside = torch.arange(audio.shape[1], device=audio.device) < audio_lengths[:, None]
        audio = audio.float() * inside
        if self.normalize:
            count = audio_lengths[:, None].clamp_min(1)
            centred = (audio - audio.sum(1, keepdim=True) / count) * inside
            audio = centred * (centred.square().sum(1, keepdim=True) / count + 1e-7).rsqrt()
        return audio.unsqueeze(1), audio_lengths


def waveform(*, sample_rate: SampleRate = 16_000, normalize: bool = True) -> Waveform:
    """Returns the front end that passes the waveform on; with `normalize` each row has mean 0 and variance 1."""
    return Waveform(sample_rate, normalize)
