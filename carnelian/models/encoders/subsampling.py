"""Convolutions over bands and frames that make one step of several frames, ahead of a Conformer."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carnelian.errors import RecipeError

SUBSAMPLINGS = ("striding", "dw_striding")
STRIDES = (2, 4, 8, 16, 32)


class Subsampling(nn.Module):
    """log2(`stride`) convolutions 3 x 3 of stride 2 and a linear layer: (B, F, T) features, (B,) frames -> (B, O, D), (B,) steps.

    All convolutions are full in "striding" (Dong et al., 2018, Speech-Transformer), all but the first depthwise separable in
    "dw_striding" (Rekesh et al., 2023). `causal` ones see two frames back and none ahead, with one zero at the end, so that they
    give one step more. Padding is set to zero before each convolution: a row alone equals the row in a batch.
    """

    def __init__(self, features: int, channels: int, *, kind: str, stride: int, width: int, causal: bool):
        super().__init__()
        if kind not in SUBSAMPLINGS:
            raise RecipeError(f'[encoder] subsampling = "{kind}": no such choice. Known: {", ".join(SUBSAMPLINGS)}')
        if stride not in STRIDES:
            raise RecipeError(f"[encoder] stride = {stride}: expected a power of two, one of {STRIDES}")
        self.stride, self.causal = stride, causal
        self.padding = (2, 1) if causal else (1, 1)
        around = 0 if causal else 1  # what the convolutions pad themselves
        layers: list[nn.Module] = []
        bands, inputs = features, 1
        for index in range(int(math.log2(stride))):
            if kind == "dw_striding" and index:
                depthwise = nn.Conv2d(inputs, inputs, 3, 2, around, groups=inputs)
                layers += [depthwise, nn.Conv2d(inputs, width, 1), nn.ReLU(inplace=True)]
            else:
                layers += [nn.Conv2d(inputs, width, 3, 2, around), nn.ReLU(inplace=True)]
            bands, inputs = self.reduced(bands), width
        # channels last: the convolutions take less than half the time on a CPU (benchmarks/inference.py)
        self.conv = nn.ModuleList(layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.out = nn.Linear(width * bands, channels)

    def reduced(self, count: int | Tensor):
        """Returns the output length of one convolution of stride 2 for an input length, in frames or bands."""
        return (count + sum(self.padding) - 3) // 2 + 1

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        encoded, steps = features.mT.unsqueeze(1), frames
        for layer in self.conv:
            if isinstance(layer, nn.Conv2d) and layer.stride[0] == 2:
                encoded, steps = zero_padding(encoded, steps), self.reduced(steps)
                encoded = F.pad(encoded, self.padding * 2) if self.causal else encoded
            encoded = layer(encoded)
        steps = steps * (frames > 0)  # causal convolutions would make one step of no frames
        encoded = zero_padding(encoded, steps)
        return self.out(encoded.transpose(1, 2).flatten(2)), steps


def zero_padding(encoded: Tensor, lengths: Tensor) -> Tensor:
    """(B, C, T, F) with zeros at and past each row's length."""
    if encoded.device.type == "cpu" and int(lengths.min()) >= encoded.shape[2]:
        return encoded  # one recording, or some of one length
    inside = torch.arange(encoded.shape[2], device=encoded.device) < lengths[:, None]
    return encoded * inside[:, None, :, None]
