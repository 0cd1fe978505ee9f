"""The masked convolutional block of Wave2Letter+, Jasper, QuartzNet and Citrinet, and how it is made fast on CPU.

Activations are held as (B, D, 1, T) in channels-last memory: the 1x1 convolutions, which are most of a separable network, become
plain matrix products. The gradients of a depthwise convolution, which are slow in
this layout, are computed in another way (`depthwise`); `benchmarks/training_step.py` measures the gain.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized

from carnelian.errors import RecipeError
from carnelian.models.conv2d import Conv2dFrontEnd, Conv2dLayer
from carnelian.models.depthwise import DepthwiseConvolution, deinterleave, interleave
from carnelian.models.masking import masked, masked_relu
from carnelian.models.norms import MASKED_NORMS, NORMS, Norm
from carnelian.ranges import Fraction, NonNegativeInt, PositiveInt


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
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(channels, inputs // groups, 1, kernel)))
        #: (D',), only once a batch norm is folded into the weight
        self.bias: Tensor | None = None

    def forward(self, encoded: Tensor) -> Tensor:
        weight = self.weight  # read once: weight norm computes it at each access
        depthwise = self.groups == encoded.shape[1] == weight.shape[0] and self.kernel % 2 == 1 and self.stride == 1
        left, right = self.padding
        if not depthwise or encoded.device.type != "cpu" or self.bias is not None:
            encoded = F.pad(encoded, self.padding) if left != right else encoded
            settings = (1, self.stride), (0, left if left == right else 0), (1, self.dilation), self.groups
            return F.conv2d(encoded, weight, self.bias, *settings)
        if left != right:  # a convolution with "same" padding of frames that come later
            frames, encoded = encoded.shape[-1], F.pad(encoded, ((left - right) // 2, 0))
            return self.depthwise(encoded, weight)[..., :frames]
        return self.depthwise(encoded, weight)

    def depthwise(self, encoded: Tensor, weight: Tensor) -> Tensor:
        """The convolution on a CPU with "same" padding, where each channel has a kernel of its own."""
        if torch.is_autocast_enabled("cpu"):
            # oneDNN's half-precision kernel (torch 2.13) never returns for 16 channels or fewer and 17 taps or more
            narrow = encoded.shape[1] <= 16
            encoded = encoded.to(torch.float32 if narrow else torch.get_autocast_dtype("cpu"))
        if self.dilation == 1:
            return DepthwiseConvolution.apply(encoded, weight)
        rows = DepthwiseConvolution.apply(interleave(encoded, self.dilation), weight)
        return deinterleave(rows, self.dilation, encoded.shape[-1])

    def lengths(self, lengths: Tensor) -> Tensor:
        """Returns the output lengths for input lengths, both in frames."""
        return (lengths + sum(self.padding) - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    def without_padding(self, encoded: Tensor) -> Tensor:
        """The same convolution of frames that were padded before, or follow others."""
        return F.conv2d(encoded, self.weight, self.bias, (1, self.stride), 0, (1, self.dilation), self.groups)


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
            return masked_relu(encoded, lengths, self.dropout.p if self.training else 0.0)
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


def fold_batch_norm(model: nn.Module) -> None:
    """Folds each batch norm into the convolution before it, in place; the model is then only for evaluation, and faster on a CPU."""
    for module in model.modules():
        if (
            isinstance(module, Normalized)
            and isinstance(module.norm, nn.BatchNorm2d)
            and not is_parametrized(module.convolution)
        ):
            norm, convolution = module.norm, module.convolution
            assert norm.running_mean is not None and norm.running_var is not None
            scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            weight = convolution.weight.double() * scale[:, None, None, None]
            convolution.weight = nn.Parameter(weight.to(convolution.weight.dtype), requires_grad=False)
            shift = norm.bias.double() - norm.running_mean.double() * scale
            del convolution.bias
            convolution.register_buffer("bias", shift.detach().to(convolution.weight.dtype))
            module.norm, module.masked = nn.Identity(), False
