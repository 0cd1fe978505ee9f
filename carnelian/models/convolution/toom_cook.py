"""Dense convolutions over time with long kernels, in a third to a half of the products, for training on a CPU.

The frames are cut into tiles of m and the kernel into pieces of m taps (the last filled with zeros). The m outputs that one piece
of the kernel makes of the 2 m - 1 frames before them take 2 m - 1 products of linear combinations instead of m^2 (Toom-Cook, known
from Winograd's convolutions: Lavin and Gray, 2016, arXiv 1509.09308), and each of these products is again a convolution, of tiles
with the pieces of the kernel. Its gradients are computed in the same way. Rounding errors are below 1e-5 of the result's size.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

#: where the polynomials are evaluated, besides infinity; these and the tile sizes were chosen for small rounding errors
POINTS = (0, 1, -1, 1 / 2, -1 / 2, 2, -2, 3 / 4, -3 / 4, 3 / 2)
TILES = (4, 5, 6)


def tile_size(kernel: int) -> int:
    """Returns the number of frames in a tile that takes the fewest products for an output."""
    return min(TILES, key=lambda tile: (2 * tile - 1) * -(-kernel // tile) / tile)


@cache
def transforms(tile: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the matrices of outputs (N, tile), of weights (N, tile) and of inputs (N, N), where N = 2 tile - 1.

    The outputs are outputs^T ((weights @ taps) * (inputs @ frames)).
    """
    count = 2 * tile - 1
    powers = torch.tensor(POINTS[: count - 1], dtype=torch.float64)[:, None] ** torch.arange(count)
    whole = torch.cat([powers, torch.eye(count, dtype=torch.float64)[-1:]])
    evaluated = torch.cat([powers[:, :tile], torch.eye(tile, dtype=torch.float64)[-1:]])
    inputs = torch.linalg.inv(whole).T
    scale = inputs.abs().amax(1, keepdim=True)  # so that all values are of similar size
    return evaluated.to(dtype), (evaluated * scale).to(dtype), (inputs / scale).to(dtype)


def weight_planes(weight: Tensor, tile: int) -> Tensor:
    """Returns the transformed weight (N, D', D, 1, pieces) of a weight (D', D, 1, K)."""
    channels, inputs, _, kernel = weight.shape
    pieces = -(-kernel // tile)
    taps = F.pad(weight.reshape(-1, kernel), (0, pieces * tile - kernel)).view(-1, tile)
    return (transforms(tile, weight.dtype)[1] @ taps.t()).view(-1, channels, inputs, 1, pieces)


def input_planes(encoded: Tensor, tile: int, left: int, windows: int) -> Tensor:
    """Returns the transformed input (N, B, D, 1, windows) of (B, D, 1, T), with `left` zeros before each row."""
    batch, channels, _, frames = encoded.shape
    length = (windows + 1) * tile
    padded = F.pad(encoded.contiguous().view(batch, channels, frames), (left, length - frames - left))
    windowed = padded.unfold(2, 2 * tile - 1, tile).permute(3, 0, 1, 2).reshape(2 * tile - 1, -1)
    return (transforms(tile, encoded.dtype)[2] @ windowed).view(-1, batch, channels, 1, windows)


class ToomCookConvolution(torch.autograd.Function):
    """A dense convolution of (B, D, 1, T) with a weight (D', D, 1, K), with `left` and `right` zeros around each row."""

    @staticmethod
    def forward(ctx, encoded, weight, left, right):
        ctx.save_for_backward(encoded, weight)
        tile, kernel = tile_size(weight.shape[-1]), weight.shape[-1]
        frames = encoded.shape[-1] + left + right - kernel + 1
        tiles = -(-frames // tile)
        ctx.tile, ctx.left, ctx.tiles = tile, left, tiles
        inputs = input_planes(encoded, tile, left, tiles - 1 + -(-kernel // tile))
        weights = weight_planes(weight, tile)
        products = torch.stack([F.conv2d(*planes) for planes in zip(inputs, weights)])
        outputs = transforms(tile, encoded.dtype)[0].t() @ products.flatten(1)
        outputs = outputs.view(tile, len(encoded), -1, tiles).permute(1, 3, 0, 2)
        outputs = outputs.reshape(len(encoded), 1, tiles * tile, -1)[:, :, :frames].permute(0, 3, 1, 2)
        return outputs.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx, gradient):
        encoded, weight = ctx.saved_tensors
        tile, left, tiles = ctx.tile, ctx.left, ctx.tiles
        outputs_matrix, weights_matrix, inputs_matrix = transforms(tile, encoded.dtype)
        batch, channels, _, frames = gradient.shape
        kernel = weight.shape[-1]
        inputs, weights = input_planes(encoded, tile, left, tiles - 1 + -(-kernel // tile)), weight_planes(weight, tile)
        padded = F.pad(gradient.contiguous().view(batch, channels, frames), (0, tiles * tile - frames))
        tiled = padded.view(batch, channels, tiles, tile).permute(3, 0, 1, 2).reshape(tile, -1)
        products = (outputs_matrix @ tiled).view(-1, batch, channels, 1, tiles)
        to_inputs, to_weights = torch.empty_like(inputs), torch.empty_like(weights)
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], False]
        settings = None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, wanted
        for index, planes in enumerate(zip(products, inputs, weights)):
            of_input, of_weight, _ = torch.ops.aten.convolution_backward(*planes, *settings)
            if wanted[0]:
                to_inputs[index] = of_input
            if wanted[1]:
                to_weights[index] = of_weight
        to_encoded = to_weight = None
        if wanted[0]:
            to_encoded = overlap_add(inputs_matrix.t() @ to_inputs.flatten(1), encoded, tile, left)
        if wanted[1]:
            taps = (weights_matrix.t() @ to_weights.flatten(1)).t().reshape(weight[..., 0].numel(), -1)
            to_weight = taps[:, :kernel].reshape(weight.shape)
        return to_encoded, to_weight, None, None


def overlap_add(windows: Tensor, like: Tensor, tile: int, left: int) -> Tensor:
    """Returns (B, D, 1, T), shaped as `like`, from windows (2 tile - 1, B * D * windows), each `tile` frames after the one before."""
    batch, channels, _, frames = like.shape
    windows = windows.view(len(windows), batch, channels, -1)
    added = windows.new_zeros(batch, channels, windows.shape[-1] + 1, tile)
    added[:, :, :-1] += windows[:tile].permute(1, 2, 3, 0)
    added[:, :, 1:, :-1] += windows[tile:].permute(1, 2, 3, 0)
    summed = added.view(batch, channels, 1, -1)[..., left : left + frames]
    return summed.contiguous(memory_format=torch.channels_last)
