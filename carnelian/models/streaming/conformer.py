"""A Conformer fed piece by piece, exactly: the cache-aware streaming of Noroozi et al. (2023, arXiv 2312.17279)."""

from typing import Any

import torch
from torch import Tensor

from carnelian.errors import RecipeError
from carnelian.models.encoders.conformer import Conformer, ConformerLayer

#: steps of the subsampling whose inputs are kept: what its convolutions see behind them is less than two steps of frames
KEPT_STEPS = 2


def why_not_streaming(encoder: Conformer) -> str:
    """The reason why an encoder cannot be fed piece by piece; empty if it can."""
    context = encoder.contexts[0]
    if not encoder.pre_encode.causal:
        return "its subsampling sees frames ahead"
    if any(isinstance(layer, ConformerLayer) and layer.conv.padding[1] for layer in encoder.layers):
        return "its convolutions see steps ahead"
    if context.right < 0 or (context.right and context.style != "chunked"):
        return "its attention sees steps ahead that are not of one chunk"
    return ""


def steps_behind(encoder: Conformer) -> int:
    """The steps behind a step that reach it through all layers; -1 where all before it do."""
    context = encoder.contexts[0]
    if context.left < 0:
        return -1
    seen = context.left + context.right  # the last step of a chunk sees as far back as its first
    layers: Any = encoder.layers
    return KEPT_STEPS + sum(seen + layer.conv.padding[0] for layer in layers)


class LayerState:
    """What a layer keeps of the past: the keys and values in its context (B, H, K, D / H), and its convolution's inputs."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.before: Tensor | None = None
        self.positions: dict[tuple[int, int], Tensor] = {}


class ConformerStream:
    """Feeds an encoder in evaluation mode with features as they come; all outputs together equal those of the whole recording.

    Steps come out once their chunk is full. Raises RecipeError for an encoder that sees further ahead.
    """

    def __init__(self, encoder: Conformer):
        reason = why_not_streaming(encoder)
        if reason:
            raise RecipeError(
                f"this Conformer is no streaming model: {reason}. Use a cache-aware one, or recognize whole recordings"
            )
        self.encoder, self.context = encoder, encoder.contexts[0]
        self.chunk = self.context.right + 1
        self.states = [LayerState() for _ in encoder.layers]
        self.features: Tensor | None = None  # (B, F, T) from frame `first_frame` on
        self.first_frame = self.next_step = self.done = 0
        self.waiting: Tensor | None = None  # (B, T, D) steps of a chunk that is not full yet

    def step(self, features: Tensor) -> Tensor:
        """(B, F, T) new features, T of any size also 0 -> (B, D, O) new outputs."""
        self.features = features if self.features is None else torch.cat([self.features, features], 2)
        received = self.first_frame + self.features.shape[2]
        ready = -(-received // self.encoder.stride)  # step s sees no frame after s times the stride
        self.subsample(ready)
        full = self.waiting.shape[1] // self.chunk * self.chunk if self.waiting is not None else 0
        return self.encode(full)

    def finish(self) -> Tensor:
        """(B, D, O): the outputs that are left at the end of the recording."""
        if self.features is None:
            raise ValueError("the stream got no features")
        self.subsample(None)
        return self.encode(self.waiting.shape[1] if self.waiting is not None else 0)

    def subsample(self, ready: int | None) -> None:
        """Adds to the waiting steps those before `ready`, or all where the recording ends."""
        assert self.features is not None
        if ready is not None and ready <= self.next_step:
            return
        frames = torch.full((len(self.features),), self.features.shape[2], device=self.features.device)
        encoded, steps = self.encoder.pre_encode(self.features, frames)
        first = self.first_frame // self.encoder.stride
        ready = first + int(steps[0]) if ready is None else ready
        new = encoded[:, self.next_step - first : ready - first] * self.encoder.scale
        self.waiting = new if self.waiting is None else torch.cat([self.waiting, new], 1)
        self.next_step = ready
        kept = max(0, ready - KEPT_STEPS) * self.encoder.stride
        self.features = self.features[:, :, max(0, kept - self.first_frame) :]
        self.first_frame = max(kept, self.first_frame)

    def encode(self, count: int) -> Tensor:
        """(B, D, O): the first of the waiting steps through all layers, chunk by chunk."""
        empty = self.features.new_zeros(len(self.features), self.encoder.channels, 0)  # type: ignore[union-attr, arg-type]
        if not count:
            return empty
        assert self.waiting is not None
        pieces = []
        for encoded in self.waiting[:, :count].split(self.chunk if self.context.style == "chunked" else count, 1):
            for layer, state in zip(self.encoder.layers, self.states):
                encoded = self.run_layer(layer, state, encoded)  # type: ignore[arg-type]
            self.done += encoded.shape[1]
            pieces.append(encoded if self.encoder.out_proj is None else self.encoder.out_proj(encoded))
        self.waiting = self.waiting[:, count:]
        return torch.cat(pieces, 1).mT

    def run_layer(self, layer: ConformerLayer, state: LayerState, encoded: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D), the layer's state moved on by T steps."""
        encoded = encoded + layer.feed_forward1(layer.norm_feed_forward1(encoded)) / 2
        encoded = encoded + self.attend(layer, state, layer.norm_self_att(encoded))
        if state.before is None:
            state.before = encoded.new_zeros(encoded.shape[0], encoded.shape[2], layer.conv.padding[0])
        inside = torch.ones(encoded.shape[:2], dtype=torch.bool, device=encoded.device)
        convolved, state.before = layer.conv(layer.norm_conv(encoded), inside, state.before)
        encoded = encoded + convolved
        encoded = encoded + layer.feed_forward2(layer.norm_feed_forward2(encoded)) / 2
        return layer.norm_out(encoded)

    def attend(self, layer: ConformerLayer, state: LayerState, encoded: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D), the keys and values of the context kept for what follows."""
        query, keys, values = layer.self_attn.project(encoded)
        if state.keys is not None and state.values is not None:
            keys, values = torch.cat([state.keys, keys], 2), torch.cat([state.values, values], 2)
        steps, count, device = query.shape[2], keys.shape[2], query.device
        if (steps, count) not in state.positions:
            distances = torch.arange(count - 1, -steps - 1, -1, device=device)
            encodings = self.context.encode(distances, self.encoder.width)
            state.positions = {(steps, count): layer.self_attn.project_positions(encodings)}
        end = self.done + steps
        visible = self.context.visible(
            torch.arange(self.done, end, device=device), torch.arange(end - count, end, device=device)
        )
        mask = torch.where(visible, 0.0, -torch.inf)
        attended = layer.self_attn(query, keys, values, state.positions[steps, count], mask, self.encoder.biases)
        kept = count if self.context.left < 0 else min(self.context.left, count)
        state.keys, state.values = keys[:, :, count - kept :], values[:, :, count - kept :]
        return attended
