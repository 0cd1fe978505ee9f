"""A line of a paper's table of blocks, its activations, and how its convolutions are moved for a bounded lookahead."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from carnelian.errors import RecipeError
from carnelian.ranges import Fraction, NonNegativeInt, PositiveInt


def gated_linear_unit(encoded: Tensor) -> Tensor:
    """The first half of the channels, each let through by one of the second half (Dauphin et al., 2016, arXiv 1612.08083)."""
    return F.glu(encoded, dim=1)


def gated_activation_unit(encoded: Tensor) -> Tensor:
    """The same with a hyperbolic tangent on the first half (van den Oord et al., 2016, arXiv 1606.05328)."""
    passed, gate = encoded.chunk(2, dim=1)
    return passed.tanh() * gate.sigmoid()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "clipped_relu": lambda encoded: F.hardtanh(encoded, 0, 20),
    "leaky_relu": F.leaky_relu,
    "swish": F.silu,
    "glu": gated_linear_unit,
    "gau": gated_activation_unit,
}
GATED = ("glu", "gau")  # they halve the channels, so the convolution before them gives twice as many
Residual = Literal["none", "plain", "dense", "densenet", "densernet"]
Activation = Literal["relu", "clipped_relu", "leaky_relu", "swish", "glu", "gau"]


@dataclass(frozen=True)
class BlockSpec:
    """A line of a paper's table: `repeat` times convolution, norm, activation, dropout, with a residual around them.

    `residual` is "none", "plain" (from the block's input), "dense" (from the inputs of this and every residual block before it), or
    "densenet" and "densernet": each convolution sees the input and the outputs of the block's convolutions before it, `growth`
    channels each, and a pointwise one goes back to `channels`; with the R, a plain residual is added.
    """

    channels: PositiveInt
    kernel: PositiveInt
    repeat: PositiveInt = 1
    #: taken by the last convolution of the block
    stride: PositiveInt = 1
    dilation: PositiveInt = 1
    dropout: Fraction = 0.0
    residual: Residual = "none"
    separable: bool = False
    #: of the pointwise convolution where separable, of the convolution where not; channels are shuffled after it
    groups: PositiveInt = 1
    #: squeeze-and-excitation: by how much its middle is narrower than the channels; 0 is none
    excitation: NonNegativeInt = 0
    growth: NonNegativeInt = 0


def half_of(spec: BlockSpec) -> int:
    """The frames ahead that each of a block's convolutions sees with "same" padding."""
    return spec.dilation * (spec.kernel - 1) // 2


def shifts(blocks: Sequence[BlockSpec], stride: int, ahead: int, lookahead: int | None) -> list[list[int]]:
    """The frames by which each convolution of each block is moved into the past, so that an output step sees `lookahead` steps ahead.

    Each convolution keeps the same share of what it sees ahead, rounded so that the sum is right. stride, ahead: of the
    front end, in frames. Raises RecipeError for less than the front end sees.
    """
    if lookahead is None:
        return [[0] * spec.repeat for spec in blocks]
    strides = [stride]
    for spec in blocks:
        strides.append(strides[-1] * spec.stride)
    allowed = lookahead * strides[-1] - ahead
    total = sum(spec.repeat * half_of(spec) * each for spec, each in zip(blocks, strides))
    if allowed < 0:
        raise RecipeError(f"[encoder] lookahead = {lookahead}: its conv2d layers alone see {ahead} frames ahead")
    share, seen, used = min(1.0, allowed / max(1, total)), 0, 0
    found: list[list[int]] = []
    for spec, each in zip(blocks, strides):
        found.append([])
        for _ in range(spec.repeat):
            seen += half_of(spec) * each
            kept = min(half_of(spec), max(0, int(seen * share + 1e-6) - used) // each)
            used += kept * each
            found[-1].append(half_of(spec) - kept)
    return found
