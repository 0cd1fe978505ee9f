"""Features interpolated along bands (other vocal tract lengths) or frames (other speaking rates)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: the accepted time stretches, as error messages say it
TIME_STRETCH_RANGE = "numbers from 0.5 to 2, such as 1, 1.1, 1.2, 1.3"


def in_range(time_stretches: Sequence[float]) -> bool:
    """Returns whether all time stretches are accepted."""
    return all(0.5 <= stretch <= 2 for stretch in time_stretches)


def interpolate(features: Tensor, positions: Tensor, *, dim: int) -> Tensor:
    """Returns features (B, F, T) interpolated linearly at fractional positions (B, N) along bands (`dim` 1) or frames (`dim` 2)."""
    below = positions.long()
    above = (below + 1).clamp_max(features.shape[dim] - 1)
    share = (positions - below).to(features.dtype).unsqueeze(3 - dim)
    shape = [-1, *features.shape[1:]]
    shape[dim] = -1

    def at(index: Tensor) -> Tensor:
        return features.gather(dim, index.unsqueeze(3 - dim).expand(shape))

    return at(below) * (1 - share) + at(above) * share


def time_stretch(features: Tensor, frames: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Returns features (B, F, T) interpolated to `factor` times their frames, and the new frames (B,); zero past each row's length."""
    import torch

    grown = (frames * factor).long()
    frame = torch.arange(max(1, int(grown.max())), device=features.device)
    positions = torch.minimum(frame.double() / factor, (frames[:, None] - 1).clamp_min(0).double())
    return interpolate(features, positions, dim=2) * (frame < grown[:, None])[:, None], grown
