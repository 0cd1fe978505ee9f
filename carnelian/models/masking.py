"""Padding masks: activations and their gradients are zero past each row's length, so that a row alone equals the row in a batch.

ReLU and dropout are done in the same pass where they follow.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mask_padding(encoded: Tensor, lengths: Tensor) -> Tensor:
    """Sets the frames of a tensor (B, ..., T) at and past each row's length to zero, in place, and returns it."""
    frames = encoded.shape[-1]
    if encoded.device.type == "cpu":  # touch only the padding, which is little
        for row, length in enumerate(lengths.tolist()):
            if length < frames:
                encoded[row, ..., length:] = 0
        return encoded
    padding = torch.arange(frames, device=encoded.device) >= lengths[:, None]
    return encoded.masked_fill_(padding.view(-1, *[1] * (encoded.ndim - 2), frames), 0)


class _MaskPadding(torch.autograd.Function):
    """The padding mask, in place, for activations and their gradients."""

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
    """Returns activations with zeros past each row's length; the gradient is masked too.

    Works in place: no other code may use the input.
    """
    if not encoded.requires_grad:
        return mask_padding(encoded, lengths)
    if encoded.device.type == "cpu" and int(lengths.min()) >= encoded.shape[-1]:
        return encoded
    return _MaskPadding.apply(encoded, lengths)


def dropout_in_place(encoded: Tensor, share: float) -> Tensor:
    """Applies dropout in place and returns the tensor: a share of the values becomes zero, the others are scaled by 1 / (1 - share).

    On CPU the mask is drawn with 16 bits per value from NumPy's SFC64, seeded by torch's generator: four times as fast as
    torch's own dropout (`benchmarks/training_step.py`).
    """
    if encoded.device.type != "cpu" or torch.compiler.is_compiling() or share >= 1:
        return F.dropout(encoded, share, inplace=True)
    seed, count = int(torch.randint(2**62, ())), encoded.numel()
    drawn = torch.from_numpy(np.random.SFC64(seed).random_raw(-(-count // 4)).view(np.int16))[:count]
    kept = torch.empty_like(encoded, dtype=torch.bool)
    torch.ge(drawn, round(share * 65536) - 32768, out=kept.as_strided((count,), (1,)))
    return encoded.mul_(kept).mul_(1 / (1 - share))


class InPlaceDropout(nn.Dropout):
    """Dropout by `dropout_in_place`, for activations that nothing else reads."""

    def forward(self, encoded: Tensor) -> Tensor:
        return dropout_in_place(encoded, self.p) if self.training and self.p else encoded


def active_share(dropout: nn.Dropout) -> float:
    """Returns the share of a dropout that is on, for those who draw the zeros themselves; 0 where it is off."""
    return dropout.p if dropout.training else 0.0


def keep_dropout(model: nn.Module) -> None:
    """Turns on the dropout of a model in evaluation mode: its outputs then vary, as the outputs of as many models do."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()


class _MaskedRelu(torch.autograd.Function):
    """ReLU, padding mask and dropout, in place: the zeros of the result are the mask of all three gradients."""

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
    """Returns ReLU, padding mask and dropout of activations. Works in place: no other code may use the input."""
    return _MaskedRelu.apply(encoded, lengths, dropout)
