"""A check before a training on several machines: all processes add up their ranks, and a large buffer shows the network's speed.

torchrun --nproc-per-node 8 -m carnelian.cloud.all_reduce
"""

import os
import sys
import time

import torch
import torch.distributed as distributed

MEGABYTES = 256
TIMED_ROUNDS = 5


def check_all_reduce(megabytes: int = MEGABYTES) -> float:
    """Returns the bus bandwidth of an all-reduce in GB/s; RuntimeError where the sum is wrong."""
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    device = "cpu"
    if torch.cuda.is_available():
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    ranks_sum = torch.tensor([float(rank)], device=device)
    distributed.all_reduce(ranks_sum)
    if ranks_sum.item() != ranks * (ranks - 1) / 2:
        raise RuntimeError(f"all-reduce gave {ranks_sum.item()} for the ranks 0 to {ranks - 1}")
    buffer = torch.zeros(megabytes * 250_000, device=device)
    distributed.all_reduce(buffer)  # connections are made at the first use
    started = time.monotonic()
    for _ in range(TIMED_ROUNDS):
        distributed.all_reduce(buffer)
    buffer[:1].item()  # waits for the device
    seconds = (time.monotonic() - started) / TIMED_ROUNDS
    return megabytes / 1e3 / seconds * 2 * (ranks - 1) / ranks


if __name__ == "__main__":
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    speed = check_all_reduce(MEGABYTES if torch.cuda.is_available() else 8)
    if distributed.get_rank() == 0:
        print(
            f"carnelian: {distributed.get_world_size()} processes reach each other, {speed:.1f} GB/s", file=sys.stderr
        )
    distributed.destroy_process_group()
