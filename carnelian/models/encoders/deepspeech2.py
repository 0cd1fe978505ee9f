"""Deep Speech 2 (Amodei et al., 2015, arXiv 1512.02595) in the three sizes of OpenSeq2Seq: convolutions, then recurrent layers."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carnelian.models.conv2d import Conv2dFrontEnd, Conv2dLayer
from carnelian.models.masking import masked
from carnelian.ranges import Fraction, PositiveFloat, PositiveInt


@dataclass(frozen=True)
class Size:
    """(channels, kernel over frequency) of each convolution, then the recurrent layers and the linear one."""

    convolutions: tuple[tuple[int, int], ...]
    layers: int
    units: int
    both_ways: bool
    hidden: int
    #: steps that the row convolution sees: this one and those after it; 0 is none
    lookahead: int = 0


DEEPSPEECH2_SIZES = {
    "large": Size(((32, 41), (32, 21)), layers=5, units=800, both_ways=True, hidden=1600),
    "medium": Size(((32, 41), (64, 21), (96, 21)), layers=3, units=1024, both_ways=False, hidden=2048, lookahead=8),
    "small": Size(((32, 41), (32, 21)), layers=2, units=512, both_ways=True, hidden=1024),
}


def reverse_rows(encoded: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, D) with the steps inside each row's length back to front, and the padding where it was."""
    steps = torch.arange(encoded.shape[1], device=encoded.device)
    order = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    return encoded.gather(1, order[..., None].expand_as(encoded))


class Recurrent(nn.Module):
    """A layer of gated recurrent units on (B, T, D), forwards or both ways; what comes after a row's length leaves it untouched."""

    def __init__(self, inputs: int, units: int, both_ways: bool):
        super().__init__()
        self.forwards = nn.GRU(inputs, units, batch_first=True)
        self.backwards = nn.GRU(inputs, units, batch_first=True) if both_ways else None

    def forward(self, encoded: Tensor, lengths: Tensor) -> Tensor:
        onward = self.forwards(encoded)[0]
        if self.backwards is None:
            return onward
        back = self.backwards(reverse_rows(encoded, lengths))[0]
        return torch.cat([onward, reverse_rows(back, lengths)], dim=2)


class DeepSpeech2(nn.Module):
    """(B, F, T) features and (B,) frames -> (B, D, O) encoded and (B,) steps of two frames each."""

    receptive_field = math.inf

    def __init__(self, features: int, size: Size, dropout: float):
        super().__init__()
        self.channels, self.dropout = size.hidden, nn.Dropout(dropout)
        layers = [
            Conv2dLayer(channels, (kernel, 11), (2, 2 if index == 0 else 1))
            for index, (channels, kernel) in enumerate(size.convolutions)
        ]
        self.front = Conv2dFrontEnd(features, layers, norm=partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01))
        self.stride = self.front.stride
        width = size.units * (2 if size.both_ways else 1)
        self.recurrent = nn.ModuleList(
            Recurrent(width if index else self.front.channels, size.units, size.both_ways)
            for index in range(size.layers)
        )
        self.lookahead = size.lookahead
        if self.lookahead:
            self.row_convolution = nn.Conv1d(width, width, self.lookahead, groups=width, bias=False)
            self.row_norm = nn.BatchNorm1d(width, eps=1e-3, momentum=0.01)
        self.linear = nn.Linear(width, size.hidden)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        encoded, steps = self.front(features, frames)
        encoded = encoded.transpose(1, 2)
        for index, layer in enumerate(self.recurrent):
            encoded = layer(self.dropout(encoded) if index else encoded, steps)
        if self.lookahead:
            # (B, D, 1, T) is what silenced takes; the steps after a row's last are silence
            ahead = masked(encoded.transpose(1, 2).unsqueeze(2).clone(), steps).squeeze(2)
            encoded = F.relu(self.row_norm(self.row_convolution(F.pad(ahead, (0, self.lookahead - 1))))).transpose(1, 2)
        encoded = F.relu(masked(self.linear(encoded).transpose(1, 2).unsqueeze(2), steps)).squeeze(2)
        return self.dropout(encoded), steps


def deepspeech2(
    features: PositiveInt = 160,
    *,
    size: Literal["large", "medium", "small"] = "large",
    width: PositiveFloat = 1.0,
    dropout: Fraction = 0.5,
) -> DeepSpeech2:
    """Deep Speech 2 of `size` "large", "medium" (only forwards, with a row convolution) or "small"; `width` scales the units.

    The published ones take spectrograms: 160 bins for large and medium, 96 for small.
    """
    chosen = DEEPSPEECH2_SIZES[size]
    scaled = Size(
        tuple((max(1, int(channels * width)), kernel) for channels, kernel in chosen.convolutions),
        chosen.layers,
        int(chosen.units * width),
        chosen.both_ways,
        int(chosen.hidden * width),
        chosen.lookahead,
    )
    return DeepSpeech2(features, scaled, dropout)
