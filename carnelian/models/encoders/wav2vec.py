"""wav2vec (Schneider, Baevski, Collobert, Auli, 2019, arXiv 1904.05862, section 2): features learned from sound alone."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carnelian.errors import RecipeError
from carnelian.models.norms import MaskedLayerNorm
from carnelian.ranges import PositiveInt


class NormalizedConvolution(nn.Module):
    """Convolution over time, layer norm over channels and the row's own frames, ReLU: (B, D, T) -> (B, D', T')."""

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int = 1, bias: bool = False):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.convolution = nn.Conv1d(inputs, channels, kernel, stride=stride, bias=bias)
        self.norm = MaskedLayerNorm(channels, eps=1e-5)

    def lengths(self, lengths: Tensor) -> Tensor:
        return ((lengths - self.kernel) // self.stride + 1).clamp_min(0)

    def forward(self, encoded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        lengths = self.lengths(lengths)
        encoded = self.convolution(encoded)
        with torch.autocast(encoded.device.type, enabled=False):
            normalized = self.norm(encoded.float().unsqueeze(2), lengths.clamp_min(1)).squeeze(2)
        return normalized.relu().to(encoded.dtype), lengths


class Wav2Vec(nn.Module):
    """(B, S) audio and (B,) samples -> (B, F, T) context vectors, zero past each row's frames, and (B,) frames."""

    def __init__(
        self, kernels: Sequence[int], strides: Sequence[int], context: Sequence[int], channels: int, skip: bool
    ):
        super().__init__()
        self.channels, self.sample_rate, self.skip, self.context = channels, 16_000, skip, tuple(context)
        self.hop = math.prod(strides) / self.sample_rate
        inputs = [1] + [channels] * (len(kernels) - 1)
        self.encoder = nn.ModuleList(
            NormalizedConvolution(width, channels, kernel, stride)
            for width, kernel, stride in zip(inputs, kernels, strides)
        )
        self.aggregator = nn.ModuleList(
            NormalizedConvolution(channels, channels, kernel, bias=True) for kernel in context
        )
        #: samples that it takes to make one frame
        self.shortest = 1
        for kernel, stride in reversed(list(zip(kernels, strides))):
            self.shortest = (self.shortest - 1) * stride + kernel

    def encode(self, audio: Tensor, audio_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The local vectors z (B, F, T) and frames (B,)."""
        encoded = F.pad(audio, (0, max(0, self.shortest - audio.shape[1]))).unsqueeze(1)
        for layer in self.encoder:
            encoded, audio_lengths = layer(encoded, audio_lengths)
        return (encoded.abs() + 1).log(), audio_lengths

    def aggregate(self, encoded: Tensor, frames: Tensor) -> Tensor:
        """Returns the context vectors c (B, F, T), each computed from the frames up to its own."""
        for layer, kernel in zip(self.aggregator, self.context):
            padded = F.pad(encoded, (kernel - 1, 0), mode="replicate")
            grown, _ = layer(padded, frames + kernel - 1)
            encoded = (grown + encoded) * math.sqrt(0.5) if self.skip else grown
        return encoded

    def forward(self, audio: Tensor, audio_lengths: Tensor) -> tuple[Tensor, Tensor]:
        encoded, frames = self.encode(audio, audio_lengths)
        context = self.aggregate(encoded, frames)
        inside = torch.arange(context.shape[-1], device=context.device) < frames[:, None]
        return context * inside[:, None], frames


def wav2vec(
    *,
    kernels: Sequence[PositiveInt] = (10, 8, 4, 4, 4, 1, 1),
    strides: Sequence[PositiveInt] = (5, 4, 2, 2, 2, 1, 1),
    context: Sequence[PositiveInt] = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13),
    channels: PositiveInt = 512,
    skip: bool = True,
) -> Wav2Vec:
    """wav2vec large, at 16 kHz, one vector of 512 every 10 ms; the encoder's kernels and strides, the aggregator's kernels.

    The paper's base model is kernels 10, 8, 4, 4, 4, strides 5, 4, 2, 2, 2, nine context kernels of 3, and no `skip`.
    """
    if len(kernels) != len(strides) or not kernels or min(*kernels, *strides, 1, *context) < 1:
        raise RecipeError(
            f"[features] wav2vec: kernels {list(kernels)} and strides {list(strides)}: give one stride for each kernel"
        )
    return Wav2Vec(kernels, strides, context, channels, skip)
