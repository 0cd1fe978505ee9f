"""Features read between their bands or frames: speakers of other sizes, speech at another rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: what a user is told of the time_stretches that are sensible
TIME_STRETCH_RANGE = "numbers from 0.5 to 2, such as 1, 1.1, 1.2, 1.3"


def in_range(time_stretches: Sequence[float]) -> bool:
    """Whether speech may be heard at all these time_stretches."""
    return all(0.5 <= stretch <= 2 for stretch in time_stretches)


def interpolate(features: Tensor, places: Tensor, *, dim: int) -> Tensor:
    """Features (B, F, T) read at fractional places (B, N) of bands (`dim` 1) or frames (2), linearly between neighbours."""
    below = places.long()
    above = (below + 1).clamp_max(features.shape[dim] - 1)
    share = (places - below).to(features.dtype).unsqueeze(3 - dim)
    shape = [-1, *features.shape[1:]]
    shape[dim] = -1

    def at(index: Tensor) -> Tensor:
        return features.gather(dim, index.unsqueeze(3 - dim).expand(shape))

    return at(below) * (1 - share) + at(above) * share


def time_stretch(features: Tensor, frames: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Features (B, F, T) and frames (B,) of speech that takes `factor` times as long, zero past each row's new frames."""
    import torch

    grown = (frames * factor).long()
    frame = torch.arange(max(1, int(grown.max())), device=features.device)
    places = torch.minimum(frame.double() / factor, (frames[:, None] - 1).clamp_min(0).double())
    return interpolate(features, places, dim=2) * (frame < grown[:, None])[:, None], grown
