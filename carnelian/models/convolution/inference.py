"""Weights of convolutions prepared for inference, in place."""

import platform

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from carnelian.models.layers import Convolution, Normalized

PACKED_FOR = 100  # frames; the order of weights that is best for them is also good for one frame and for thousands


def fold_batch_norm(model: nn.Module) -> None:
    """Folds each batch norm into the convolution before it, in place; the model is then only for evaluation, and faster on a CPU."""
    for module in model.modules():
        if (
            isinstance(module, Normalized)
            and isinstance(module.norm, nn.BatchNorm2d)
            and not is_parametrized(module.convolution)
        ):
            norm, convolution = module.norm, module.convolution
            assert norm.running_mean is not None and norm.running_var is not None
            scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            weight = convolution.weight.double() * scale[:, None, None, None]
            convolution.weight = nn.Parameter(weight.to(convolution.weight.dtype), requires_grad=False)
            shift = norm.bias.double() - norm.running_mean.double() * scale
            del convolution.bias
            convolution.register_buffer("bias", shift.detach().to(convolution.weight.dtype))
            module.norm, module.masked = nn.Identity(), False


def pack_convolutions(model: nn.Module) -> None:
    """Puts the weights of pointwise convolutions into oneDNN's order, in place; the model is then for evaluation in float32 on a CPU.

    Otherwise oneDNN reorders each weight at each call: a quarter of the time of 2 s of audio, and most of that of live
    recognition. Does nothing on processors other than x86-64 ones.
    """
    if platform.machine().lower() not in ("x86_64", "amd64") or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return
    for module in model.modules():
        if not isinstance(module, Convolution) or module.packed or is_parametrized(module):
            continue
        if module.kernel == module.stride == module.groups == 1:
            weight = module.weight.detach().flatten(1).contiguous()
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR)
            module.weight, module.packed = nn.Parameter(weight, requires_grad=False), True
