"""Changes of features while training: SpecAugment (Park et al., 2019, arXiv 1904.08779), SpecCutout (QuartzNet), warped bands."""

from collections.abc import Callable

import torch
from torch import Tensor

from carnelian.errors import RecipeError
from carnelian.models.time_stretch import interpolate
from carnelian.ranges import Fraction, NonNegativeInt, PositiveFloat

Mask = Callable[[Tensor, Tensor], Tensor]


def _inside(start: Tensor, width: Tensor, size: int) -> Tensor:
    """(B, N) starts and widths as (B, N, size): true inside each interval."""
    positions = torch.arange(size, device=start.device)
    return (positions >= start[..., None]) & (positions < (start + width)[..., None])


def _draw(limit: Tensor) -> Tensor:
    """Whole numbers from 0 to `limit`, both inside."""
    return (torch.rand(limit.shape, device=limit.device) * (limit + 1)).long()


def spec_augment(
    *,
    frequency_masks: NonNegativeInt = 2,
    frequency_width: NonNegativeInt = 20,
    time_masks: NonNegativeInt = 2,
    time_width: NonNegativeInt | Fraction = 75,
) -> Mask:
    """Returns a mask that sets bands and spans of frames to zero; widths are drawn from 0 to the given bins and frames
    (a float: share of the row)."""

    def mask(features: Tensor, frames: Tensor) -> Tensor:
        batch, bands, length = features.shape
        width = _draw(torch.full((batch, frequency_masks), min(frequency_width, bands), device=features.device))
        hidden = _inside(_draw(bands - width), width, bands).any(1)[:, :, None]
        limit = frames[:, None].expand(batch, time_masks)
        widest = (limit * time_width).long() if isinstance(time_width, float) else torch.full_like(limit, time_width)
        width = _draw(torch.minimum(widest, limit))
        hidden = hidden | _inside(_draw(limit - width), width, length).any(1)[:, None, :]
        return features.masked_fill(hidden, 0)

    return mask


def spec_cutout(
    *, masks: NonNegativeInt = 5, frequency_width: NonNegativeInt = 50, time_width: NonNegativeInt = 120
) -> Mask:
    """Rectangles of features set to zero; sides drawn from 0 to the given bins and frames."""

    def mask(features: Tensor, frames: Tensor) -> Tensor:
        batch, bands, length = features.shape
        height = _draw(torch.full((batch, masks), min(frequency_width, bands), device=features.device))
        limit = frames[:, None].expand(batch, masks)
        width = _draw(limit.clamp_max(time_width))
        rows = _inside(_draw(bands - height), height, bands)
        columns = _inside(_draw(limit - width), width, length)
        hidden = (rows.float().transpose(1, 2) @ columns.float()) > 0
        return features.masked_fill(hidden, 0)

    return mask


def vocal_tract(*, low: PositiveFloat = 0.85, high: PositiveFloat = 1.15) -> Mask:
    """Features stretched along their bands by a factor between low and high: speakers of other sizes (Jaitly and Hinton, 2013)."""

    if low > high:
        raise RecipeError(f"[masks.vocal_tract] low = {low}, high = {high}: give the lower first")

    def warp(features: Tensor, frames: Tensor) -> Tensor:
        batch, bands, _ = features.shape
        factor = low + (high - low) * torch.rand(batch, 1, device=features.device)
        return interpolate(features, (torch.arange(bands, device=features.device) * factor).clamp(0, bands - 1), dim=1)

    return warp
