"""Multi-head attention of vectors that are projected already."""

import torch.nn.functional as F
from torch import Tensor


def split_heads(vectors: Tensor, heads: int) -> Tensor:
    """Returns vectors (B, L, D) as those of the heads (B, H, L, D / H)."""
    return vectors.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float = 0.0) -> Tensor:
    """Returns what queries (B, H, Q, D / H) find among keys and values (B, H, K, D / H), as (B, Q, D).

    mask: broadcast to (B, H, Q, K), true where a key may be seen; None: all of them. dropout: share of the weights.
    """
    found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    return found.transpose(1, 2).flatten(2)
