"""Convolutions of an exported model in 8 bits: static quantisation by QDQ nodes, per output channel.

The front end, the first and the last convolution and squeeze-and-excitation stay float32, and residual sums are computed in float32.
Sources: Krishnamoorthi, 2018, arXiv 1806.08342; ONNX Runtime's documentation of quantisation.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from carnelian.errors import CarnelianError
from carnelian.inference.export.graph import (
    GraphNode,
    OnnxModel,
    add_outputs,
    array_of,
    copy_model,
    dequantized,
    identity,
    qdq_nodes,
    rebuild,
)
from carnelian.inference.onnx_engine import OnnxEngine

#: values of each activation that are kept of each recording, for percentiles
SAMPLES = 8192


@dataclass(frozen=True, slots=True)
class Scheme:
    """How activations become bytes. Weights are int8, symmetric."""

    activations: str  # "uint8" or "int8"
    calibration: str  # "minmax" or "percentile" (99.99)
    #: 7-bit weights: without VNNI two products of uint8 and int8 may overflow 16 bits
    reduce_range: bool = False

    def __str__(self) -> str:
        bits = ", 7-bit weights" if self.reduce_range else ""
        return f"{'U8S8' if self.activations == 'uint8' else 'S8S8'}, {self.calibration}{bits}"


@dataclass(frozen=True, slots=True)
class Ranges:
    """The values of each activation on the calibration recordings: extremes, and samples."""

    extremes: dict[str, tuple[float, float]]
    samples: dict[str, np.ndarray]

    def of(self, name: str, calibration: str) -> tuple[float, float]:
        """The lowest and the highest value that an activation's bytes stand for; zero is between them."""
        low, high = self.extremes[name]
        if calibration == "percentile":
            low, high = np.percentile(self.samples[name], (0.01, 99.99)).tolist()
        return min(low, 0.0), max(high, 0.0)


class Quantizer:
    """Quantises the convolutions of one exported model."""

    def __init__(self, model: OnnxModel):
        self.model = model
        self.nodes: list[GraphNode] = list(model.graph.node)
        self.weights = {each.name: each for each in model.graph.initializer}
        self.consumers: dict[str, list[GraphNode]] = {}
        for node in self.nodes:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        self.producers = {name: node for node in self.nodes for name in node.output}
        #: the convolutions that may be quantised, in order
        self.convolutions = [
            node for node in self.nodes if node.op_type == "Conv" and node.name.startswith("encoder/block")
        ][1:]
        self.convolutions = [node for node in self.convolutions if "excitation" not in node.name]
        if not self.convolutions:
            raise CarnelianError(
                "int8 is for encoders of convolutional blocks, which this model has not. Export it in fp32"
            )

    def output_of(self, node: GraphNode) -> str:
        """The value behind a convolution that is quantised: its activation's output, if nothing else reads the convolution's."""
        [output] = node.output
        readers = self.consumers.get(output, [])
        return readers[0].output[0] if len(readers) == 1 and readers[0].op_type in ("Relu", "Clip") else output

    def unmasked(self, name: str) -> str:
        """The activation that a product with a mask was made from, whose range of values is the same; others as they are."""
        node = self.producers.get(name)
        return node.input[0] if node is not None and node.op_type == "Mul" and "row" in self.mask_of(node) else name

    def mask_of(self, node: GraphNode) -> str:
        """The name of the branch that made the second factor of a product, if one did."""
        producer = self.producers.get(node.input[1])
        return producer.attribute[0].g.name if producer is not None and producer.op_type == "If" else ""

    def activations(self) -> list[str]:
        """The names of all activations that may be quantised."""
        names = [name for node in self.convolutions for name in (self.unmasked(node.input[0]), self.output_of(node))]
        return list(dict.fromkeys(names))

    def ranges(self, audio: Iterable[np.ndarray]) -> Ranges:
        """The values of the activations on recordings (S,)."""
        names, rng = self.activations(), np.random.default_rng(0)
        engine = OnnxEngine(add_outputs(self.model, names).SerializeToString(), threads=1)
        extremes: dict[str, tuple[float, float]] = {}
        samples: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for each in audio:
            for name, values in zip(names, engine.outputs(each, names)):
                low, high = extremes.get(name, (np.inf, -np.inf))
                extremes[name] = min(low, float(values.min())), max(high, float(values.max()))
                samples[name].append(rng.choice(values.ravel(), min(SAMPLES, values.size), replace=False))
        return Ranges(extremes, {name: np.concatenate(parts) for name, parts in samples.items()})

    def quantized(self, scheme: Scheme, ranges: Ranges, in_float: Collection[str] = ()) -> OnnxModel:
        """The model with its convolutions in 8 bits, but for those named in `in_float`."""
        chosen = [node for node in self.convolutions if node.name not in in_float]
        scales: dict[str, tuple[float, int]] = {}
        for node in chosen:
            for name in (self.unmasked(node.input[0]), node.input[0], self.output_of(node)):
                scales[name] = scale_of(ranges.of(self.unmasked(name), scheme.calibration), scheme.activations)
        quantized = {node.name for node in chosen}
        new_nodes: list[GraphNode] = []
        new_weights = []
        for node in self.nodes:
            node = copy_model(node)
            for index, name in enumerate(node.input):
                if name in scales:
                    node.input[index] = f"{name}/dequantized"
            if node.name in quantized:
                scale, _ = scales[self.unmasked(node.input[0].removesuffix("/dequantized"))]
                nodes, weights = self.weights_in_bytes(node, scale, scheme)
                new_nodes += nodes
                new_weights += weights
            if node.op_type in ("Relu", "Clip") and scales.get(node.output[0], (0, None))[1] == lowest_of(
                scheme.activations
            ):
                # where the lowest byte is 0, rounding to bytes does what Relu and Clip do; ONNX Runtime sees that for uint8 only
                node = identity(node)
            new_nodes.append(node)
            for name in node.output:
                if name in scales:
                    nodes, weights = qdq_nodes(name, *scales[name], scheme.activations)
                    new_nodes += nodes
                    new_weights += weights
        return rebuild(self.model, new_nodes, new_weights, {"precision": "int8", "scheme": str(scheme)})

    def weights_in_bytes(self, node: GraphNode, input_scale: float, scheme: Scheme):
        """Nodes and constants of a convolution's weight (int8, per output channel) and bias (int32); the node then reads them."""
        weight = array_of(self.weights[node.input[1]])
        most = 63 if scheme.reduce_range else 127
        scale = np.maximum(np.abs(weight).reshape(len(weight), -1).max(1), 1e-12) / most
        values = np.clip(np.round(weight / scale.reshape(-1, 1, 1, 1)), -most, most).astype(np.int8)
        nodes, weights = dequantized(node.input[1], values, scale.astype(np.float32))
        node.input[1] = nodes[0].output[0]
        if len(node.input) > 2:
            bias, bias_scale = array_of(self.weights[node.input[2]]), (scale * input_scale).astype(np.float32)
            steps = np.clip(np.round(bias / bias_scale), -(2**31) + 1, 2**31 - 1).astype(np.int32)
            more_nodes, more_weights = dequantized(node.input[2], steps, bias_scale)
            node.input[2] = more_nodes[0].output[0]
            nodes, weights = nodes + more_nodes, weights + more_weights
        return nodes, weights


def scale_of(span: tuple[float, float], kind: str) -> tuple[float, int]:
    """Scale and zero point by which bytes stand for a range of values."""
    low, high = span
    scale = max(high - low, 1e-12) / 255
    lowest = lowest_of(kind)
    return scale, int(np.clip(round(lowest - low / scale), lowest, lowest + 255))


def lowest_of(kind: str) -> int:
    """The lowest value of a type of bytes."""
    return 0 if kind == "uint8" else -128
