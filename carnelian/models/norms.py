"""Normalisation layers on (B, D, 1, T): the ones compared in tables 2 and 3 of the Jasper paper."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Returns batch norm with statistics over all frames of the batch, padding included."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.1)


class MaskedBatchNorm(nn.BatchNorm2d):
    """Batch norm with statistics over the frames inside each row's length only."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-3, momentum=0.1)

    def forward(self, encoded: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        frames = encoded.permute(0, 3, 2, 1)
        inside = torch.arange(encoded.shape[-1], device=encoded.device) < lengths[:, None]
        normalized = super().forward(frames[inside].permute(0, 2, 1)[..., None])
        return torch.zeros_like(frames).index_put((inside,), normalized[..., 0].permute(0, 2, 1)).permute(0, 3, 2, 1)


class MaskedLayerNorm(nn.Module):
    """Layer norm over a row's channels and the frames inside its length, with a scale and a bias per channel.

    A row of length 0 gives its bias.
    """

    def __init__(self, channels: int, eps: float = 1e-3):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, encoded: Tensor, lengths: Tensor) -> Tensor:
        inside = (torch.arange(encoded.shape[-1], device=encoded.device) < lengths[:, None])[:, None, None]
        count = encoded.shape[1] * lengths[:, None, None, None].clamp_min(1)
        encoded = encoded.to(self.weight.dtype)  # half precision is too coarse for sums over a recording
        mean = (encoded * inside).sum((1, 2, 3), keepdim=True) / count
        centred = (encoded - mean) * inside
        variance = centred.square().sum((1, 2, 3), keepdim=True) / count
        return centred * (variance + self.eps).rsqrt() * self.weight + self.bias


class Bias(nn.Module):
    """A bias per channel: all that remains of a norm where the weights are normalised instead (weight norm)."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, encoded: Tensor) -> Tensor:
        return encoded + self.bias


Norm = Literal["batch", "masked_batch", "layer", "weight"]
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": batch_norm,
    "masked_batch": MaskedBatchNorm,
    "layer": MaskedLayerNorm,
    "weight": Bias,
}
MASKED_NORMS = ("masked_batch", "layer")
