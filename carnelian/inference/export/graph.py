"""Builds ONNX graphs node by node. The only importer of the package onnx."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from carnelian.errors import MissingExtraError

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    raise MissingExtraError("onnx", "train", "Writing ONNX files") from None

OPSET = 17
IR_VERSION = 9
FLOAT, DOUBLE, INT32, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64
OnnxModel = onnx.ModelProto
GraphNode = onnx.NodeProto


class Graph:
    """Nodes and constants of a graph under construction; values are known by their names."""

    def __init__(self, name: str):
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.known: dict[tuple[str, bytes, tuple[int, ...]], str] = {}
        self.scope: list[str] = []
        self.count = 0

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """The name of the output of a new node."""
        self.count += 1
        output = name or "/".join([*self.scope, f"{operator}_{self.count}"])
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def weight(self, name: str, values: np.ndarray) -> str:
        """The name of a constant of the model, float32."""
        full = "/".join([*self.scope, name])
        self.constants[full] = numpy_helper.from_array(np.ascontiguousarray(values, np.float32), full)
        return full

    def default(self, name: str, value: float) -> None:
        """Gives an input () float32 of the graph a default."""
        self.constants[name] = numpy_helper.from_array(np.array(value, np.float32), name)

    def ints(self, *values: int) -> str:
        """The name of a constant (N,) int64; equal ones are kept once."""
        return self.shared(np.array(values, np.int64))

    def scalar(self, value: int | float) -> str:
        """The name of a constant () float32 for a float, int64 for an int."""
        return self.shared(np.array(value, np.float32 if isinstance(value, float) else np.int64))

    def shared(self, values: np.ndarray) -> str:
        """The name of a small constant; equal ones are kept once."""
        key = (values.dtype.str, values.tobytes(), values.shape)
        if key not in self.known:
            self.known[key] = f"{self.name}/constant_{len(self.known)}"
            self.constants[self.known[key]] = numpy_helper.from_array(values, self.known[key])
        return self.known[key]

    def slice(self, value: str, start: str, end: str, axis: int) -> str:
        """Elements `start` to `end` (both (1,) int64) of one axis."""
        return self.add("Slice", value, start, end, self.ints(axis))

    def choose(self, condition: str, then: "Graph", then_value: str, other: "Graph", other_value: str) -> str:
        """The value of one of two graphs without inputs, by a condition () bool; both see the values of this graph."""
        branches = [
            helper.make_graph(
                graph.nodes,
                graph.name,
                [],
                [helper.make_empty_tensor_value_info(value)],
                list(graph.constants.values()),
            )
            for graph, value in ((then, then_value), (other, other_value))
        ]
        return self.add("If", condition, then_branch=branches[0], else_branch=branches[1])

    def model(
        self,
        inputs: Sequence[tuple[str, int, Sequence[str | int]]],
        outputs: Sequence[tuple[str, int, Sequence[str | int]]],
        metadata: dict[str, str],
    ) -> onnx.ModelProto:
        """The checked model; inputs and outputs are (name, type, shape)."""
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info(*each) for each in inputs],
            [helper.make_tensor_value_info(*each) for each in outputs],
            list(self.constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="carnelian",
        )
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model)
        return model


def array_of(constant: onnx.TensorProto) -> np.ndarray:
    """The values of a constant."""
    return numpy_helper.to_array(constant)


def copy_model(message):
    """A copy of a model or node."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def identity(node: GraphNode) -> GraphNode:
    """A node that gives the first input of another, under that one's names."""
    return helper.make_node("Identity", node.input[:1], node.output, name=node.name)


def add_outputs(model: OnnxModel, names: Sequence[str]) -> OnnxModel:
    """The model with more values among its outputs, float32 of unknown shape."""
    copy = copy_model(model)
    copy.graph.output.extend(helper.make_tensor_value_info(name, FLOAT, None) for name in names)
    return copy


def dequantized(name: str, values: np.ndarray, scale: np.ndarray) -> tuple[list[GraphNode], list[onnx.TensorProto]]:
    """Nodes and constants that give integers (D', ...) times the scale (D',) of each output channel."""
    constants = [
        numpy_helper.from_array(values, f"{name}/integers"),
        numpy_helper.from_array(scale, f"{name}/scale"),
        numpy_helper.from_array(np.zeros(len(scale), values.dtype), f"{name}/zero"),
    ]
    output = f"{name}/dequantized"
    node = helper.make_node("DequantizeLinear", [each.name for each in constants], [output], name=output, axis=0)
    return [node], constants


def qdq_nodes(name: str, scale: float, zero: int, kind: str) -> tuple[list[GraphNode], list[onnx.TensorProto]]:
    """Nodes and constants that round a value to bytes and back; `kind` is "uint8" or "int8"."""
    constants = [
        numpy_helper.from_array(np.array(scale, np.float32), f"{name}/scale"),
        numpy_helper.from_array(np.array(zero, kind), f"{name}/zero"),
    ]
    given = [each.name for each in constants]
    rounded, output = f"{name}/quantized", f"{name}/dequantized"
    nodes = [
        helper.make_node("QuantizeLinear", [name, *given], [rounded], name=rounded),
        helper.make_node("DequantizeLinear", [rounded, *given], [output], name=output),
    ]
    return nodes, constants


def rebuild(
    model: OnnxModel, nodes: Sequence[GraphNode], constants: Sequence[onnx.TensorProto], metadata: dict[str, str]
) -> OnnxModel:
    """The model with other nodes, more constants and other metadata; constants that nothing reads are left out."""
    copy = copy_model(model)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    copy.graph.initializer.extend(constants)
    read = {name for node in nodes for name in node.input} | {each.name for each in copy.graph.input}
    read |= {name for node in nodes for each in node.attribute for inner in each.g.node for name in inner.input}
    kept = [each for each in copy.graph.initializer if each.name in read]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    helper.set_model_props(copy, {each.key: each.value for each in model.metadata_props} | metadata)
    onnx.checker.check_model(copy)
    return copy
