"""BERT (Devlin, Chang, Lee, Toutanova, 2018, arXiv 1810.04805): a Transformer encoder on word pieces.

Learned positions, norms after the residuals (post-norm), GELU. Sizes as published: base (12 layers, 768 channels, 12 heads, 3072) and
large (24, 1024, 16, 4096). Letters of shapes: B batch, L pieces of a text, D channels, H heads.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carnelian.errors import RecipeError
from carnelian.models.attention import attend, split_heads
from carnelian.models.masking import active_share
from carnelian.ranges import Fraction, PositiveFloat, PositiveInt

SPREAD = 0.02  # standard deviation of random weights

#: keys and values of the heads, each (B, H, L, D / H)
KeyValue = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """The sizes of a BERT, and of a corrector made from it: the table [corrector]. The defaults are those of bert-base.

    channels, layers, heads, feedforward (channels inside): of the Transformer. positions: the most pieces of a text, with the two that
    mark its ends. types: of texts (BERT tells the first of two from the second; nothing here has a second). epsilon: of the norms.
    dropout: of a corrector; BERT itself was trained with 0.1.
    """

    channels: PositiveInt = 768
    layers: PositiveInt = 12
    heads: PositiveInt = 12
    feedforward: PositiveInt = 3072
    positions: PositiveInt = 512
    types: PositiveInt = 2
    epsilon: PositiveFloat = 1e-12
    dropout: Fraction = 0.25

    def __post_init__(self) -> None:
        if self.channels % self.heads:
            raise RecipeError(f"channels = {self.channels}: expected a multiple of heads = {self.heads}")


class BertEmbeddings(nn.Module):
    """Positions and the type of a text added to the vectors of its pieces (B, L, D), then a norm and dropout."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.position = nn.Embedding(config.positions, config.channels)
        self.token_type = nn.Embedding(config.types, config.channels)
        self.norm, self.dropout = nn.LayerNorm(config.channels, config.epsilon), nn.Dropout(config.dropout)

    def forward(self, vectors: Tensor, first: int = 0) -> Tensor:
        """first: the position of the first vector."""
        positions = torch.arange(first, first + vectors.shape[1], device=vectors.device)
        return self.dropout(self.norm(vectors + self.position(positions) + self.token_type.weight[0]))


class BertAttention(nn.Module):
    """Multi-head attention of (B, L, D) to keys and values, with dropout, the residual and the norm after it."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.heads = config.heads
        self.query, self.key, self.value, self.out = (nn.Linear(config.channels, config.channels) for _ in range(4))
        self.norm, self.dropout = nn.LayerNorm(config.channels, config.epsilon), nn.Dropout(config.dropout)

    def project(self, memory: Tensor) -> KeyValue:
        """Returns keys and values of what is attended to (B, L, D)."""
        return split_heads(self.key(memory), self.heads), split_heads(self.value(memory), self.heads)

    def forward(self, hidden: Tensor, memory: KeyValue, mask: Tensor | None) -> Tensor:
        """mask: as in `attend`."""
        query = split_heads(self.query(hidden), self.heads)
        found = self.out(attend(query, *memory, mask, active_share(self.dropout)))
        return self.norm(hidden + self.dropout(found))


class BertFeedForward(nn.Module):
    """The feed-forward network on (B, L, D), with dropout, the residual and the norm after it."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.expand = nn.Linear(config.channels, config.feedforward)
        self.contract = nn.Linear(config.feedforward, config.channels)
        self.norm, self.dropout = nn.LayerNorm(config.channels, config.epsilon), nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.norm(hidden + self.dropout(self.contract(F.gelu(self.expand(hidden)))))


class BertLayer(nn.Module):
    """Self-attention and feed-forward network."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention, self.feed_forward = BertAttention(config), BertFeedForward(config)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        return self.feed_forward(self.attention(hidden, self.attention.project(hidden), mask))


class Bert(nn.Module):
    """(B, L) pieces and (B,) lengths -> (B, L, D) hidden states, of which those past a row's length say nothing."""

    def __init__(self, vocabulary: int, config: BertConfig):
        """vocabulary: the number of pieces."""
        super().__init__()
        self.config = config
        self.word, self.embeddings = nn.Embedding(vocabulary, config.channels), BertEmbeddings(config)
        self.layers = nn.ModuleList(BertLayer(config) for _ in range(config.layers))
        self.apply(draw_bert_weights)

    def forward(self, pieces: Tensor, lengths: Tensor) -> Tensor:
        hidden, mask = self.embeddings(self.word(pieces)), piece_mask(lengths, pieces.shape[1])
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return hidden


def piece_mask(lengths: Tensor, width: int) -> Tensor:
    """Returns where the pieces of each row are among `width`, (B, 1, 1, L): the mask of attention to them."""
    return (torch.arange(width, device=lengths.device) < lengths[:, None])[:, None, None]


@torch.no_grad()
def draw_bert_weights(module: nn.Module) -> None:
    """Gives a linear layer or an embedding the random weights that BERT begins with."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=SPREAD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
