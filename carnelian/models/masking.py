"""Zero past each row's length, in activations and in their gradients: a row alone equals the same row in a batch. And dropout,
where it comes right after."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def mask_padding(encoded: Tensor, lengths: Tensor) -> Tensor:
    """The same tensor (B, ..., T) with all frames at and past each row's length set to zero, in place."""
    frames = encoded.shape[-1]
    if encoded.device.type == "cpu":  # touch only the padding, which is little
        for row, length in enumerate(lengths.tolist()):
            if length < frames:
                encoded[row, ..., length:] = 0
        return encoded
    padding = torch.arange(frames, device=encoded.device) >= lengths[:, None]
    return encoded.masked_fill_(padding[:, None, None], 0)


class _MaskPadding(torch.autograd.Function):
    """Zero past each row's length, in place, and in the gradients."""

    @staticmethod
    def forward(ctx, encoded, lengths):
        ctx.mark_dirty(encoded)
        ctx.save_for_backward(lengths)
        return mask_padding(encoded, lengths)

    @staticmethod
    def backward(ctx, gradient):
        (lengths,) = ctx.saved_tensors
        return mask_padding(gradient.clone(), lengths), None


def masked(encoded: Tensor, lengths: Tensor) -> Tensor:
    """Activations that nobody else holds, made zero past each row's length, with the gradient to match."""
    if not encoded.requires_grad:
        return mask_padding(encoded, lengths)
    if encoded.device.type == "cpu" and int(lengths.min()) >= encoded.shape[-1]:
        return encoded
    return _MaskPadding.apply(encoded, lengths)


def dropout_in_place(encoded: Tensor, share: float) -> Tensor:
    """The same tensor with a share of its numbers set to zero and the others scaled up to make up for it, in place.

    On CPU each number is drawn with 16 bits of a generator that torch's seeds: torch's own is four times as slow, which shows.
    """
    if encoded.device.type != "cpu" or torch.compiler.is_compiling() or share >= 1:
        return F.dropout(encoded, share, inplace=True)
    seed, count = int(torch.randint(2**62, ())), encoded.numel()
    drawn = torch.from_numpy(np.random.SFC64(seed).random_raw(-(-count // 4)).view(np.int16))[:count]
    kept = torch.empty_like(encoded, dtype=torch.bool)
    torch.ge(drawn, round(share * 65536) - 32768, out=kept.as_strided((count,), (1,)))
    return encoded.mul_(kept).mul_(1 / (1 - share))


class _MaskedRelu(torch.autograd.Function):
    """ReLU, zero past each row's length, and dropout, in place: the zeros kept for the gradient of the one serve all three."""

    @staticmethod
    def forward(ctx, encoded, lengths, dropout):
        ctx.mark_dirty(encoded)
        activated = mask_padding(encoded.relu_(), lengths)
        if dropout:
            activated = dropout_in_place(activated, dropout)
        ctx.scale = 1 / (1 - dropout) if dropout < 1 else 0.0
        ctx.save_for_backward(activated)
        return activated

    @staticmethod
    def backward(ctx, gradient):
        (activated,) = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(gradient, activated, 0)
        return gradient if ctx.scale == 1 else gradient.mul_(ctx.scale), None, None


def masked_relu(encoded: Tensor, lengths: Tensor, dropout: float = 0.0) -> Tensor:
    """ReLU of activations that nobody else holds, zero past each row's length, and a share of them dropped."""
    return _MaskedRelu.apply(encoded, lengths, dropout)
