"""Depthwise convolutions over time in channels-last memory, and their gradients on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor


def interleave(encoded: Tensor, dilation: int) -> Tensor:
    """Returns (B, D, 1, T) as (B * dilation, D, 1, T / dilation): each dilation-th frame in a row of its own, T padded with zeros."""
    batch, channels, _, frames = encoded.shape
    rows = F.pad(encoded, (0, -frames % dilation)).permute(0, 2, 3, 1)
    rows = rows.reshape(batch, -1, dilation, channels).transpose(1, 2).reshape(batch * dilation, 1, -1, channels)
    # the axis of one must come before the frames: behind them, the strides do not count as channels-last
    return rows.permute(0, 3, 1, 2)


def deinterleave(encoded: Tensor, dilation: int, frames: int) -> Tensor:
    """Returns the input of `interleave` from its output: (B * dilation, D, 1, T / dilation) to (B, D, 1, frames)."""
    rows, channels, _, length = encoded.shape
    batch = rows // dilation
    whole = encoded.permute(0, 2, 3, 1).reshape(batch, dilation, length, channels).transpose(1, 2)
    return whole.reshape(batch, 1, length * dilation, channels)[:, :, :frames].permute(0, 3, 1, 2)


def channels_first(encoded: Tensor) -> Tensor:
    """Returns (B, D, 1, T) in channels-last memory as a new contiguous (D, B, T), through a matrix transpose, which is
    the fastest way."""
    batch, channels, _, frames = encoded.shape
    rows = encoded.permute(0, 2, 3, 1).reshape(batch * frames, channels)
    return torch.empty_like(rows).view(channels, -1).copy_(rows.t()).view(channels, batch, frames)


def depthwise_weight_gradient(encoded: Tensor, gradient: Tensor, kernel: int) -> Tensor:
    """Returns the gradient (D, 1, 1, K) of the weight of a "same" depthwise convolution, from its input and its output's gradient.

    A block of gradient frames times the window of input frames that it depends on is a Toeplitz-like matrix product, done for all
    blocks in one batched product; tap k of the kernel is the sum of the k-th diagonal. This is what makes a training step fast
    (`benchmarks/training_step.py`): oneDNN computes this gradient many times slower.
    """
    batch, channels, _, frames = encoded.shape
    block = 48 if kernel > 16 else 16  # frames of gradient in a product: wider wastes work, narrower loses speed
    blocks = -(-frames // block)
    tail, window = blocks * block - frames, block + kernel - 1
    gradients = F.pad(channels_first(gradient), (0, tail)).view(channels, batch * blocks, block)
    padded = F.pad(channels_first(encoded), (kernel // 2, kernel // 2 + tail))
    windows = padded.unfold(2, window, block).reshape(channels, batch * blocks, window)
    products = torch.bmm(gradients.transpose(1, 2), windows)
    diagonals = products.as_strided((channels, block, kernel), (block * window, window + 1, 1))
    return diagonals.sum(1, dtype=torch.promote_types(diagonals.dtype, torch.float32)).view(channels, 1, 1, kernel)


class DepthwiseConvolution(torch.autograd.Function):
    """A depthwise convolution of odd kernel, stride 1, "same" padding, whose gradients are computed by
    `depthwise_weight_gradient` and a flipped convolution."""

    @staticmethod
    def forward(ctx, encoded, weight):
        ctx.save_for_backward(encoded, weight)
        with torch.autocast(encoded.device.type, enabled=False):
            return F.conv2d(encoded, weight.to(encoded.dtype), padding="same", groups=encoded.shape[1])

    @staticmethod
    def backward(ctx, gradient):
        encoded, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        to_input = None
        with torch.autocast(encoded.device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                flipped = weight.flip(-1).to(gradient.dtype)
                to_input = F.conv2d(gradient, flipped, padding="same", groups=gradient.shape[1])
            to_weight = depthwise_weight_gradient(encoded, gradient, weight.shape[-1])
        return to_input, to_weight.to(weight.dtype)
