"""A front end of 2-D convolutions over mel bands and frames, ahead of an encoder.

A convolution that also moves along the bands lets a pattern keep its meaning when a voice is higher or lower.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from carnelian.errors import RecipeError
from carnelian.models.masking import masked, masked_relu
from carnelian.models.norms import batch_norm
from carnelian.ranges import PositiveInt


@dataclass(frozen=True)
class Conv2dLayer:
    """A convolution over both axes, norm and ReLU; kernel (odd) and stride over bands, then over frames."""

    channels: PositiveInt
    kernel: tuple[PositiveInt, PositiveInt]
    stride: tuple[PositiveInt, PositiveInt] = (1, 1)


class Conv2dFrontEnd(nn.Module):
    """(B, F, T) features and (B,) frames -> (B, D, T') and (B,) frames of those, zero past them.

    D is the channels of the last layer times the bands that remain after its strides. With no layers, the output is the input.
    """

    def __init__(self, features: int, layers: Sequence[Conv2dLayer], *, norm: Callable[[int], nn.Module] = batch_norm):
        super().__init__()
        self.layers = tuple(layers)
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        #: frames that a step is made from, and frames that it moves on
        self.receptive_field, self.stride = 1, 1
        inputs, bands = 1, features
        for layer in layers:
            if len(layer.kernel) != 2 or len(layer.stride) != 2 or not all(size % 2 for size in layer.kernel):
                raise RecipeError(
                    f"[encoder] conv2d: kernel {list(layer.kernel)}, stride {list(layer.stride)}. "
                    "Give two of each, over bands and over frames, the kernel's both odd"
                )
            padding = (layer.kernel[0] // 2, layer.kernel[1] // 2)
            self.convolutions.append(nn.Conv2d(inputs, layer.channels, layer.kernel, layer.stride, padding, bias=False))
            self.norms.append(norm(layer.channels))
            self.receptive_field += (layer.kernel[1] - 1) * self.stride
            self.stride *= layer.stride[1]
            inputs, bands = layer.channels, -(-bands // layer.stride[0])
        self.channels = inputs * bands

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        # channels-last is expressed by the strides: with one channel, `contiguous(memory_format=...)` would accept any layout
        encoded = masked(features.contiguous()[..., None].permute(0, 3, 1, 2).clone(), frames)
        for layer, convolution, norm in zip(self.layers, self.convolutions, self.norms):
            frames = -(-frames // layer.stride[1])
            encoded = masked_relu(norm(convolution(encoded)), frames)
        return encoded.flatten(1, 2), frames
