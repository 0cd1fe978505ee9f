"""Zero past each row's length, in activations and in their gradients: a row alone equals the same row in a batch."""

import torch
from torch import Tensor


def silence(encoded: Tensor, lengths: Tensor) -> Tensor:
    """The same tensor (B, ..., T) with all frames at and past each row's length set to zero, in place."""
    frames = encoded.shape[-1]
    if encoded.device.type == "cpu":  # touch only the padding, which is little
        for row, length in enumerate(lengths.tolist()):
            if length < frames:
                encoded[row, ..., length:] = 0
        return encoded
    padding = torch.arange(frames, device=encoded.device) >= lengths[:, None]
    return encoded.masked_fill_(padding[:, None, None], 0)


class _Silence(torch.autograd.Function):
    """Zero past each row's length, in place, and in the gradients."""

    @staticmethod
    def forward(ctx, encoded, lengths):
        ctx.mark_dirty(encoded)
        ctx.save_for_backward(lengths)
        return silence(encoded, lengths)

    @staticmethod
    def backward(ctx, gradient):
        (lengths,) = ctx.saved_tensors
        return silence(gradient.clone(), lengths), None


def silenced(encoded: Tensor, lengths: Tensor) -> Tensor:
    """Activations that nobody else holds, made zero past each row's length, with the gradient to match."""
    if not encoded.requires_grad:
        return silence(encoded, lengths)
    if encoded.device.type == "cpu" and int(lengths.min()) >= encoded.shape[-1]:
        return encoded
    return _Silence.apply(encoded, lengths)


class _ReluSilence(torch.autograd.Function):
    """ReLU, then zero past each row's length, in place: the zeros that are kept for the gradient of the one serve the other."""

    @staticmethod
    def forward(ctx, encoded, lengths):
        ctx.mark_dirty(encoded)
        activated = silence(encoded.relu_(), lengths)
        ctx.save_for_backward(activated)
        return activated

    @staticmethod
    def backward(ctx, gradient):
        (activated,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradient, activated, 0), None


def relu_silenced(encoded: Tensor, lengths: Tensor) -> Tensor:
    """ReLU of activations that nobody else holds, zero past each row's length."""
    return _ReluSilence.apply(encoded, lengths)
