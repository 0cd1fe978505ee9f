"""Convolutions over bands and frames, ahead of an encoder: what moves along the bands, as voices do, stays itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from carnelian.errors import RecipeError
from carnelian.models.norms import batch_norm
from carnelian.models.silence import relu_silenced, silenced


@dataclass(frozen=True)
class Plane:
    """A convolution over both axes, norm and ReLU; kernel (odd) and stride over bands, then over frames."""

    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)


class Planes(nn.Module):
    """(B, F, T) features and (B,) frames -> (B, D, T') and (B,) frames of those, zero past them.

    D is the last plane's channels times the bands it leaves. Without planes it is the features themselves.
    """

    def __init__(self, features: int, planes: Sequence[Plane], *, norm: Callable[[int], nn.Module] = batch_norm):
        super().__init__()
        self.planes = tuple(planes)
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        #: frames that a step is made from, and frames that it moves on
        self.receptive_field, self.stride = 1, 1
        inputs, bands = 1, features
        for plane in planes:
            if len(plane.kernel) != 2 or len(plane.stride) != 2 or not all(size % 2 for size in plane.kernel):
                raise RecipeError(
                    f"[encoder] planes: kernel {list(plane.kernel)}, stride {list(plane.stride)}. "
                    "Give two of each, over bands and over frames, the kernel's both odd"
                )
            padding = (plane.kernel[0] // 2, plane.kernel[1] // 2)
            self.convolutions.append(nn.Conv2d(inputs, plane.channels, plane.kernel, plane.stride, padding, bias=False))
            self.norms.append(norm(plane.channels))
            self.receptive_field += (plane.kernel[1] - 1) * self.stride
            self.stride *= plane.stride[1]
            inputs, bands = plane.channels, -(-bands // plane.stride[0])
        self.channels = inputs * bands

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        # channels last, told by the strides: of one channel `contiguous` would take any layout to be that
        encoded = silenced(features.contiguous()[..., None].permute(0, 3, 1, 2).clone(), frames)
        for plane, convolution, norm in zip(self.planes, self.convolutions, self.norms):
            frames = -(-frames // plane.stride[1])
            encoded = relu_silenced(norm(convolution(encoded)), frames)
        return encoded.flatten(1, 2), frames
