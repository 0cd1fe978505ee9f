"""A Conformer as ONNX nodes, on (B, T, D); attention in one piece, so that memory grows with the square of the recording's length."""

import math

import numpy as np
from torch import nn

from carnelian.inference.export.encoders import folded_weight
from carnelian.inference.export.front_end import Rows
from carnelian.inference.export.graph import FLOAT, Graph
from carnelian.models.encoders.conformer import Conformer, ConformerLayer, ConvolutionModule, FeedForward
from carnelian.models.encoders.relative_attention import MASKED, Context, RelativeAttention
from carnelian.models.encoders.subsampling import Subsampling


def conformer_encoder(graph: Graph, rows: Rows, encoder: Conformer, features: str, frames: str) -> tuple[str, str]:
    """Adds features (B, F, T), frames (B,) -> encoded (B, D, 1, O), steps (B,)."""
    graph.scope.append("subsampling")
    encoded, steps = subsampling(graph, rows, encoder.pre_encode, features, frames, encoder.scale)
    graph.scope.pop()
    attention = Attention(graph, rows, encoder, encoded, steps)
    for index, layer in enumerate(encoder.layers):
        graph.scope.append(f"layer_{index}")
        encoded = conformer_layer(graph, rows, attention, layer, encoded, steps)  # type: ignore[arg-type]
        graph.scope.pop()
    if encoder.out_proj is not None:
        encoded = linear(graph, encoder.out_proj, "out_proj", encoded)
    encoded = graph.add("Transpose", encoded, perm=[0, 2, 1])
    return graph.add("Unsqueeze", encoded, graph.ints(2)), steps


def linear(graph: Graph, module: nn.Linear, name: str, encoded: str, scale: float = 1.0) -> str:
    """A linear layer whose outputs are multiplied by `scale`."""
    weight = module.weight.detach().double().numpy().T * scale
    encoded = graph.add("MatMul", encoded, graph.weight(f"{name}/weight", weight))
    if module.bias is None:
        return encoded
    return graph.add("Add", encoded, graph.weight(f"{name}/bias", module.bias.detach().double().numpy() * scale))


def layer_norm(graph: Graph, module: nn.LayerNorm, name: str, encoded: str) -> str:
    """Layer norm over the channels (the last axis)."""
    values = [graph.weight(f"{name}/{leaf}", getattr(module, leaf).detach().numpy()) for leaf in ("weight", "bias")]
    return graph.add("LayerNormalization", encoded, *values, axis=-1, epsilon=module.eps)


def silu(graph: Graph, encoded: str) -> str:
    return graph.add("Mul", encoded, graph.add("Sigmoid", encoded))


def subsampling(
    graph: Graph, rows: Rows, module: Subsampling, features: str, frames: str, scale: float
) -> tuple[str, str]:
    """Adds features (B, F, T), frames (B,) -> (B, O, D), steps (B,)."""
    encoded = graph.add("Unsqueeze", graph.add("Transpose", features, perm=[0, 2, 1]), graph.ints(1))
    (before, after), steps = module.padding, frames
    for index, layer in enumerate(module.conv):
        if not isinstance(layer, nn.Conv2d):
            encoded = graph.add("Relu", encoded)
            continue
        strided = layer.stride[0] == 2
        if strided:
            encoded = graph.add("Mul", encoded, rows.mask(steps, (1, 3)))
            steps = graph.add("Div", graph.add("Add", steps, graph.ints(before + after - 1)), graph.ints(2))
        assert layer.bias is not None
        encoded = graph.add(
            "Conv",
            encoded,
            graph.weight(f"{index}/weight", layer.weight.detach().numpy()),
            graph.weight(f"{index}/bias", layer.bias.detach().numpy()),
            kernel_shape=list(layer.kernel_size),
            strides=list(layer.stride),
            pads=[before, before, after, after] if strided else [0, 0, 0, 0],
            group=layer.groups,
        )
    encoded = graph.add("Mul", encoded, rows.mask(steps, (1, 3)))
    encoded = graph.add("Transpose", encoded, perm=[0, 2, 1, 3])
    encoded = graph.add("Reshape", encoded, graph.ints(0, 0, module.out.in_features))
    # causal convolutions would make one step of no frames
    some = graph.add("Min", frames, graph.ints(1))
    return linear(graph, module.out, "out", encoded, scale), graph.add("Mul", steps, some)


class Attention:
    """The nodes of self-attention with what all layers share: mask, encodings of distances, shared biases."""

    def __init__(self, graph: Graph, rows: Rows, encoder: Conformer, encoded: str, steps: str):
        self.graph, self.width, self.shared_biases = graph, encoder.width, encoder.biases
        graph.scope.append("attention")
        self.length = graph.add("Shape", encoded, start=1, end=2)  # (1,)
        self.last = graph.add("Squeeze", self.length, graph.ints(0))  # ()
        # 0 where a key may be seen, MASKED elsewhere
        padding = graph.add("Sub", rows.mask(steps, (1, 2)), graph.scalar(1.0))
        self.mask = graph.add("Mul", padding, graph.scalar(-MASKED))
        context = encoder.contexts[0]
        if context.left >= 0 or context.right >= 0:
            self.mask = graph.add("Add", self.mask, self.outside(context))
        self.positions = self.encodings(context)
        graph.scope.pop()

    def outside(self, context: Context) -> str:
        """(T, T): 0 for the keys in the context of a query, MASKED elsewhere."""
        graph = self.graph
        places = graph.add("Range", graph.scalar(0), self.last, graph.scalar(1))
        left, right = context.left, context.right
        if context.style == "chunked":
            size = context.right + 1
            places = graph.add("Div", places, graph.scalar(size))
            left, right = (left // size if left >= 0 else -1), 0
        distance = graph.add(
            "Sub", graph.add("Unsqueeze", places, graph.ints(1)), graph.add("Unsqueeze", places, graph.ints(0))
        )
        sides = []
        if left >= 0:
            sides.append(graph.add("Greater", distance, graph.scalar(left)))
        if right >= 0:
            sides.append(graph.add("Less", distance, graph.scalar(-right)))
        hidden = sides[0] if len(sides) == 1 else graph.add("Or", *sides)
        return graph.add("Mul", graph.add("Cast", hidden, to=FLOAT), graph.scalar(MASKED))

    def encodings(self, context: Context) -> str:
        """(2 T, D): encodings of the distances from T - 1 to -T, as `Context.encode` gives them."""
        graph = self.graph
        first = graph.add("Sub", self.last, graph.scalar(1))
        end = graph.add("Sub", graph.add("Neg", self.last), graph.scalar(1))
        distances, shown = graph.add("Range", first, end, graph.scalar(-1)), ""
        if context.style == "local" and context.left != context.right:
            longer = max(context.left, context.right)
            before = graph.add("Greater", distances, graph.scalar(longer - context.left))
            after = graph.add("Less", distances, graph.scalar(context.right - longer + 1))
            shift = graph.add(
                "Where", before, graph.scalar(context.left - longer), graph.scalar(longer - context.right)
            )
            distances = graph.add("Add", distances, shift)
            shown = graph.add("Unsqueeze", graph.add("Cast", graph.add("Or", before, after), to=FLOAT), graph.ints(1))
        frequencies = np.exp(np.arange(0, self.width, 2, dtype=np.float32) * np.float32(-math.log(1e4) / self.width))
        angles = graph.add(
            "Mul",
            graph.add("Unsqueeze", graph.add("Cast", distances, to=FLOAT), graph.ints(1)),
            graph.weight("frequencies", frequencies[None]),
        )
        pair = [graph.add("Unsqueeze", graph.add(wave, angles), graph.ints(2)) for wave in ("Sin", "Cos")]
        encoded = graph.add("Reshape", graph.add("Concat", *pair, axis=2), graph.ints(-1, self.width))
        return graph.add("Mul", encoded, shown) if shown else encoded

    def add(self, module: RelativeAttention, encoded: str) -> str:
        """Adds the attention of one layer: (B, T, D) -> (B, T, D)."""
        graph, heads = self.graph, module.heads
        size = self.width // heads
        scale = 1 / math.sqrt(size)
        content, position = self.shared_biases or (module.pos_bias_u, module.pos_bias_v)

        def split(values: str, perm: list[int]) -> str:
            return graph.add("Transpose", graph.add("Reshape", values, graph.ints(0, 0, heads, size)), perm=perm)

        # the scale of the scores is in the queries
        query = split(linear(graph, module.linear_q, "query", encoded, scale), [0, 2, 1, 3])
        key = split(linear(graph, module.linear_k, "key", encoded), [0, 2, 3, 1])
        value = split(linear(graph, module.linear_v, "value", encoded), [0, 2, 1, 3])
        distances = graph.add(
            "Reshape", linear(graph, module.linear_pos, "position", self.positions), graph.ints(-1, heads, size)
        )
        distances = graph.add("Transpose", distances, perm=[1, 2, 0])
        biased = [
            graph.add("Add", query, graph.weight(name, bias.detach().double().numpy()[:, None] * scale))
            for name, bias in (("content_bias", content), ("position_bias", position))
        ]
        by_distance = self.shifted(graph.add("MatMul", biased[1], distances))
        scores = graph.add("Add", graph.add("MatMul", biased[0], key), by_distance)
        weights = graph.add("Softmax", graph.add("Add", scores, self.mask), axis=-1)
        attended = graph.add("Transpose", graph.add("MatMul", weights, value), perm=[0, 2, 1, 3])
        attended = graph.add("Reshape", attended, graph.ints(0, 0, self.width))
        return linear(graph, module.linear_out, "out", attended)

    def shifted(self, scores: str) -> str:
        """(B, H, T, 2 T) scores by distance -> (B, H, T, T) by key, as `relative_shift`."""
        graph, one = self.graph, self.graph.ints(1)
        flat = graph.add("Reshape", scores, graph.ints(0, 0, -1))
        start = graph.add("Sub", self.length, one)
        columns = graph.add("Sub", graph.add("Mul", self.length, graph.ints(2)), one)
        end = graph.add("Add", start, graph.add("Mul", self.length, columns))
        flat = graph.slice(flat, start, end, axis=2)
        shape = graph.add("Concat", graph.ints(0, 0), self.length, columns, axis=0)
        return graph.slice(graph.add("Reshape", flat, shape), graph.ints(0), self.length, axis=3)


def conformer_layer(
    graph: Graph, rows: Rows, attention: Attention, layer: ConformerLayer, encoded: str, steps: str
) -> str:
    """Adds one layer: (B, T, D) -> (B, T, D)."""
    normed = layer_norm(graph, layer.norm_feed_forward1, "norm_feed_forward1", encoded)
    encoded = graph.add("Add", encoded, feed_forward(graph, layer.feed_forward1, "feed_forward1", normed))
    normed = layer_norm(graph, layer.norm_self_att, "norm_self_att", encoded)
    encoded = graph.add("Add", encoded, attention.add(layer.self_attn, normed))
    normed = layer_norm(graph, layer.norm_conv, "norm_conv", encoded)
    encoded = graph.add("Add", encoded, convolution_module(graph, rows, layer.conv, normed, steps))
    normed = layer_norm(graph, layer.norm_feed_forward2, "norm_feed_forward2", encoded)
    encoded = graph.add("Add", encoded, feed_forward(graph, layer.feed_forward2, "feed_forward2", normed))
    return layer_norm(graph, layer.norm_out, "norm_out", encoded)


def feed_forward(graph: Graph, module: FeedForward, name: str, encoded: str) -> str:
    """Half of a feed-forward module's output."""
    encoded = silu(graph, linear(graph, module.linear1, f"{name}/linear1", encoded))
    return linear(graph, module.linear2, f"{name}/linear2", encoded, 0.5)


def convolution_module(graph: Graph, rows: Rows, module: ConvolutionModule, encoded: str, steps: str) -> str:
    """Adds the convolution module: (B, T, D) -> (B, T, D), batch norm folded into the depthwise convolution."""
    channels, (left, right) = module.depthwise_conv.out_channels, module.padding
    encoded = linear(graph, module.pointwise_conv1, "pointwise_conv1", encoded)
    passed = graph.slice(encoded, graph.ints(0), graph.ints(channels), axis=2)
    gate = graph.add("Sigmoid", graph.slice(encoded, graph.ints(channels), graph.ints(2 * channels), axis=2))
    gated = graph.add("Mul", graph.add("Mul", passed, gate), rows.mask(steps, (2,)))
    gated = graph.add("Unsqueeze", graph.add("Transpose", gated, perm=[0, 2, 1]), graph.ints(2))
    batch_norm = module.batch_norm if isinstance(module.batch_norm, nn.BatchNorm1d) else None
    own = module.depthwise_conv.bias
    weight, bias = (
        module.depthwise_conv.weight.detach().double().numpy(),
        None if own is None else own.detach().double().numpy(),
    )
    weight, bias = folded_weight(weight, batch_norm, bias)
    filtered = graph.add(
        "Conv",
        gated,
        graph.weight("depthwise_conv/weight", weight[:, :, None]),
        graph.weight("depthwise_conv/bias", bias),
        kernel_shape=[1, left + right + 1],
        pads=[0, left, 0, right],
        group=channels,
    )
    filtered = graph.add("Transpose", graph.add("Squeeze", filtered, graph.ints(2)), perm=[0, 2, 1])
    if isinstance(module.batch_norm, nn.LayerNorm):
        filtered = layer_norm(graph, module.batch_norm, "layer_norm", filtered)
    return linear(graph, module.pointwise_conv2, "pointwise_conv2", silu(graph, filtered))
