"""An encoder from tables of a recipe: other people's networks, and your own."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from carnelian.models.block_spec import Activation, BlockSpec
from carnelian.models.conv2d import Conv2dLayer
from carnelian.models.layers import ConvolutionalEncoder
from carnelian.models.norms import Norm
from carnelian.ranges import PositiveInt, at_least
from carnelian.recipe import call


def convolutional(
    features: PositiveInt = 64,
    *,
    blocks: Sequence[Mapping],
    conv2d: Sequence[Mapping] = (),
    activation: Activation = "relu",
    norm: Norm = "batch",
    mask: bool = True,
    lookahead: Annotated[int, at_least(-1)] = -1,
) -> ConvolutionalEncoder:
    """Blocks given one by one, each a table with the fields of `BlockSpec`; before them 2-D convolutions, with those of
    `Conv2dLayer`. `lookahead`: steps ahead that each step sees; -1: as many as behind it."""
    return ConvolutionalEncoder(
        features,
        [call(BlockSpec, block, where="encoder.blocks") for block in blocks],
        conv2d=[call(Conv2dLayer, layer, where="encoder.conv2d") for layer in conv2d],
        activation=activation,
        norm=norm,
        mask=mask,
        lookahead=lookahead if lookahead >= 0 else None,
    )
