"""Training with several processes: their group, sums over them, sharded models, and batch norm over all their rows.

Launched by torchrun, on one machine or many; gloo between CPUs, NCCL between GPUs.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.distributed as distributed
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from carnelian.data.batch import Batch
from carnelian.models.device import choose_device, keep_freed_memory

Value = TypeVar("Value")


@dataclass(frozen=True)
class World:
    """The processes of a training: the rank of this one, their number, and the device of this one."""

    rank: int = 0
    ranks: int = 1
    device: str = "cpu"


@contextmanager
def init_process_group(device: str = "") -> Iterator[World]:
    """Initializes the process group that torchrun has started, or yields a single process.

    By default a GPU is used where there is one.
    """
    device = choose_device(device)
    if device == "cpu":
        keep_freed_memory()
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks == 1:
        yield World(device=device)
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    ours = not distributed.is_initialized()
    if ours:
        store, rank, ranks = next(distributed.rendezvous("env://"))
        # torchrun keeps its store when it starts the processes again; the addresses of the dead must not be found in it
        store = distributed.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        backend = "gloo" if device == "cpu" else "nccl"
        distributed.init_process_group(backend, store=store, rank=rank, world_size=ranks)
    yield World(distributed.get_rank(), ranks, device)
    if ours:  # but not after an error: the others may be gone, and torchrun ends them
        distributed.destroy_process_group()


def of_this_process(values: Sequence[Value]) -> Sequence[Value]:
    """The values that fall to this process; each falls to one."""
    if not distributed.is_initialized():
        return values
    return values[distributed.get_rank() :: distributed.get_world_size()]


def highest_over_processes(values: Sequence[float], device: str = "cpu") -> list[float]:
    """The highest of each number over all processes, so that all of them decide alike."""
    if not distributed.is_initialized():
        return list(values)
    highest = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(highest, distributed.ReduceOp.MAX)
    return highest.tolist()


def wrap_in_ddp(model: nn.Module, world: World, *, sync_norm: bool = False) -> nn.Module:
    """The model as several processes train it: gradients are averaged, and with `sync_norm` the norms' statistics shared."""
    if world.ranks == 1:
        return model
    if sync_norm:
        share_norms(model)
    if is_sharded(model):
        return model
    devices = None if world.device == "cpu" else [world.device]
    unused = getattr(getattr(model, "encoder", None), "leaves_out_weights", False)
    return DistributedDataParallel(model, device_ids=devices, find_unused_parameters=unused)


def shard_model(model: nn.Module, world: World) -> None:
    """Divides a model's weights among the processes, and with them their gradients and all that an optimizer keeps (FSDP2).

    A block of the encoder is whole only while it is computed. The processes must hold the same weights before.
    """
    if world.ranks == 1:
        return
    mesh = init_device_mesh(torch.device(world.device).type, (world.ranks,))
    for block in getattr(model.encoder, "blocks", ()):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_sharded(model: nn.Module) -> bool:
    return isinstance(model, FSDPModule)


def local_part(tensor: Tensor) -> Tensor:
    """Returns the part of a tensor that this process holds: all of it, unless it is sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """Returns the full tensor, gathered from all processes where it is sharded; then all of them must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def divided_like(tensor: Tensor, like: Tensor | None) -> Tensor:
    """Returns a full tensor sharded as `like` is, if the shapes agree; else the tensor."""
    if not isinstance(like, DTensor) or like.shape != tensor.shape:
        return tensor
    parts = distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
    return torch.empty_like(like).copy_(parts)  # the parts themselves are views, and would keep the whole in memory


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns full copies of tensors on the CPU in the first process; the others only contribute their parts."""
    first = not distributed.is_initialized() or distributed.get_rank() == 0
    copies = {}
    for name, tensor in tensors.items():
        tensor = full_tensor(tensor.detach())
        if first:
            copies[name] = tensor.to("cpu", copy=True)
    return copies


def joined_rows(tensor: Tensor) -> Tensor:
    """Returns the rows of a tensor (B, ...) of all processes, the first one's first; all of them must call this."""
    if not distributed.is_initialized():
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def own_rows(tensor: Tensor) -> Tensor:
    """Returns this process's rows of what `joined_rows` gave."""
    if not distributed.is_initialized():
        return tensor
    rows = len(tensor) // distributed.get_world_size()
    return tensor[distributed.get_rank() * rows :][:rows]


def share_buffers(model: nn.Module) -> None:
    """Gives all processes the first one's buffers, which are those that are saved."""
    if distributed.is_initialized():
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def padded_alike(loss: Callable[[nn.Module, Batch], Tensor]) -> Callable[[nn.Module, Batch], Tensor]:
    """The loss with each batch padded to the longest of all processes, as it would be in one process with all their rows."""

    def padded_loss(model: nn.Module, batch: Batch) -> Tensor:
        samples = batch.audio.shape[1]
        longest = int(highest_over_processes([samples], str(batch.audio.device))[0])
        return loss(model, replace(batch, audio=F.pad(batch.audio, (0, longest - samples))))

    return padded_loss


def share_norms(model: nn.Module) -> None:
    """Turns each batch norm of a model into one whose statistics are taken over the rows of all processes."""
    for module in model.modules():
        kind = type(module)
        if isinstance(module, _BatchNorm) and not issubclass(kind, SharedBatchNorm):
            # a kind of its own ends in the forward of its parent, before which ours is put
            module.__class__ = type(kind.__name__, (kind, SharedBatchNorm), {})


class SharedBatchNorm(_BatchNorm):
    """Batch norm over the rows of all processes, on CPU and GPU (nn.SyncBatchNorm knows no CPU)."""

    def forward(self, encoded: Tensor) -> Tensor:
        if not self.training:
            return super().forward(encoded)
        normalized, mean, variance, count = _SharedNorm.apply(encoded, self.weight, self.bias, self.eps)
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum or 0.0)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum or 0.0)
        return normalized


class _SharedNorm(torch.autograd.Function):
    """(B, D, ...) normalised with mean and variance over all processes, which it gives too, with the frames counted."""

    @staticmethod
    def forward(ctx: Any, encoded: Tensor, weight: Tensor, bias: Tensor, eps: float):  # type: ignore[override]
        values, column = encoded.float(), (-1, *(1,) * (encoded.ndim - 2))
        others = [0, *range(2, encoded.ndim)]  # than the channels
        count = torch.full((1,), float(values.numel() // values.shape[1]), device=values.device)
        sums = torch.cat([values.sum(others), count])
        distributed.all_reduce(sums)
        count, mean = sums[-1], sums[:-1] / sums[-1]
        centred = values - mean.view(column)
        squares = centred.square().sum(others)
        distributed.all_reduce(squares)
        variance = squares / count
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(centred, scale, weight, count)
        ctx.others, ctx.column = others, column
        normalized = centred * (scale * weight).view(column) + bias.view(column)
        ctx.mark_non_differentiable(mean, variance, count)
        return normalized.to(encoded.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *unused: Tensor):  # type: ignore[override]
        centred, scale, weight, count = ctx.saved_tensors
        standard, values = centred * scale.view(ctx.column), gradient.float()
        to_bias, to_weight = values.sum(ctx.others), (values * standard).sum(ctx.others)
        sums = torch.stack([to_bias, to_weight])
        distributed.all_reduce(sums)
        mean, slope = sums / count
        to_input = values - mean.view(ctx.column) - standard * slope.view(ctx.column)
        return ((scale * weight).view(ctx.column) * to_input).to(gradient.dtype), to_weight, to_bias, None
