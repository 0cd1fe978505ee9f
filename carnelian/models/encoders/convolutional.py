"""An encoder from tables of a recipe: other people's networks, and your own."""

from collections.abc import Sequence

from carnelian.models.conv2d import Conv2dLayer
from carnelian.models.layers import BlockSpec, ConvolutionalEncoder
from carnelian.recipe import call


def convolutional(
    features: int = 64,
    *,
    blocks: Sequence[dict],
    conv2d: Sequence[dict] = (),
    activation: str = "relu",
    norm: str = "batch",
    mask: bool = True,
) -> ConvolutionalEncoder:
    """Blocks given one by one, each a table with the fields of `BlockSpec`; before them 2-D convolutions, with those of `Conv2dLayer`."""
    return ConvolutionalEncoder(
        features,
        [call(BlockSpec, block, where="encoder", name="blocks") for block in blocks],
        conv2d=[call(Conv2dLayer, layer, where="encoder", name="conv2d") for layer in conv2d],
        activation=activation,
        norm=norm,
        mask=mask,
    )
