"""wav2vec 2.0 (Baevski, Zhou, Mohamed, Auli, 2020, arXiv 2006.11477): convolutions on the waveform, then a Transformer.

HuBERT (arXiv 2106.07447) has the same network. Layouts as published: BASE with group norm and post-norm layers, LARGE (LV-60k) with
layer norm and pre-norm layers. Input is the waveform itself: `[features] name = "waveform"`.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from carnelian.errors import RecipeError
from carnelian.models.attention import attend, split_heads
from carnelian.models.masking import active_share
from carnelian.ranges import Fraction, FractionBelowOne, NonNegativeInt, PositiveInt


class FeatureConvolution(nn.Module):
    """Convolution, norm and GELU on (B, D, T).

    norm: "group" over each channel's time, "layer" over the channels of a frame, or "none".
    """

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int, *, norm: str, bias: bool):
        super().__init__()
        self.convolution = nn.Conv1d(inputs, channels, kernel, stride=stride, bias=bias)
        self.per_channel = norm == "group"
        self.norm: nn.Module | None = None
        if norm != "none":
            self.norm = nn.GroupNorm(channels, channels) if self.per_channel else nn.LayerNorm(channels)

    def forward(self, encoded: Tensor) -> Tensor:
        encoded = self.convolution(encoded)
        if self.norm is not None:
            encoded = self.norm(encoded) if self.per_channel else self.norm(encoded.transpose(1, 2)).transpose(1, 2)
        return F.gelu(encoded)


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward network on (B, O, D), each with a residual; the layer norm stands before or after them."""

    def __init__(self, channels: int, heads: int, feedforward: int, dropout: float, *, pre_norm: bool):
        super().__init__()
        self.heads, self.pre_norm, self.dropout = heads, pre_norm, nn.Dropout(dropout)
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.expand, self.contract = nn.Linear(channels, feedforward), nn.Linear(feedforward, channels)

    def attend(self, encoded: Tensor, mask: Tensor) -> Tensor:
        """Returns multi-head attention of (B, O, D) over the steps where `mask` (B, 1, 1, O) is true."""
        layers = (self.query, self.key, self.value)
        query, key, value = (split_heads(layer(encoded), self.heads) for layer in layers)
        return self.out(attend(query, key, value, mask, active_share(self.dropout)))

    def feed(self, encoded: Tensor) -> Tensor:
        """Returns the feed-forward network of (B, O, D)."""
        return self.contract(self.dropout(F.gelu(self.expand(encoded))))

    def forward(self, encoded: Tensor, mask: Tensor) -> Tensor:
        if self.pre_norm:
            encoded = encoded + self.dropout(self.attend(self.attention_norm(encoded), mask))
            return encoded + self.dropout(self.feed(self.feedforward_norm(encoded)))
        encoded = self.attention_norm(encoded + self.dropout(self.attend(encoded, mask)))
        return self.feedforward_norm(encoded + self.dropout(self.feed(encoded)))


class Wav2Vec2(nn.Module):
    """(B, 1, S) waveforms and (B,) samples -> (B, D, O) and (B,) steps of 20 ms at 16 kHz, zero past each row's steps."""

    receptive_field = math.inf
    #: not every weight takes part in every step: layer drop, the mask vector, convolutions that are held
    leaves_out_weights = True

    def __init__(
        self,
        convolutions: Sequence[FeatureConvolution],
        width: int,
        channels: int,
        layers: Sequence[TransformerLayer],
        *,
        position_kernel: int,
        position_groups: int,
        dropout: float,
        layer_drop: float,
        time_mask: tuple[float, int],
        channel_mask: tuple[float, int],
        feature_gradient: float,
    ):
        super().__init__()
        self.channels, self.layer_drop, self.feature_gradient = channels, layer_drop, feature_gradient
        self.time_mask, self.channel_mask = time_mask, channel_mask
        self.convolutions, self.layers = nn.ModuleList(convolutions), nn.ModuleList(layers)
        self.sizes = [(each.convolution.kernel_size[0], each.convolution.stride[0]) for each in convolutions]
        self.stride = math.prod(stride for _, stride in self.sizes)
        #: samples that it takes to make one step
        self.shortest = 1
        for kernel, stride in reversed(self.sizes):
            self.shortest = (self.shortest - 1) * stride + kernel
        self.feature_norm, self.projection = nn.LayerNorm(width), nn.Linear(width, channels)
        self.position = weight_norm(
            nn.Conv1d(channels, channels, position_kernel, padding=position_kernel // 2, groups=position_groups), dim=2
        )
        self.norm, self.dropout = nn.LayerNorm(channels), nn.Dropout(dropout)
        self.mask_vector = nn.Parameter(torch.empty(channels).uniform_())

    def steps(self, samples: Tensor) -> Tensor:
        """Returns the number of steps for a number of samples."""
        for kernel, stride in self.sizes:
            samples = torch.div(samples - kernel, stride, rounding_mode="floor") + 1
        return samples.clamp_min(0)

    def extract(self, audio: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the convolutions' output (B, O, width) for waveforms (B, S), not yet normalised, and steps (B,)."""
        steps = self.steps(samples)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.feature_gradient > 0):
            encoded = self.convolve_rows(audio, samples)
        if 0 < self.feature_gradient < 1:
            encoded = encoded * self.feature_gradient + encoded.detach() * (1 - self.feature_gradient)
        return encoded, steps

    def convolve_rows(self, audio: Tensor, samples: Tensor) -> Tensor:
        """Returns the convolutions' output (B, O, width) for waveforms (B, S).

        With group norm each row is computed alone: the statistics are those of a channel over the row's own time.
        """
        if self.convolutions[0].per_channel and len(audio) > 1:
            rows = [audio[index, :length] for index, length in enumerate(samples.tolist())]
            return nn.utils.rnn.pad_sequence([self.convolve(row[None])[0].T for row in rows], batch_first=True)
        return self.convolve(audio).transpose(1, 2)

    def convolve(self, audio: Tensor) -> Tensor:
        """Returns the output (B, width, O) of the convolutions for (B, S); too short waveforms are padded with zeros."""
        encoded = F.pad(audio, (0, max(0, self.shortest - audio.shape[1])))[:, None]
        for convolution in self.convolutions:
            encoded = convolution(encoded)
        return encoded

    def contextualize(self, encoded: Tensor, steps: Tensor) -> Tensor:
        """Returns the Transformer's output (B, O, D) for projected features (B, O, D)."""
        inside = torch.arange(encoded.shape[1], device=encoded.device) < steps[:, None]
        encoded = encoded * inside[..., None]
        position = self.position(encoded.transpose(1, 2))
        encoded = encoded + F.gelu(position[..., : encoded.shape[1]]).transpose(1, 2)
        pre_norm = bool(len(self.layers)) and self.layers[0].pre_norm
        encoded = self.dropout(encoded if pre_norm else self.norm(encoded))
        # a row of no steps attends to zeros: a softmax over nothing would not be finite
        mask = (inside | ~inside.any(1, keepdim=True))[:, None, None]
        for layer in self.layers:
            if not self.training or not self.layer_drop or torch.rand(()) >= self.layer_drop:
                encoded = layer(encoded, mask)
        return (self.norm(encoded) if pre_norm else encoded) * inside[..., None]

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        encoded, steps = self.extract(features[:, 0], frames)
        encoded = self.projection(self.feature_norm(encoded))
        if self.training:
            encoded = self.mask(encoded, steps)
        return self.contextualize(encoded, steps).transpose(1, 2), steps

    def mask(self, encoded: Tensor, steps: Tensor) -> Tensor:
        """Returns projected features (B, O, D) with spans of steps replaced by the mask vector, and spans of channels by zeros."""
        masked = draw_spans(steps, encoded.shape[1], *self.time_mask)
        encoded = torch.where(masked[..., None], self.mask_vector.to(encoded.dtype), encoded)
        sizes = torch.full((len(encoded),), self.channels, device=encoded.device)
        return encoded.masked_fill(draw_spans(sizes, self.channels, *self.channel_mask)[:, None], 0)


def draw_spans(sizes: Tensor, width: int, share: float, length: int) -> Tensor:
    """Returns which of `width` places (B, width) are inside random spans: `share` of a row's `sizes` (B,) are starts
    divided by length.

    Spans may overlap, as in fairseq's compute_mask_indices with "static" lengths; a row shorter than a span has none.
    """
    places = torch.zeros(len(sizes), width, dtype=torch.bool, device=sizes.device)
    if not share:
        return places
    for row, size in enumerate(sizes.tolist()):
        count = int(share * size / length + float(torch.rand(())))
        if size >= length and count:
            starts = torch.randperm(size - length + 1, device=sizes.device)[:count]
            places[row, (starts[:, None] + torch.arange(length, device=sizes.device)).flatten()] = True
    return places


def wav2vec2(
    features: PositiveInt = 1,
    *,
    channels: PositiveInt = 768,
    layers: PositiveInt = 12,
    heads: PositiveInt = 12,
    feedforward: PositiveInt = 3072,
    width: PositiveInt = 512,
    kernels: Sequence[PositiveInt] = (10, 3, 3, 3, 3, 2, 2),
    strides: Sequence[PositiveInt] = (5, 2, 2, 2, 2, 2, 2),
    feature_norm: Literal["group", "layer"] = "group",
    bias: bool = False,
    pre_norm: bool = False,
    position_kernel: PositiveInt = 128,
    position_groups: PositiveInt = 16,
    dropout: Fraction = 0.1,
    layer_drop: FractionBelowOne = 0.0,
    time_mask_share: Fraction = 0.0,
    time_mask_length: PositiveInt = 10,
    channel_mask_share: Fraction = 0.0,
    channel_mask_length: NonNegativeInt = 64,
    feature_gradient: Fraction = 1.0,
) -> Wav2Vec2:
    """wav2vec 2.0 BASE: (B, 1, S) waveforms and (B,) samples -> (B, 768, O) and (B,) steps; 94.4 million parameters.

    LARGE: channels = 1024, layers = 24, heads = 16, feedforward = 4096; trained on LV-60k also feature_norm = "layer", bias = true,
    pre_norm = true. `layer_drop` leaves out whole layers, the mask settings hide spans of steps and channels, all while training only.
    `feature_gradient` is a factor on the gradient of the convolutions; at 0 they are not trained.
    """
    if features != 1:
        raise RecipeError('[encoder] wav2vec2: takes the waveform. Set [features] name = "waveform"')
    if len(kernels) != len(strides) or not kernels:
        raise RecipeError(
            f"[encoder] kernels {list(kernels)}, strides {list(strides)}: give one stride for each kernel"
        )
    if channels % heads or channels % position_groups:
        raise RecipeError(
            f"[encoder] channels = {channels}: expected a multiple of heads = {heads} and position_groups = {position_groups}"
        )
    normed = range(len(kernels)) if feature_norm == "layer" else (0,)
    convolutions = [
        FeatureConvolution(inputs, width, kernel, stride, norm=feature_norm if index in normed else "none", bias=bias)
        for index, (inputs, kernel, stride) in enumerate(zip([1, *[width] * len(kernels)], kernels, strides))
    ]
    return Wav2Vec2(
        convolutions,
        width,
        channels,
        [TransformerLayer(channels, heads, feedforward, dropout, pre_norm=pre_norm) for _ in range(layers)],
        position_kernel=position_kernel,
        position_groups=position_groups,
        dropout=dropout,
        layer_drop=layer_drop,
        time_mask=(time_mask_share, time_mask_length),
        channel_mask=(channel_mask_share, max(1, channel_mask_length)),
        feature_gradient=feature_gradient,
    )
