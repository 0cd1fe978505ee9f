"""A convolutional encoder fed piece by piece, exactly: each convolution keeps the inputs that later outputs need, and nothing is
computed twice."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from carnelian.errors import RecipeError
from carnelian.models.layers import Block, ConvolutionalEncoder, Normalized, shuffle
from carnelian.models.norms import MaskedLayerNorm


def why_not_by_pieces(encoder: ConvolutionalEncoder) -> str:
    """The reason why an encoder cannot be fed piece by piece; empty if it can."""
    if any(isinstance(block, Block) and block.excitation is not None for block in encoder.blocks):
        return "its squeeze-and-excitation takes means over the whole recording"
    if any(isinstance(module, MaskedLayerNorm) for module in encoder.modules()):
        return "its layer norm takes means over the whole recording"
    return ""


class ConvolutionStream:
    """One convolution over the last axis: its inputs are padded with zeros before the first and after the last piece only."""

    def __init__(
        self,
        convolve: Callable[[Tensor], Tensor],
        *,
        channels: int,
        span: int,
        stride: int,
        padding: tuple[int, int],
        band_stride: int = 1,
    ):
        """`convolve` pads nothing over time and gives `channels`, and of the bands H each `band_stride`-th; an output is made from
        `span` inputs, `padding` are the zeros before and after all inputs."""
        self.convolve, self.channels, self.band_stride = convolve, channels, band_stride
        self.span, self.stride, self.padding = span, stride, padding
        self.kept: Tensor | None = None  # inputs from the next output's first one on
        self.skipped = 0  # inputs still to come that no output is made from: the stride is longer than the span

    def step(self, encoded: Tensor, last: bool = False) -> Tensor:
        """(B, D, H, T) next inputs, T also 0 -> (B, D', H', T') next outputs; with `last` those that are left."""
        left, right = self.padding
        pieces = [encoded.new_zeros(*encoded.shape[:-1], left) if self.kept is None else self.kept, encoded]
        if last:
            pieces.append(encoded.new_zeros(*encoded.shape[:-1], right))
        inputs = torch.cat(pieces, -1)
        inputs, self.skipped = inputs[..., self.skipped :], max(0, self.skipped - inputs.shape[-1])
        count = max(0, (inputs.shape[-1] - self.span) // self.stride + 1)
        self.kept = inputs[..., count * self.stride :]
        self.skipped += max(0, count * self.stride - inputs.shape[-1])
        if not count:
            return inputs.new_zeros(len(inputs), self.channels, -(-inputs.shape[2] // self.band_stride), 0)
        return self.convolve(inputs[..., : (count - 1) * self.stride + self.span])


class Aligned:
    """Several sequences that come at different times: of all those frames that all of them have."""

    def __init__(self) -> None:
        self.waiting: list[Tensor] = []

    def step(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """Next pieces (B, D, 1, T) of each sequence -> the next frames of each, as many of each."""
        if self.waiting:
            pieces = [torch.cat(pair, -1) if pair[0].shape[-1] else pair[1] for pair in zip(self.waiting, pieces)]
        count = min(piece.shape[-1] for piece in pieces)
        self.waiting = [piece[..., count:] for piece in pieces]
        return [piece[..., :count] for piece in pieces]


class NormalizedStream:
    """`Normalized` fed piece by piece."""

    def __init__(self, module: Normalized):
        self.module = module
        convolutions = [each for each in (module.depthwise, module.convolution) if each is not None]
        self.convolutions = [
            ConvolutionStream(
                each.without_padding,
                channels=each.weight.shape[0],
                span=each.dilation * (each.kernel - 1) + 1,
                stride=each.stride,
                padding=each.padding,
            )
            for each in convolutions
        ]

    def step(self, encoded: Tensor, last: bool) -> Tensor:
        for convolution in self.convolutions:
            encoded = convolution.step(encoded, last)
        if not encoded.shape[-1]:
            return encoded
        lengths = torch.full((len(encoded),), encoded.shape[-1], device=encoded.device)
        encoded = self.module.norm(encoded, lengths) if self.module.masked else self.module.norm(encoded)
        return shuffle(encoded, self.module.groups) if self.module.groups > 1 else encoded


class BlockStream:
    """`Block` fed piece by piece; what comes early at a sum waits for the rest."""

    def __init__(self, block: Any):
        self.block = block
        self.convolutions = [NormalizedStream(each) for each in block.convolutions]
        self.residuals = [NormalizedStream(each) for each in block.residuals]
        self.concatenations = [Aligned() for _ in block.convolutions]
        self.sum = Aligned()

    def step(self, inputs: Sequence[Tensor], last: bool) -> Tensor:
        """Next pieces of the inputs of the block and of the residuals, the block's own at the end -> its next outputs."""
        encoded = seen = inputs[-1]
        for index, convolution in enumerate(self.convolutions):
            if index:
                encoded = self.activate(encoded)
            if index and self.block.concatenated:
                encoded = seen = torch.cat(self.concatenations[index].step([seen, encoded]), 1)
            encoded = convolution.step(encoded, last)
        sources = inputs[len(inputs) - len(self.residuals) :]
        terms = [encoded, *(residual.step(source, last) for source, residual in zip(sources, self.residuals))]
        total, *others = self.sum.step(terms)
        for other in others:
            total = total + other
        return self.activate(total)

    def activate(self, encoded: Tensor) -> Tensor:
        return self.block.activate(encoded, torch.full((len(encoded),), encoded.shape[-1], device=encoded.device))


class ConvolutionalStream:
    """Feeds an encoder in evaluation mode with features as they come; all outputs together equal those of the whole recording.

    A step comes out once the frames that it sees are there. Raises RecipeError for an encoder that looks at the whole recording.
    """

    def __init__(self, encoder: ConvolutionalEncoder):
        if reason := why_not_by_pieces(encoder):
            raise RecipeError(f"this encoder cannot be fed piece by piece: {reason}. Recognize whole recordings")
        self.encoder, front = encoder, encoder.front
        self.front = [
            (_front_stream(layer, convolution), norm)
            for layer, convolution, norm in zip(front.layers, front.convolutions, front.norms)
        ]
        self.blocks = [BlockStream(block) for block in encoder.blocks]
        self.frames = self.steps = 0
        self.empty: Tensor | None = None

    def step(self, features: Tensor, last: bool = False) -> Tensor:
        """(B, F, T) new features, T of any size also 0 -> (B, D, O) new outputs."""
        self.frames += features.shape[-1]
        self.empty = features[..., :0]
        encoded = features.unsqueeze(1) if self.front else features.unsqueeze(2)
        for convolution, norm in self.front:
            encoded = convolution.step(encoded, last)
            encoded = norm(encoded).relu() if encoded.shape[-1] else encoded
        if self.front:
            encoded = encoded.reshape(len(encoded), self.encoder.front.channels, 1, encoded.shape[-1])
        inputs = [encoded.contiguous(memory_format=torch.channels_last)]
        for spec, block in zip(self.encoder.specs, self.blocks):
            encoded = block.step(inputs, last)
            inputs = [*inputs, encoded] if spec.residual == "dense" else [encoded]
        self.steps += encoded.shape[-1]
        return encoded.squeeze(2)

    def finish(self, padded_to: int = 0) -> Tensor:
        """(B, D, O): the outputs that are left at the end of the recording.

        Where padding counts as sound, the features are first padded with zeros to `padded_to` frames in all.
        """
        if self.empty is None:
            raise ValueError("the stream got no features")
        if self.encoder.mask:
            return self.step(self.empty, last=True)
        steps, before = -(-self.frames // self.encoder.stride), self.steps
        padding = max(0, padded_to - self.frames)
        encoded = self.step(nn.functional.pad(self.empty, (0, padding)), last=True)
        return encoded[..., : max(0, steps - before)]


def _front_stream(layer: Any, convolution: Any) -> ConvolutionStream:
    """A 2-D convolution of the front end, fed along its frames."""
    bands, frames = layer.kernel

    def convolve(encoded: Tensor) -> Tensor:
        padding = (bands // 2, 0)
        return nn.functional.conv2d(encoded, convolution.weight, convolution.bias, convolution.stride, padding)

    return ConvolutionStream(
        convolve,
        channels=layer.channels,
        span=frames,
        stride=layer.stride[1],
        padding=(frames // 2, frames // 2),
        band_stride=layer.stride[0],
    )
