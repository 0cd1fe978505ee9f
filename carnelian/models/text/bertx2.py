"""BERTx2 (Hrinchuk, Popova, Ginsburg, 2019, arXiv 1910.10697): an encoder and a decoder, both begun from one BERT, that correct text.

The decoder's self-attention and its attention to the source begin as BERT's self-attention, its feed-forward networks and embeddings
as BERT's. The vectors of the pieces are one matrix: of the encoder, of the decoder, and of the output.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carnelian.models.text.bert import (
    Bert,
    BertAttention,
    BertConfig,
    BertEmbeddings,
    BertFeedForward,
    KeyValue,
    draw_bert_weights,
    piece_mask,
)

MULTIPLE = 8  # of the rows of the vocabulary, for fast products in half precision


class BertDecoderLayer(nn.Module):
    """Self-attention to the pieces so far, attention to the source, and feed-forward network."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention, self.source_attention = BertAttention(config), BertAttention(config)
        self.feed_forward = BertFeedForward(config)

    def forward(
        self, hidden: Tensor, past: KeyValue | None, mask: Tensor | None, source: KeyValue, source_mask: Tensor
    ) -> tuple[Tensor, KeyValue]:
        """(B, N, D) of the next N pieces -> the same, and keys and values of all pieces so far."""
        key, value = self.attention.project(hidden)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        hidden = self.attention(hidden, (key, value), mask)
        return self.feed_forward(self.source_attention(hidden, source, source_mask)), (key, value)


@dataclass
class DecoderState:
    """What the decoder has read and written: by layer keys and values of the source, with its mask, and of the pieces so far."""

    source: list[KeyValue]
    source_mask: Tensor
    past: list[KeyValue | None]
    position: int = 0

    def reorder(self, rows: Tensor) -> None:
        """Makes row i what row rows[i] was, among rows of the same source."""
        self.past = [None if pair is None else (pair[0][rows], pair[1][rows]) for pair in self.past]

    def select(self, rows: Tensor) -> None:
        """Makes row i what row rows[i] was; a row may be taken several times, or not at all."""
        self.reorder(rows)
        self.source = [(key[rows], value[rows]) for key, value in self.source]
        self.source_mask = self.source_mask[rows]


class BertX2(nn.Module):
    """(B, L) pieces of the source, (B,) lengths and (B, N) pieces written so far -> (B, N, V) scores of the next ones."""

    def __init__(self, vocabulary: int, config: BertConfig):
        """vocabulary: the number of pieces; V is the next multiple of 8."""
        super().__init__()
        self.vocabulary, self.config = vocabulary, config
        outputs = -(-vocabulary // MULTIPLE) * MULTIPLE
        self.encoder, self.embeddings = Bert(outputs, config), BertEmbeddings(config)
        self.layers = nn.ModuleList(BertDecoderLayer(config) for _ in range(config.layers))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.embeddings.apply(draw_bert_weights)
        self.layers.apply(draw_bert_weights)

    def forward(self, source: Tensor, lengths: Tensor, written: Tensor) -> Tensor:
        return self.advance(self.read(source, lengths), written)

    def read(self, source: Tensor, lengths: Tensor) -> DecoderState:
        """Returns the state before the first piece for sources (B, L) with `lengths` (B,) pieces."""
        encoded = self.encoder(source, lengths)
        projected = [layer.source_attention.project(encoded) for layer in self.layers]  # type: ignore[union-attr,operator]
        return DecoderState(projected, piece_mask(lengths, source.shape[1]), [None] * len(self.layers))

    def advance(self, state: DecoderState, written: Tensor) -> Tensor:
        """Writes the next pieces (B, N) into a state, and returns the scores (B, N, V) of those after each of them."""
        count = written.shape[1]
        hidden = self.embeddings(self.encoder.word(written), state.position)
        mask = None  # a single piece sees all before it
        if count > 1:
            seen = torch.ones(count, state.position + count, dtype=torch.bool, device=written.device)
            mask = seen.tril(state.position)
        for index, layer in enumerate(self.layers):
            past, source = state.past[index], state.source[index]
            hidden, state.past[index] = layer(hidden, past, mask, source, state.source_mask)
        state.position += count
        return F.linear(hidden, self.encoder.word.weight, self.bias)


def bertx2_weights(bert: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of a BERTx2 that begins with those of a BERT, whose vocabulary is padded with zeros."""
    rows = len(bert["word.weight"])
    weights = {f"encoder.{name}": tensor for name, tensor in bert.items()}
    weights["encoder.word.weight"] = F.pad(bert["word.weight"], (0, 0, 0, -rows % MULTIPLE))
    weights["bias"] = torch.zeros(rows + -rows % MULTIPLE)
    for name, tensor in bert.items():
        if name.startswith(("embeddings.", "layers.")):
            weights[name] = tensor.clone()
        if ".attention." in name:
            weights[name.replace(".attention.", ".source_attention.")] = tensor.clone()
    return weights
