"""The masked convolutional block of Wave2Letter+, Jasper, QuartzNet and Citrinet, fast on CPU, and nobody else's business how.

Activations are held as (B, D, 1, T) in channels-last memory: the 1x1 convolutions, which are most of a separable network, become
plain matrix products. What that layout makes slow (the gradients of a depthwise convolution) is computed in another way below.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK_FRAMES = (
    32  # frames of gradient per matrix product in a depthwise weight gradient: wider wastes work, narrower loses speed
)


def silence(encoded: Tensor, lengths: Tensor) -> Tensor:
    """The same tensor (B, D, 1, T) with all frames at and past each row's length set to zero, in place."""
    frames = encoded.shape[-1]
    if encoded.device.type == "cpu":  # touch only the padding, which is little
        for row, length in enumerate(lengths.tolist()):
            if length < frames:
                encoded[row, ..., length:] = 0
        return encoded
    padding = torch.arange(frames, device=encoded.device) >= lengths[:, None]
    return encoded.masked_fill_(padding[:, None, None], 0)


class _Silence(torch.autograd.Function):
    """Zero past each row's length, in place, and in the gradients."""

    @staticmethod
    def forward(ctx, encoded, lengths):
        ctx.mark_dirty(encoded)
        ctx.save_for_backward(lengths)
        return silence(encoded, lengths)

    @staticmethod
    def backward(ctx, gradient):
        (lengths,) = ctx.saved_tensors
        return silence(gradient.clone(), lengths), None


def silenced(encoded: Tensor, lengths: Tensor) -> Tensor:
    """Activations that nobody else holds, made zero past each row's length, with the gradient to match."""
    if not encoded.requires_grad:
        return silence(encoded, lengths)
    if encoded.device.type == "cpu" and int(lengths.min()) >= encoded.shape[-1]:
        return encoded
    return _Silence.apply(encoded, lengths)


class _ReluSilence(torch.autograd.Function):
    """ReLU, then zero past each row's length, in place: the zeros that are kept for the gradient of the one serve the other."""

    @staticmethod
    def forward(ctx, encoded, lengths):
        ctx.mark_dirty(encoded)
        activated = silence(encoded.relu_(), lengths)
        ctx.save_for_backward(activated)
        return activated

    @staticmethod
    def backward(ctx, gradient):
        (activated,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradient, activated, 0), None


def interleave(encoded: Tensor, dilation: int) -> Tensor:
    """(B, D, 1, T) as (B * dilation, D, 1, T / dilation): every dilation-th frame is a sequence of its own."""
    batch, channels, _, frames = encoded.shape
    rows = F.pad(encoded, (0, -frames % dilation)).permute(0, 3, 2, 1)
    rows = rows.reshape(batch, -1, dilation, channels).transpose(1, 2).reshape(batch * dilation, -1, 1, channels)
    return rows.permute(0, 3, 2, 1)


def deinterleave(encoded: Tensor, dilation: int, frames: int) -> Tensor:
    """What `interleave` was given, cut to its frames."""
    rows, channels, _, length = encoded.shape
    batch = rows // dilation
    whole = encoded.permute(0, 3, 2, 1).reshape(batch, dilation, length, channels).transpose(1, 2)
    return whole.reshape(batch, length * dilation, 1, channels)[:, :frames].permute(0, 3, 2, 1)


def depthwise_weight_gradient(encoded: Tensor, gradient: Tensor, kernel: int) -> Tensor:
    """The gradient (D, 1, 1, K) of a "same" depthwise convolution's weight, from its input and its output's gradient.

    Blocks of gradient frames times the windows of input frames they saw is one batched matrix product; tap k of the kernel is the
    sum along the k-th diagonal of the result.
    """
    batch, channels, _, frames = encoded.shape
    blocks = -(-frames // BLOCK_FRAMES)
    tail = blocks * BLOCK_FRAMES - frames
    window = BLOCK_FRAMES + kernel - 1
    gradients = F.pad(gradient[:, :, 0].permute(1, 0, 2), (0, tail)).reshape(channels, batch * blocks, BLOCK_FRAMES)
    padded = F.pad(encoded[:, :, 0].permute(1, 0, 2), (kernel // 2, kernel // 2 + tail)).contiguous()
    windows = padded.unfold(2, window, BLOCK_FRAMES).reshape(channels, batch * blocks, window)
    products = torch.bmm(gradients.transpose(1, 2), windows)
    diagonals = products.as_strided((channels, BLOCK_FRAMES, kernel), (BLOCK_FRAMES * window, window + 1, 1))
    return diagonals.float().sum(1).view(channels, 1, 1, kernel)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution of odd kernel, stride 1, "same" padding, with both gradients computed the quick way."""

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


class Convolution(nn.Module):
    """One convolution over time without bias, on (B, D, 1, T), padded to keep T but for the stride; weight (D', D / groups, 1, K)."""

    def __init__(self, inputs: int, channels: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1):
        super().__init__()
        self.kernel, self.stride, self.dilation, self.groups = kernel, stride, dilation, groups
        self.padding = dilation * (kernel - 1) // 2
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(channels, inputs // groups, 1, kernel)))

    def forward(self, encoded: Tensor) -> Tensor:
        depthwise = (
            self.groups == encoded.shape[1] == self.weight.shape[0] and self.kernel % 2 == 1 and self.stride == 1
        )
        if not depthwise or encoded.device.type != "cpu":
            settings = (1, self.stride), (0, self.padding), (1, self.dilation), self.groups
            return F.conv2d(encoded, self.weight, None, *settings)
        if torch.is_autocast_enabled("cpu"):
            encoded = encoded.to(torch.get_autocast_dtype("cpu"))
        if self.dilation == 1:
            return _Depthwise.apply(encoded, self.weight)
        rows = _Depthwise.apply(interleave(encoded, self.dilation), self.weight)
        return deinterleave(rows, self.dilation, encoded.shape[-1])

    def lengths(self, lengths: Tensor) -> Tensor:
        """How many frames come out for so many frames in."""
        return (lengths + 2 * self.padding - self.dilation * (self.kernel - 1) - 1) // self.stride + 1


@dataclass(frozen=True)
class Row:
    """A line of a paper's table: `repeat` times convolution, batch norm, activation, dropout, with a residual around them.

    `residual` is "none", "plain" (from the row's input) or "dense" (from the inputs of this and every residual row before it).
    """

    channels: int
    kernel: int
    repeat: int = 1
    stride: int = 1
    dilation: int = 1
    dropout: float = 0.0
    residual: str = "none"
    separable: bool = False
    groups: int = 1


class Normalized(nn.Module):
    """Convolution and batch norm; where separable, the convolution is a depthwise one over time and a pointwise one over channels."""

    def __init__(
        self, inputs: int, channels: int, kernel: int, stride: int, dilation: int, separable: bool, groups: int
    ):
        super().__init__()
        time = {"stride": stride, "dilation": dilation}
        self.depthwise = Convolution(inputs, inputs, kernel, **time, groups=inputs) if separable else None
        self.convolution = Convolution(
            inputs, channels, 1 if separable else kernel, groups=groups, **({} if separable else time)
        )
        self.norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.1)

    def forward(self, encoded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if self.depthwise is not None:
            lengths = self.depthwise.lengths(lengths)
            encoded = self.depthwise(encoded)
            # the statistics of the norm are taken over the padding too, so what the kernel smeared into it must go
            encoded = silenced(encoded, lengths)
        lengths = self.convolution.lengths(lengths)
        return self.norm(self.convolution(encoded)), lengths


class Block(nn.Module):
    """A `Row` at work. Gets and gives activations that are zero past each row's length."""

    def __init__(self, inputs: Sequence[int], row: Row, activation: Callable[[Tensor], Tensor]):
        """`inputs`: the channels of what enters: the row before's last, and for a dense residual all those before it."""
        super().__init__()
        self.activation, self.dropout = activation, nn.Dropout(row.dropout)
        channels = [inputs[-1]] + [row.channels] * row.repeat
        self.convolutions = nn.ModuleList(
            Normalized(
                channels[index],
                channels[index + 1],
                row.kernel,
                row.stride if index == 0 else 1,
                row.dilation,
                row.separable,
                row.groups,
            )
            for index in range(row.repeat)
        )
        sources = {"none": [], "plain": inputs[-1:], "dense": inputs}[row.residual]
        self.residuals = nn.ModuleList(
            Normalized(source, row.channels, 1, row.stride, 1, False, row.groups) for source in sources
        )

    def activate(self, encoded: Tensor, lengths: Tensor) -> Tensor:
        if self.activation is F.relu:
            return self.dropout(_ReluSilence.apply(encoded, lengths))
        return self.dropout(silenced(self.activation(encoded), lengths))

    def forward(self, inputs: Sequence[Tensor], lengths: Tensor) -> tuple[Tensor, Tensor]:
        encoded, frames = inputs[-1], lengths
        for index, convolution in enumerate(self.convolutions):
            if index:
                encoded = self.activate(encoded, frames)
            encoded, frames = convolution(encoded, frames)
        for source, residual in zip(inputs[-len(self.residuals) :], self.residuals):
            encoded = encoded + residual(source, lengths)[0]
        return self.activate(encoded, frames), frames


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "clipped_relu": lambda encoded: F.hardtanh(encoded, 0, 20),
    "leaky_relu": F.leaky_relu,
    "swish": F.silu,
}


class ConvolutionalEncoder(nn.Module):
    """Rows one after another: (B, F, T) features and (B,) frames -> (B, D, O) encoded and (B,) steps."""

    def __init__(self, features: int, rows: Sequence[Row], *, activation: str = "relu"):
        super().__init__()
        self.rows = tuple(rows)
        self.channels = rows[-1].channels
        self.stride = 1
        inputs, blocks = [features], []
        for row in rows:
            blocks.append(Block(inputs, row, ACTIVATIONS[activation]))
            inputs = [*inputs, row.channels] if row.residual == "dense" else [row.channels]
            self.stride *= row.stride
        self.blocks = nn.ModuleList(blocks)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        lengths, encoded = frames, features.unsqueeze(2).clone(memory_format=torch.channels_last)
        inputs = [silenced(encoded, lengths)]
        for row, block in zip(self.rows, self.blocks):
            encoded, lengths = block(inputs, lengths)
            inputs = [*inputs, encoded] if row.residual == "dense" else [encoded]
        return encoded.squeeze(2), lengths


def convolutional(features: int = 64, *, rows: Sequence[dict], activation: str = "relu") -> ConvolutionalEncoder:
    """An encoder from rows given one by one, each a table of `Row`'s fields: other people's networks, and your own."""
    return ConvolutionalEncoder(features, [Row(**row) for row in rows], activation=activation)
