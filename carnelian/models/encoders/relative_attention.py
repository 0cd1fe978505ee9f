"""Self-attention with relative positions (Dai et al., 2019, arXiv 1901.02860), over the whole recording or a limited context."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carnelian.errors import RecipeError
from carnelian.models.masking import active_share

#: added to the scores of keys that a query may not see; finite, so that a query that sees no key at all gives no NaN
MASKED = -1e4
LARGEST = 1_000_000  # steps to a side of a context


def sinusoids(distances: Tensor, channels: int) -> Tensor:
    """(P,) distances in steps, positive towards the past -> (P, D): sine and cosine of D / 2 wavelengths, interleaved."""
    frequencies = torch.exp(torch.arange(0, channels, 2, device=distances.device) * (-math.log(1e4) / channels))
    angles = distances[:, None].float() * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :channels]


def relative_shift(scores: Tensor, keys: int) -> Tensor:
    """(..., T, P) scores by falling distance, P = T + K -> (..., T, K) by key: column j of row i is column T - 1 - i + j."""
    steps, positions = scores.shape[-2:]
    flat = scores.flatten(-2)[..., steps - 1 : steps - 1 + steps * (positions - 1)]
    return flat.unflatten(-1, (steps, positions - 1))[..., :keys]


CONTEXT_STYLES = ("regular", "chunked", "local")


class Context:
    """Which keys each query may see: `left` steps back and `right` ahead, -1 for all of them.

    - "regular": the limits are counted from each step;
    - "chunked": the steps are cut into chunks of `right` + 1; a step sees its whole chunk and the `left` / (`right` + 1) chunks
      before it, of which `left` is a multiple;
    - "local": as "regular", with the distances of NeMo's `rel_pos_local_attn` (see `encode`).
    """

    def __init__(self, left: int = -1, right: int = -1, style: str = "regular"):
        if style not in CONTEXT_STYLES:
            raise RecipeError(
                f'[encoder] context_style = "{style}": no such choice. Known: {", ".join(sorted(CONTEXT_STYLES))}'
            )
        fits = all(-1 <= side <= LARGEST for side in (left, right))
        problem = "" if fits else f"each is -1 (all steps), or 0 to {LARGEST:,}"
        if style == "chunked" and (right < 0 or (left > 0 and left % (right + 1))):
            problem = "of style chunked, the second is 0 or more, and the first a multiple of the second plus one"
        if style == "local" and (min(left, right) < 0 or max(left, right) == 0):
            problem = "of style local, both are 0 or more and one is above 0"
        if problem:
            raise RecipeError(f"[encoder] context = [{left}, {right}]: {problem}")
        self.left, self.right, self.style = left, right, style

    @property
    def chunk(self) -> int:
        """Steps that are computed together: a chunk, or as many as the longer side of the context."""
        return self.right + 1 if self.style == "chunked" else max(self.left, self.right, 1)

    @property
    def limited(self) -> bool:
        """Whether the context ends on both sides, so that work and memory grow linearly with the recording."""
        return self.left >= 0 and self.right >= 0

    def visible(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(T,) and (K,) places of queries and keys -> (T, K), true where the key may be seen."""
        distance, left, right = queries[:, None] - keys[None], self.left, self.right
        if self.style == "chunked":
            size = self.right + 1
            distance = queries[:, None].div(size, rounding_mode="floor") - keys[None].div(size, rounding_mode="floor")
            left, right = (left // size if left >= 0 else -1), 0
        inside = torch.ones_like(distance, dtype=torch.bool)
        if left >= 0:
            inside &= distance <= left
        if right >= 0:
            inside &= distance >= -right
        return inside

    def encode(self, distances: Tensor, channels: int) -> Tensor:
        """(P,) distances in steps, positive towards the past -> (P, D) encodings.

        NeMo's local attention of unequal sides adds the scores of the shorter side's distances to keys further off by the
        difference of the sides, and none to those in between. Its models are trained so, and read so here.
        """
        if self.style != "local" or self.left == self.right:
            return sinusoids(distances, channels)
        longer = max(self.left, self.right)
        before, after = distances > longer - self.left, -distances >= longer - self.right
        shift = torch.where(before, self.left - longer, longer - self.right)
        return sinusoids(distances + shift, channels) * (before | after)[:, None]


class RelativeAttention(nn.Module):
    """Multi-head self-attention whose scores are q k + q p(distance), each q with a bias of its own.

    Without `own_biases` the two biases are handed in, shared by all layers.
    """

    def __init__(self, channels: int, heads: int, *, bias: bool = True, own_biases: bool = True, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.linear_q = nn.Linear(channels, channels, bias=bias)
        self.linear_k = nn.Linear(channels, channels, bias=bias)
        self.linear_v = nn.Linear(channels, channels, bias=bias)
        self.linear_out = nn.Linear(channels, channels, bias=bias)
        self.linear_pos = nn.Linear(channels, channels, bias=False)
        if own_biases:
            self.pos_bias_u = nn.Parameter(torch.zeros(heads, channels // heads))
            self.pos_bias_v = nn.Parameter(torch.zeros(heads, channels // heads))

    def split(self, encoded: Tensor) -> Tensor:
        """(..., T, D) -> (..., H, T, D / H)."""
        return encoded.unflatten(-1, (self.heads, -1)).transpose(-2, -3)

    def project(self, encoded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) -> queries, keys and values (B, H, T, D / H)."""
        return tuple(self.split(layer(encoded)) for layer in (self.linear_q, self.linear_k, self.linear_v))  # type: ignore[return-value]

    def project_positions(self, encodings: Tensor) -> Tensor:
        """(P, D) encodings of distances -> (H, P, D / H)."""
        return self.split(self.linear_pos(encodings.to(self.linear_pos.weight.dtype)))

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        positions: Tensor,
        mask: Tensor,
        biases: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """(B, H, T, D / H) queries, (B, H, K, D / H) keys and values -> (B, T, D).

        `positions` (H, T + K, D / H) are of distances that fall by one from that of the last query to the first key; `mask`
        (B or 1, 1, T, K) is added to the scores.
        """
        content, position = biases or (self.pos_bias_u, self.pos_bias_v)
        by_distance = (query + position[:, None]) @ positions.mT
        # scaled_dot_product_attention scales only the product of query and key
        bias = relative_shift(by_distance, key.shape[-2]) / math.sqrt(query.shape[-1]) + mask
        attended = F.scaled_dot_product_attention(
            query + content[:, None],
            key,
            value,
            attn_mask=bias.to(query.dtype),
            dropout_p=active_share(self.dropout),
        )
        return self.linear_out(attended.transpose(1, 2).flatten(2))


class AttentionPlan:
    """How the attention of all layers is computed for one batch: the mask and the distances, in one piece or chunk by chunk.

    Chunk by chunk, each chunk of queries sees a window of keys that begins `left` steps before it, so that work and memory grow
    linearly with the length. The result is that of the one piece.
    """

    def __init__(
        self,
        context: Context,
        steps: Tensor,
        length: int,
        channels: int,
        biases: tuple[Tensor, Tensor] | None = None,
    ):
        """steps: (B,), of `length` at most; biases: those that the layers share, if they do."""
        self.length, self.biases, device = length, biases, steps.device
        self.chunked = context.limited and length > context.left + context.right + context.chunk
        if not self.chunked:
            places = torch.arange(length, device=device)
            visible = (places < steps[:, None])[:, None] & context.visible(places, places)
            distances = torch.arange(length - 1, -length - 1, -1, device=device)
        else:
            self.size, self.left = context.chunk, context.left
            self.right = 0 if context.style == "chunked" else context.right
            self.chunks, self.window = -(-length // self.size), self.left + self.size + self.right
            # `left` is a multiple of the chunk: the chunks are the same
            places = torch.arange(self.window, device=device)
            inside = context.visible(places[self.left : self.left + self.size], places)
            keys = torch.arange(self.chunks, device=device)[:, None] * self.size - self.left + places  # (N, K)
            visible = ((keys >= 0) & (keys < steps[:, None, None]))[:, :, None] & inside
            visible = visible.flatten(0, 1)
            distances = torch.arange(self.left + self.size - 1, -self.right - self.size - 1, -1, device=device)
        self.mask = torch.where(visible, 0.0, MASKED).unsqueeze(1)
        self.encodings = context.encode(distances, channels)

    def attend(self, attention: RelativeAttention, encoded: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        query, key, value = attention.project(encoded)
        if self.chunked:
            tail = self.chunks * self.size - self.length
            query = F.pad(query, (0, 0, 0, tail)).unflatten(2, (self.chunks, self.size)).transpose(1, 2).flatten(0, 1)
            key, value = self.windows(key, tail), self.windows(value, tail)
        attended = attention(query, key, value, attention.project_positions(self.encodings), self.mask, self.biases)
        return attended.unflatten(0, (-1, self.chunks)).flatten(1, 2)[:, : self.length] if self.chunked else attended

    def windows(self, keys: Tensor, tail: int) -> Tensor:
        """(B, H, T, D / H) -> (B N, H, K, D / H): the keys that each of N chunks sees."""
        padded = F.pad(keys, (0, 0, self.left, tail + self.right))
        return padded.unfold(2, self.window, self.size).permute(0, 2, 1, 4, 3).flatten(0, 1)


def contexts_of(context: Sequence[Sequence[int]], style: str) -> list[Context]:
    """The contexts of a model's settings, the one of inference first."""
    if not context or any(len(pair) != 2 for pair in context):
        raise RecipeError(f"[encoder] context = {[*map(list, context)]}: expected pairs such as [[-1, -1]]")
    return [Context(left, right, style) for left, right in context]
