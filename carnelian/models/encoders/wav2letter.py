"""wav2letter's gated convolutions (Liptchinsky, Synnaeve, Collobert, 2017, arXiv 1712.09444): weight norm, GLU, rising dropout."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from carnelian.models.masking import masked
from carnelian.ranges import PositiveFloat, PositiveInt, between

#: (channels before the gate, which halves them; kernel; dropout) of each layer, the last a linear one
WAV2LETTER_SIZES = {
    "librispeech": [
        (400, 13, 0.2),
        (440, 14, 0.214),
        (484, 15, 0.229),
        (532, 16, 0.245),
        (584, 17, 0.262),
        (642, 18, 0.281),
        (706, 19, 0.300),
        (776, 20, 0.321),
        (852, 21, 0.344),
        (936, 22, 0.368),
        (1028, 23, 0.393),
        (1130, 24, 0.421),
        (1242, 25, 0.450),
        (1366, 26, 0.482),
        (1502, 27, 0.516),
        (1652, 28, 0.552),
        (1816, 29, 0.590),
        (1816, 1, 0.590),
    ],
    "wsj": [
        *(
            (channels, kernel, 0.25)
            for channels, kernel in [(200, 13), (200, 3), (200, 4), (250, 5), (250, 6), (300, 7)]
        ),
        *((channels, kernel, 0.25) for channels, kernel in [(350, 8), (400, 9), (450, 10), (500, 11), (500, 12)]),
        *((channels, kernel, 0.25) for channels, kernel in [(500, 13), (600, 14), (600, 15), (750, 21), (1000, 1)]),
    ],
}


class GatedConvolutions(nn.Module):
    """Layers one after another: (B, F, T) features and (B,) frames -> (B, D, T) encoded and the same (B,) as steps."""

    stride = 1

    def __init__(self, features: int, layers: Sequence[tuple[int, int, float]]):
        super().__init__()
        widths = [features, *(channels // 2 for channels, _, _ in layers)]
        self.channels = widths[-1]
        self.receptive_field = 1 + sum(kernel - 1 for _, kernel, _ in layers)
        self.dropouts = nn.ModuleList(nn.Dropout(dropout) for _, _, dropout in layers)
        self.convolutions = nn.ModuleList()
        for inputs, (channels, kernel, dropout) in zip(widths, layers):
            convolution = nn.Conv1d(inputs, channels // 2 * 2, kernel)
            # three, not the four of Gehring et al., 2017, arXiv 1705.03122: loud input opens the gates, and layers on layers
            # of four would then shout ever louder
            nn.init.normal_(convolution.weight, std=math.sqrt(3 * (1 - dropout) / (kernel * inputs)))
            self.convolutions.append(weight_norm(convolution, dim=0))

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        # all padding is silence around the features: what a layer makes of it is the same alone and in a batch
        left = (self.receptive_field - 1) // 2
        padded = (left, self.receptive_field - 1 - left)
        encoded = F.pad(masked(features.unsqueeze(2).clone(), frames).squeeze(2), padded)
        for convolution, dropout in zip(self.convolutions, self.dropouts):
            encoded = dropout(F.glu(convolution(encoded), dim=1))
        return encoded, frames


def wav2letter(
    features: PositiveInt = 40,
    *,
    size: Literal["librispeech", "wsj"] = "librispeech",
    width: PositiveFloat = 1.0,
    dropout: Annotated[float, between(0, 2)] = 1.0,
) -> GatedConvolutions:
    """wav2letter's conv-GLU of `size` "librispeech" or "wsj"; `width` scales the channels, `dropout` the rates.

    The published systems take 40 log-mel bands and train with the ASG criterion; every step is one frame of 10 ms.
    """
    layers = [(int(channels * width), kernel, rate * dropout) for channels, kernel, rate in WAV2LETTER_SIZES[size]]
    return GatedConvolutions(features, layers)
