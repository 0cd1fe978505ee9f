"""Encoders as ONNX nodes, on (B, D, 1, T): batch norm folded into the convolutions, every convolution over time a Conv2d of height 1.

ONNX Runtime has blocked kernels for 4-D weights only: the same convolutions with 3-D weights take about twice as long
(benchmarks/inference.py).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import nn

from carnelian.inference.export.front_end import Rows
from carnelian.inference.export.graph import FLOAT, Graph
from carnelian.models.block_spec import ACTIVATIONS
from carnelian.models.layers import Convolution, ConvolutionalEncoder, Excitation
from carnelian.models.norms import Bias, MaskedLayerNorm


def folded_weight(
    weight: np.ndarray, norm: nn.Module | None, bias: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A convolution's weight (D', D, ...) and bias (D',) that do what it and the norm after it do in evaluation."""
    bias = np.zeros(len(weight)) if bias is None else bias
    if isinstance(norm, nn.modules.batchnorm._BatchNorm):
        assert norm.running_mean is not None and norm.running_var is not None
        mean, variance = norm.running_mean.double().numpy(), norm.running_var.double().numpy()
        scale = norm.weight.detach().double().numpy() / np.sqrt(variance + norm.eps)
        shift = norm.bias.detach().double().numpy() - mean * scale
        return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), bias * scale + shift
    if isinstance(norm, Bias):
        return weight, bias + norm.bias.detach().double().numpy().ravel()
    return weight, bias


def convolution_encoder(
    graph: Graph, rows: Rows, encoder: ConvolutionalEncoder, features: str, frames: str
) -> tuple[str, str]:
    """Adds features (B, F, T), frames (B,) -> encoded (B, D, 1, O), steps (B,)."""
    encoded, lengths = conv2d_front_end(graph, rows, encoder.front, features, frames)
    inputs = [graph.add("Unsqueeze", encoded, graph.ints(2))]
    for index, (spec, block) in enumerate(zip(encoder.specs, encoder.blocks)):
        graph.scope.append(f"block_{index}")
        encoded, lengths = ConvolutionBlock(graph, rows, block).add(inputs, lengths)
        graph.scope.pop()
        inputs = [*inputs, encoded] if spec.residual == "dense" else [encoded]
    if not encoder.mask:
        outputs = graph.add("Shape", encoded, start=3, end=4)
        lengths = graph.add("Min", strided(graph, frames, encoder.stride), outputs)
    return encoded, lengths


def conv2d_front_end(graph: Graph, rows: Rows, front: Any, features: str, frames: str) -> tuple[str, str]:
    """Adds features (B, F, T), frames (B,) -> (B, D, T'), frames of those."""
    if not front.layers:
        return features, frames
    encoded = graph.add("Unsqueeze", features, graph.ints(1))
    for index, (layer, convolution, norm) in enumerate(zip(front.layers, front.convolutions, front.norms)):
        weight, bias = folded_weight(convolution.weight.detach().double().numpy(), norm)
        encoded = graph.add(
            "Conv",
            encoded,
            graph.weight(f"conv2d_{index}/weight", weight),
            graph.weight(f"conv2d_{index}/bias", bias),
            kernel_shape=layer.kernel,
            strides=layer.stride,
            pads=[size // 2 for size in layer.kernel] * 2,
        )
        frames = strided(graph, frames, layer.stride[1])
        encoded = rows.masked(graph.add("Relu", encoded), frames)
    return graph.add("Reshape", encoded, graph.ints(0, front.channels, -1)), frames


def strided(graph: Graph, lengths: str, stride: int, change: int = 0) -> str:
    """Lengths (B,) after a convolution of a stride; `change` is what it adds to a length at stride 1."""
    if stride == 1:
        return graph.add("Add", lengths, graph.ints(change)) if change else lengths
    return graph.add("Div", graph.add("Add", lengths, graph.ints(change + stride - 1)), graph.ints(stride))


class ConvolutionBlock:
    """The nodes of one `Block`."""

    def __init__(self, graph: Graph, rows: Rows, block: Any):
        self.graph, self.rows, self.block = graph, rows, block

    def add(self, inputs: Sequence[str], lengths: str) -> tuple[str, str]:
        """Adds the block; inputs are those of its residuals, the last one its own."""
        graph, block = self.graph, self.block
        encoded, frames, seen = inputs[-1], lengths, inputs[-1]
        for index, convolution in enumerate(block.convolutions):
            if index:
                encoded = self.activate(encoded, frames)
            if index and block.concatenated:
                encoded = seen = graph.add("Concat", seen, encoded, axis=1)
            encoded, frames = self.normalized(convolution, f"convolution_{index}", encoded, frames)
        if block.excitation is not None:
            encoded = self.excite(block.excitation, encoded, frames)
        for index, (source, residual) in enumerate(zip(inputs[-len(block.residuals) :], block.residuals)):
            encoded = graph.add("Add", encoded, self.normalized(residual, f"residual_{index}", source, lengths)[0])
        return self.activate(encoded, frames), frames

    def normalized(self, module: Any, name: str, encoded: str, lengths: str) -> tuple[str, str]:
        """Convolution and norm. The padding between depthwise and pointwise convolution needs no mask: the latter works on frames."""
        graph = self.graph
        graph.scope.append(name)
        if module.depthwise is not None:
            # the one bias of both convolutions is the pointwise one's
            encoded, lengths = self.convolution(module.depthwise, "depthwise", encoded, lengths, None)
        encoded, lengths = self.convolution(module.convolution, "convolution", encoded, lengths, module.norm)
        if isinstance(module.norm, MaskedLayerNorm):
            encoded = self.layer_norm(module.norm, encoded, lengths)
        if module.groups > 1:
            encoded = graph.add("Reshape", encoded, graph.ints(0, module.groups, -1, 0))
            encoded = graph.add("Transpose", encoded, perm=[0, 2, 1, 3])
            encoded = graph.add("Reshape", encoded, graph.ints(0, -1, 1, 0))
        graph.scope.pop()
        return encoded, lengths

    def convolution(
        self, module: Convolution, name: str, encoded: str, lengths: str, norm: nn.Module | None
    ) -> tuple[str, str]:
        """One convolution over time with the norm after it."""
        graph, span = self.graph, module.dilation * (module.kernel - 1)
        given = None if module.bias is None else module.bias.double().numpy()
        weight, bias = folded_weight(module.weight.detach().double().numpy(), norm, given)
        values = [graph.weight(f"{name}/weight", weight)]
        if norm is not None or given is not None:
            values.append(graph.weight(f"{name}/bias", bias))
        encoded = graph.add(
            "Conv",
            encoded,
            *values,
            kernel_shape=[1, module.kernel],
            strides=[1, module.stride],
            dilations=[1, module.dilation],
            pads=[0, module.padding[0], 0, module.padding[1]],
            group=module.groups,
        )
        return encoded, strided(graph, lengths, module.stride, sum(module.padding) - span)

    def activate(self, encoded: str, lengths: str) -> str:
        """The activation, zero past each row's length."""
        graph, function = self.graph, self.block.activation
        if function is F.relu:
            encoded = graph.add("Relu", encoded)
        elif function is F.leaky_relu:
            encoded = graph.add("LeakyRelu", encoded, alpha=0.01)
        elif function is F.silu:
            encoded = graph.add("Mul", encoded, graph.add("Sigmoid", encoded))
        elif function is ACTIVATIONS["clipped_relu"]:
            encoded = graph.add("Clip", encoded, graph.scalar(0.0), graph.scalar(20.0))
        else:
            half = graph.add("Shape", encoded, start=1, end=2)
            half = graph.add("Div", half, graph.ints(2))
            passed = graph.slice(encoded, graph.ints(0), half, axis=1)
            gate = graph.slice(encoded, half, graph.ints(np.iinfo(np.int64).max), axis=1)
            if function is ACTIVATIONS["gau"]:
                passed = graph.add("Tanh", passed)
            encoded = graph.add("Mul", passed, graph.add("Sigmoid", gate))
        return self.rows.masked(encoded, lengths)

    def excite(self, module: Excitation, encoded: str, lengths: str) -> str:
        """Squeeze-and-excitation; the average over a row's own frames is that over all, times the longest row by its own."""
        graph = self.graph
        encoded = self.rows.masked(encoded, lengths)
        mean = graph.add("GlobalAveragePool", encoded)
        longest = graph.add("Cast", self.rows.longest(lengths), to=FLOAT)
        ratio = graph.add("Div", longest, graph.add("Cast", lengths, to=FLOAT))
        mean = graph.add("Mul", mean, graph.add("Unsqueeze", ratio, graph.ints(1, 2, 3)))
        for index, linear in enumerate((module.squeeze, module.expand)):
            weight = linear.weight.detach().double().numpy()[:, :, None, None]
            mean = graph.add("Conv", mean, graph.weight(f"excitation_{index}/weight", weight), kernel_shape=[1, 1])
            mean = graph.add("Sigmoid" if index else "Relu", mean)
        return graph.add("Mul", encoded, mean)

    def layer_norm(self, module: MaskedLayerNorm, encoded: str, lengths: str) -> str:
        """Layer norm over channels and a row's own frames."""
        graph, mask, axes = self.graph, self.rows.mask(lengths), self.graph.ints(1, 2, 3)
        channels = graph.scalar(float(len(module.weight)))
        count = graph.add("Unsqueeze", graph.add("Mul", graph.add("Cast", lengths, to=FLOAT), channels), axes)

        def average(value: str) -> str:
            return graph.add("Div", graph.add("ReduceSum", value, axes, keepdims=1), count)

        mean = average(graph.add("Mul", encoded, mask))
        centred = graph.add("Mul", graph.add("Sub", encoded, mean), mask)
        variance = graph.add("Add", average(graph.add("Mul", centred, centred)), graph.scalar(float(module.eps)))
        scaled = graph.add("Div", centred, graph.add("Sqrt", variance))
        scaled = graph.add("Mul", scaled, graph.weight("norm/weight", module.weight.detach().numpy()))
        return graph.add("Add", scaled, graph.weight("norm/bias", module.bias.detach().numpy()))
