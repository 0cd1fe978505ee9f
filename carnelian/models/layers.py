"""The masked convolutional block of Wave2Letter+, Jasper, QuartzNet and Citrinet, and how it is made fast on CPU.

Activations are held as (B, D, 1, T) in channels-last memory: the 1x1 convolutions, which are most of a separable network, become
plain matrix products. The gradients of a depthwise convolution, which are slow in this layout, are computed in another way
(`DepthwiseConvolution`), and wide dense convolutions with fewer products (`convolution.toom_cook`); `benchmarks/training_step.py`
measures the gain.
"""

import math
from collections.abc import Sequence
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from carnelian.errors import RecipeError
from carnelian.models.block_spec import ACTIVATIONS, GATED, Activation, BlockSpec, Residual, half_of, shifts
from carnelian.models.conv2d import Conv2dFrontEnd, Conv2dLayer
from carnelian.models.convolution.toom_cook import ToomCookConvolution
from carnelian.models.masking import active_share, masked, masked_relu
from carnelian.models.norms import MASKED_NORMS, NORMS, Norm

FRAMES_WORTH_TRANSFORMING = 500  # of all rows of a batch; below, transforming the weight takes what the products save


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


class Convolution(nn.Module):
    """One convolution over time without bias, on (B, D, 1, T), padded to keep T but for the stride; weight (D', D / groups, 1, K).

    `later` moves it into the past: the frames that it sees fewer ahead and more behind than "same" padding gives.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        later: int = 0,
    ):
        super().__init__()
        self.kernel, self.stride, self.dilation, self.groups = kernel, stride, dilation, groups
        half = dilation * (kernel - 1) // 2
        #: zeros before and after each row
        self.padding = (half + later, half - later)
        # A dilation means nothing to a kernel of 1, but with one torch computes it by oneDNN on one thread too; MKL, which it would
        # take otherwise, needs twice as long on AMD's processors (benchmarks/inference.py, benchmarks/training_step.py).
        self.dilations = (1, 2 if kernel == 1 else dilation)
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(channels, inputs // groups, 1, kernel)))
        #: (D',), only once a batch norm is folded into the weight
        self.bias: Tensor | None = None
        #: whether the weight is (D', D) in oneDNN's order (`convolution.inference`)
        self.packed = False
        #: whether each channel has a kernel of its own, for which there are faster ways on a CPU
        self.is_depthwise = groups == inputs == channels and kernel % 2 == 1 and stride == 1
        #: whether it is dense and large: its products then take nearly all of the time
        self.is_wide = (
            groups == stride == 1
            and kernel >= 13
            and min(inputs, channels) >= 384
            and (dilation == 1 or (kernel % 2 == 1 and later == 0))
        )

    def forward(self, encoded: Tensor) -> Tensor:
        left, right = self.padding
        if self.needs_few_products(encoded):
            if self.dilation == 1:
                return ToomCookConvolution.apply(encoded, self.weight, left, right)
            half = self.kernel // 2
            rows = ToomCookConvolution.apply(interleave(encoded, self.dilation), self.weight, half, half)
            return deinterleave(rows, self.dilation, encoded.shape[-1])
        if not self.is_depthwise or encoded.device.type != "cpu" or self.bias is not None:
            encoded = F.pad(encoded, self.padding) if left != right else encoded
            return self.convolve(encoded, left if left == right else 0, self.dilations)
        if left != right:  # a convolution with "same" padding of frames that come later
            frames, encoded = encoded.shape[-1], F.pad(encoded, ((left - right) // 2, 0))
            return self.depthwise(encoded)[..., :frames]
        return self.depthwise(encoded)

    def needs_few_products(self, encoded: Tensor) -> bool:
        """Whether `ToomCookConvolution` is faster: a wide dense convolution in training on a CPU, of enough frames to be worth
        transforming the weight."""
        return (
            self.is_wide
            and encoded.device.type == "cpu"
            and torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
            and self.bias is None
            and encoded.shape[0] * encoded.shape[-1] >= FRAMES_WORTH_TRANSFORMING
        )

    def convolve(self, encoded: Tensor, padding: int, dilations: tuple[int, int]) -> Tensor:
        """The convolution with as many zeros before as after each row."""
        if self.packed:
            batch, channels, _, frames = encoded.shape
            rows = encoded.permute(0, 2, 3, 1).reshape(batch * frames, channels)
            product = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "none", [], "")
            return product.view(batch, 1, frames, -1).permute(0, 3, 1, 2)
        weight = self.weight  # read once: weight norm computes it at each access
        settings = (1, self.stride), (0, padding), dilations, self.groups
        wide = self.groups == 1 < self.kernel and weight.numel() > 2 * encoded.numel()
        if not wide or encoded.device.type != "cpu" or torch.is_grad_enabled():
            return F.conv2d(encoded, weight, self.bias, *settings)
        # oneDNN reorders the weight at each call: for channels-last activations several times as slowly as for the usual memory
        convolved = F.conv2d(encoded.contiguous(), weight, self.bias, *settings)
        return convolved.contiguous(memory_format=torch.channels_last)

    def depthwise(self, encoded: Tensor) -> Tensor:
        """The convolution on a CPU with "same" padding, where each channel has a kernel of its own."""
        if torch.is_autocast_enabled("cpu"):
            # oneDNN's half-precision kernel (torch 2.13) never returns for 16 channels or fewer and 17 taps or more
            narrow = encoded.shape[1] <= 16
            encoded = encoded.to(torch.float32 if narrow else torch.get_autocast_dtype("cpu"))
        if self.dilation == 1:
            return DepthwiseConvolution.apply(encoded, self.weight)
        rows = DepthwiseConvolution.apply(interleave(encoded, self.dilation), self.weight)
        return deinterleave(rows, self.dilation, encoded.shape[-1])

    def lengths(self, lengths: Tensor) -> Tensor:
        """Returns the output lengths for input lengths, both in frames."""
        return (lengths + sum(self.padding) - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    def without_padding(self, encoded: Tensor) -> Tensor:
        """The same convolution of frames that were padded before, or follow others."""
        if not self.is_depthwise or self.dilation == 1 or encoded.device.type != "cpu":
            return self.convolve(encoded, 0, self.dilations)
        rows = self.convolve(interleave(encoded, self.dilation), 0, (1, 1))
        return deinterleave(rows, self.dilation, encoded.shape[-1] - self.dilation * (self.kernel - 1))


class Excitation(nn.Module):
    """Squeeze-and-excitation (Hu et al., 2017, arXiv 1709.01507): each channel is scaled by a function of all channels'
    means over the row."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction, bias=False)
        self.expand = nn.Linear(channels // reduction, channels, bias=False)
        for linear in (self.squeeze, self.expand):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, encoded: Tensor, lengths: Tensor) -> Tensor:
        encoded = masked(encoded, lengths)
        with torch.autocast("cuda" if encoded.is_cuda else "cpu", enabled=False):
            mean = encoded.to(self.squeeze.weight.dtype).sum(3).squeeze(2) / lengths[:, None].clamp_min(1)
            scale = self.expand(F.relu(self.squeeze(mean))).sigmoid().to(encoded.dtype)
        return encoded * scale[:, :, None, None]


def shuffle(encoded: Tensor, groups: int) -> Tensor:
    """Returns the channels reordered, one of each group in turn, so that grouped convolutions mix them (ShuffleNet,
    arXiv 1707.01083)."""
    batch, channels, _, frames = encoded.shape
    dealt = encoded.permute(0, 3, 2, 1).reshape(batch, frames, groups, channels // groups).transpose(2, 3)
    return dealt.reshape(batch, frames, 1, channels).permute(0, 3, 2, 1)


class Normalized(nn.Module):
    """Convolution and norm; where separable, the convolution is a depthwise one over time and a pointwise one over channels."""

    def __init__(
        self,
        inputs: int,
        channels: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        separable: bool = False,
        groups: int = 1,
        norm: Norm = "batch",
        later: int = 0,
    ):
        super().__init__()
        self.groups, self.masked = groups, norm in MASKED_NORMS
        self.depthwise: Convolution | None = None
        time: dict[str, int] = {"stride": stride, "dilation": dilation, "later": later}
        if separable:
            self.depthwise = Convolution(inputs, inputs, kernel, groups=inputs, **time)
            self.convolution = Convolution(inputs, channels, 1, groups=groups)
        else:
            self.convolution = Convolution(inputs, channels, kernel, groups=groups, **time)
        if norm == "weight":
            for convolution in filter(None, (self.depthwise, self.convolution)):
                weight_norm(convolution, dim=0)
        self.norm = NORMS[norm](channels)

    def forward(self, encoded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if self.depthwise is not None:
            lengths = self.depthwise.lengths(lengths)
            encoded = self.depthwise(encoded)
            # the statistics of the norm are taken over the padding too, so what the convolution wrote there must be cleared
            encoded = masked(encoded, lengths)
        lengths = self.convolution.lengths(lengths)
        encoded = self.convolution(encoded)
        encoded = self.norm(encoded, lengths) if self.masked else self.norm(encoded)
        return shuffle(encoded, self.groups) if self.groups > 1 else encoded, lengths


class Block(nn.Module):
    """The block of convolutions that a `BlockSpec` describes. Input and output are zero past each row's length."""

    def __init__(
        self, inputs: Sequence[int], spec: BlockSpec, activation: Activation, norm: Norm, later: Sequence[int] = ()
    ):
        """`inputs`: channels of the previous block's output; for a dense residual also those of all residual inputs before it.
        `later`: of each convolution, see `Convolution`."""
        super().__init__()
        self.activation, self.dropout = ACTIVATIONS[activation], nn.Dropout(spec.dropout)
        self.concatenated = spec.residual in ("densenet", "densernet")
        wide = 2 if activation in GATED else 1
        kind: dict[str, Any] = {
            "dilation": spec.dilation,
            "separable": spec.separable,
            "groups": spec.groups,
            "norm": norm,
        }
        grown = spec.growth if self.concatenated else spec.channels
        self.convolutions = nn.ModuleList(
            Normalized(
                inputs[-1] + index * grown if self.concatenated else (grown if index else inputs[-1]),
                wide * grown,
                spec.kernel,
                stride=spec.stride if index == spec.repeat - 1 else 1,
                later=later[index] if later else 0,
                **kind,
            )
            for index in range(spec.repeat)
        )
        if self.concatenated:
            self.convolutions.append(Normalized(inputs[-1] + spec.repeat * grown, wide * spec.channels, 1, norm=norm))
        self.excitation = Excitation(wide * spec.channels, spec.excitation) if spec.excitation else None
        sources = {"none": [], "densenet": [], "dense": inputs}.get(spec.residual, inputs[-1:])
        self.residuals = nn.ModuleList(
            Normalized(source, wide * spec.channels, 1, stride=spec.stride, norm=norm) for source in sources
        )

    def activate(self, encoded: Tensor, lengths: Tensor) -> Tensor:
        if self.activation is F.relu:
            return masked_relu(encoded, lengths, active_share(self.dropout))
        return self.dropout(masked(self.activation(encoded), lengths))

    def forward(self, inputs: Sequence[Tensor], lengths: Tensor) -> tuple[Tensor, Tensor]:
        encoded, frames, seen = inputs[-1], lengths, inputs[-1]
        for index, convolution in enumerate(self.convolutions):
            if index:
                encoded = self.activate(encoded, frames)
            if index and self.concatenated:
                encoded = seen = torch.cat([seen, encoded], dim=1)
            encoded, frames = convolution(encoded, frames)
        if self.excitation is not None:
            encoded = self.excitation(encoded, frames)
        for source, residual in zip(inputs[-len(self.residuals) :], self.residuals):
            encoded = encoded + residual(source, lengths)[0]
        return self.activate(encoded, frames), frames


class ConvolutionalEncoder(nn.Module):
    """Blocks one after another: (B, F, T) features and (B,) frames -> (B, D, O) encoded and (B,) steps."""

    def __init__(
        self,
        features: int,
        blocks: Sequence[BlockSpec],
        *,
        conv2d: Sequence[Conv2dLayer] = (),
        activation: Activation = "relu",
        norm: Norm = "batch",
        mask: bool = True,
        lookahead: int | None = None,
    ):
        """`conv2d` layers come before the blocks; `activation` is one of ACTIVATIONS, `norm` one of NORMS; without
        `mask` the padding of a batch is treated as sound; `lookahead`: the output steps ahead that a step sees, by default as
        many as behind it."""
        super().__init__()
        for name, value, known in (("activation", activation, ACTIVATIONS), ("norm", norm, NORMS)):
            if value not in known:
                raise RecipeError(f'[encoder] {name} = "{value}": no such choice. Known: {", ".join(known)}')
        if not blocks:
            raise RecipeError(
                "[encoder] blocks: there are none. Give at least one, such as { channels = 256, kernel = 11 }"
            )
        self.specs, self.mask = tuple(blocks), mask
        self.channels = blocks[-1].channels
        self.front = Conv2dFrontEnd(features, conv2d)
        self.stride = self.front.stride
        #: frames that one step is computed from
        self.receptive_field: float = self.front.receptive_field
        #: frames after a step's own first one that it is computed from
        self.frames_ahead = self.front.receptive_field // 2
        later = shifts(blocks, self.front.stride, self.frames_ahead, lookahead)
        inputs, modules = [self.front.channels], []
        for spec, own in zip(blocks, later):
            if spec.residual not in get_args(Residual):
                raise RecipeError(
                    f'[encoder] residual = "{spec.residual}": no such choice. Known: {", ".join(get_args(Residual))}'
                )
            modules.append(Block(inputs, spec, activation, norm, own))
            inputs = [*inputs, spec.channels] if spec.residual == "dense" else [spec.channels]
            self.receptive_field += spec.repeat * (spec.kernel - 1) * spec.dilation * self.stride
            self.frames_ahead += (spec.repeat * half_of(spec) - sum(own)) * self.stride
            self.stride *= spec.stride
        if norm == "layer" or any(spec.excitation for spec in blocks):
            self.receptive_field = math.inf
        self.blocks = nn.ModuleList(modules)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        lengths = frames if self.mask else torch.full_like(frames, features.shape[-1])
        if self.front.layers:
            encoded, lengths = self.front(features, lengths)
        else:
            encoded = masked(features.clone(), lengths)
        inputs = [encoded.unsqueeze(2).contiguous(memory_format=torch.channels_last)]
        for spec, block in zip(self.specs, self.blocks):
            encoded, lengths = block(inputs, lengths)
            inputs = [*inputs, encoded] if spec.residual == "dense" else [encoded]
        if not self.mask:
            lengths = (-(-frames // self.stride)).clamp_max(encoded.shape[-1])
        return encoded.squeeze(2), lengths
