"""Transformer-XL (Dai et al., 2019, arXiv 1901.02860): a language model whose segments attend to those before them.

| WikiText-103 | channels | layers | heads | feed-forward | segment, memory | dropout, of attention | cutoffs, divisor | parameters |
|---|---|---|---|---|---|---|---|---|
| standard | 410 | 16 | 10 | 2100 | 150, 150 | 0.1, 0 | 20k 40k 200k, 1 | 151 M |
| large | 1024 | 18 | 16 | 4096 | 384, 384 | 0.2, 0.2 | 20k 40k 200k, 4 | 285 M |

The paper counts 257 M of the large one; the authors' checkpoint has as many as this. Golden numbers: Hugging Face's TransfoXL.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carnelian.errors import RecipeError
from carnelian.models.encoders.relative_attention import MASKED, RelativeAttention, sinusoids
from carnelian.models.masking import InPlaceDropout
from carnelian.models.text.adaptive_softmax import AdaptiveSoftmax
from carnelian.ranges import Fraction, NonNegativeInt, PositiveInt, at_least


class TransformerXLLayer(nn.Module):
    """Attention to the memory and to the segment so far, then a feed-forward network; each added to its input and normalized."""

    def __init__(self, channels: int, heads: int, feedforward: int, dropout: float, dropout_attention: float):
        super().__init__()
        self.attention = RelativeAttention(channels, heads, bias=False, own_biases=False, dropout=dropout_attention)
        self.norm_attention = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, feedforward)
        self.linear2 = nn.Linear(feedforward, channels)
        self.norm_feed_forward = nn.LayerNorm(channels)
        self.dropout = InPlaceDropout(dropout)

    def forward(
        self, hidden: Tensor, memory: Tensor, encodings: Tensor, mask: Tensor, biases: tuple[Tensor, Tensor]
    ) -> Tensor:
        """(B, L, D) and the memory (B, M, D), this layer's earlier inputs -> (B, L, D). See `RelativeAttention`."""
        attention, context = self.attention, torch.cat([memory, hidden], 1)
        query = attention.split(attention.linear_q(hidden))
        key, value = attention.split(attention.linear_k(context)), attention.split(attention.linear_v(context))
        positions = attention.project_positions(encodings)
        hidden = self.norm_attention(hidden + self.dropout(attention(query, key, value, positions, mask, biases)))
        inner = F.relu(self.dropout(self.linear1(hidden)))  # the same in the other order, and in place only so
        return self.norm_feed_forward(hidden + self.dropout(self.linear2(inner)))


class TransformerXL(nn.Module):
    """(B, L) tokens of a segment, (B, L) those that follow each, and the memory -> (B, L) log-probabilities, and the next memory.

    The memory (B, N, M, D) holds what entered each of N layers in the M last steps; no gradient goes through it. None is the
    beginning of a text. `memory` is the largest M.
    """

    def __init__(
        self,
        softmax: AdaptiveSoftmax,
        *,
        layers: int,
        heads: int,
        feedforward: int,
        memory: int,
        dropout: float,
        dropout_attention: float,
    ):
        super().__init__()
        channels = softmax.channels
        self.softmax, self.memory = softmax, memory
        self.layers = nn.ModuleList(
            TransformerXLLayer(channels, heads, feedforward, dropout, dropout_attention) for _ in range(layers)
        )
        self.content_bias = nn.Parameter(torch.empty(heads, channels // heads))
        self.position_bias = nn.Parameter(torch.empty(heads, channels // heads))
        self.dropout = InPlaceDropout(dropout)
        for name, parameter in self.named_parameters():
            if not name.startswith("softmax.") and not name.endswith("bias"):
                nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.02)
            elif name.startswith("layers.") and "norm" not in name:
                nn.init.zeros_(parameter)
        nn.init.normal_(self.content_bias, std=0.02)
        nn.init.normal_(self.position_bias, std=0.02)

    def encode(self, tokens: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, L) -> (B, L, D) the last layer's outputs, and the next memory."""
        rows, length = tokens.shape
        if memory is None:
            memory = self.content_bias.new_zeros(rows, len(self.layers), 0, self.softmax.channels)
        before = memory.shape[2]
        places = torch.arange(before + length, device=tokens.device)
        mask = torch.where(places <= places[before:, None], 0.0, MASKED)[None, None]
        distances = torch.arange(before + length - 1, -length - 1, -1, device=tokens.device)
        encodings = self.dropout(sinusoids(distances, self.softmax.channels))
        hidden = self.dropout(self.softmax.embed(tokens) * math.sqrt(self.softmax.channels))
        kept, first = [], max(0, before + length - self.memory)
        for number, layer in enumerate(self.layers):
            earlier = memory[:, number].to(hidden.dtype)
            kept.append(torch.cat([earlier, hidden.detach()], 1)[:, first:])
            hidden = layer(hidden, earlier, encodings, mask, (self.content_bias, self.position_bias))
        return self.dropout(hidden), torch.stack(kept, 1)

    def forward(self, tokens: Tensor, following: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        hidden, memory = self.encode(tokens, memory)
        log_probs = self.softmax(hidden.flatten(0, 1), following.flatten())
        return log_probs.view_as(following), memory


def transformer_xl(
    tokens: int,
    *,
    channels: PositiveInt = 410,
    layers: PositiveInt = 16,
    heads: PositiveInt = 10,
    feedforward: PositiveInt = 2100,
    memory: NonNegativeInt = 150,
    cutoffs: list[PositiveInt] = [],  # noqa: B006
    divisor: Annotated[int, at_least(1)] = 1,
    dropout: Fraction = 0.1,
    dropout_attention: Fraction = 0.0,
) -> TransformerXL:
    """Transformer-XL, standard: attends to `memory` tokens before the segment.

    `cutoffs` cut the tokens, in the order of their frequency, into the clusters of an adaptive softmax ([]: one softmax over all);
    the vectors of each cluster are `divisor` times shorter than those of the one before.
    """
    if channels % heads or channels % 2:
        raise RecipeError(f"[model] channels = {channels}: expected an even number that the {heads} heads divide")
    return TransformerXL(
        AdaptiveSoftmax(tokens, channels, cutoffs, divisor),
        layers=layers,
        heads=heads,
        feedforward=feedforward,
        memory=memory,
        dropout=dropout,
        dropout_attention=dropout_attention,
    )
