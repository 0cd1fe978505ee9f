"""Deep Speech 2 as ONNX nodes, what `models/encoders/deepspeech2.py` does."""

import numpy as np
from torch import nn

from carnelian.inference.export.encoders import conv2d_front_end, folded_weight
from carnelian.inference.export.front_end import Rows
from carnelian.inference.export.graph import INT32, Graph
from carnelian.models.encoders.deepspeech2 import DeepSpeech2, Recurrent


def recurrent_encoder(graph: Graph, rows: Rows, encoder: DeepSpeech2, features: str, frames: str) -> tuple[str, str]:
    """Adds features (B, F, T), frames (B,) -> encoded (B, D, 1, O), steps (B,)."""
    encoded, steps = conv2d_front_end(graph, rows, encoder.front, features, frames)
    encoded = graph.add("Transpose", encoded, perm=[2, 0, 1])
    lengths = graph.add("Cast", graph.add("Max", steps, graph.ints(1)), to=INT32)
    for index, layer in enumerate(encoder.recurrent):
        assert isinstance(layer, Recurrent)
        encoded = gated_recurrent_units(graph, layer, f"recurrent_{index}", encoded, lengths)
    if encoder.lookahead:
        encoded = graph.add("Unsqueeze", graph.add("Transpose", encoded, perm=[1, 2, 0]), graph.ints(2))
        weight = encoder.row_convolution.weight.detach().double().numpy()[:, :, None]
        weight, bias = folded_weight(weight, encoder.row_norm)
        encoded = graph.add(
            "Conv",
            rows.masked(encoded, steps),
            graph.weight("row_convolution/weight", weight),
            graph.weight("row_convolution/bias", bias),
            kernel_shape=[1, encoder.lookahead],
            pads=[0, 0, 0, encoder.lookahead - 1],
            group=len(weight),
        )
        encoded = graph.add(
            "Transpose", graph.add("Squeeze", graph.add("Relu", encoded), graph.ints(2)), perm=[2, 0, 1]
        )
    weight, bias = (each.detach().numpy() for each in (encoder.linear.weight.T, encoder.linear.bias))
    encoded = graph.add(
        "MatMul", graph.add("Transpose", encoded, perm=[1, 0, 2]), graph.weight("linear/weight", weight)
    )
    encoded = graph.add("Relu", graph.add("Add", encoded, graph.weight("linear/bias", bias)))
    encoded = graph.add("Unsqueeze", graph.add("Transpose", encoded, perm=[0, 2, 1]), graph.ints(2))
    return rows.masked(encoded, steps), steps


def gated_recurrent_units(graph: Graph, layer: Recurrent, name: str, encoded: str, lengths: str) -> str:
    """Adds a layer of GRUs, forwards or both ways: (T, B, D) -> (T, B, units)."""
    ways = [layer.forwards] + ([layer.backwards] if layer.backwards is not None else [])

    def stacked(kind: str) -> np.ndarray:
        return np.stack([update_first(way, kind) for way in ways])

    biases = np.concatenate([stacked("bias_ih_l0"), stacked("bias_hh_l0")], axis=1)
    encoded = graph.add(
        "GRU",
        encoded,
        graph.weight(f"{name}/weight", stacked("weight_ih_l0")),
        graph.weight(f"{name}/recurrence", stacked("weight_hh_l0")),
        graph.weight(f"{name}/bias", biases),
        lengths,
        hidden_size=layer.forwards.hidden_size,
        direction="bidirectional" if len(ways) > 1 else "forward",
        linear_before_reset=1,
    )
    return graph.add("Reshape", graph.add("Transpose", encoded, perm=[0, 2, 1, 3]), graph.ints(0, 0, -1))


def update_first(way: nn.GRU, kind: str) -> np.ndarray:
    """A parameter of PyTorch's GRU with its gates in ONNX's order: update, reset, new."""
    reset, update, new = np.split(getattr(way, kind).detach().numpy(), 3)
    return np.concatenate([update, reset, new])
