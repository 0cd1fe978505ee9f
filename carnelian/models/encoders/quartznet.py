"""QuartzNet (Kriman, Beliaev, Ginsburg et al., 2019, arXiv 1910.10261): Jasper with separable convolutions."""

from typing import Annotated, Any, Literal

from carnelian.errors import RecipeError
from carnelian.models.block_spec import BlockSpec
from carnelian.models.layers import ConvolutionalEncoder
from carnelian.ranges import Fraction, PositiveFloat, PositiveInt, at_least


def quartznet(
    features: PositiveInt = 64,
    *,
    blocks: PositiveInt = 15,
    repeat: PositiveInt = 5,
    dropout: Fraction = 0.0,
    groups: PositiveInt = 1,
    width: PositiveFloat = 1.0,
    stride: Literal[2, 4] = 2,
    lookahead: Annotated[int, at_least(-1)] = -1,
) -> ConvolutionalEncoder:
    """QuartzNet `blocks` x `repeat` of table 1: (B, F, T) features and (B,) frames -> (B, 1024, O) and (B,) steps.

    `width` scales the channels, `groups` splits the pointwise convolutions of the blocks (with a channel shuffle); a `stride`
    of 4 is taken in two steps of 2, for small models of short words. 5x5, 10x5 and 15x5 have 6.7, 12.8 and 18.9 million
    parameters with 28 letters; 15x5 with 2 and 4 groups 12.1 and 8.7 million.
    `lookahead`: steps ahead that each step sees, for live recognition; -1: as many as behind it.
    """
    times, rest = divmod(blocks, 5)
    if rest or times < 1:
        raise RecipeError(f"quartznet: {blocks} blocks. The five blocks of the paper are repeated: give 5, 10, 15, ...")
    narrow, wide, last = (int(channels * width) for channels in (256, 512, 1024))
    table = [(narrow, 33), (narrow, 39), (wide, 51), (wide, 63), (wide, 75)]
    shared: dict[str, Any] = {"dropout": dropout, "separable": True}
    return ConvolutionalEncoder(
        features,
        [
            BlockSpec(narrow, 33, stride=2, **shared),
            *([BlockSpec(narrow, 33, stride=2, **shared)] if stride == 4 else []),
            *(
                BlockSpec(channels, kernel, repeat, residual="plain", groups=groups, **shared)
                for channels, kernel in table
                for _ in range(times)
            ),
            BlockSpec(wide, 87, dilation=2, **shared),
            BlockSpec(last, 1, dropout=dropout),
        ],
        lookahead=lookahead if lookahead >= 0 else None,
    )


def quartznet_wsj(
    features: PositiveInt = 64, *, repeat: PositiveInt = 3, dropout: Fraction = 0.2, width: PositiveFloat = 1.0
) -> ConvolutionalEncoder:
    """The 5x3 variant for the Wall Street Journal (NeMo's quartznet5x3): 6.4 million parameters with 28 letters."""
    narrow, wide, last = (int(channels * width) for channels in (256, 512, 1024))
    shared: dict[str, Any] = {"dropout": dropout, "separable": True}
    return ConvolutionalEncoder(
        features,
        [
            BlockSpec(narrow, 33, stride=2, **shared),
            *(BlockSpec(wide, kernel, repeat, residual="plain", **shared) for kernel in (63, 63, 75, 75, 75)),
            BlockSpec(wide, 87, dilation=2, **shared),
            BlockSpec(last, 1, dropout=dropout),
        ],
    )
