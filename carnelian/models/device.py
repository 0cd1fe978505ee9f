"""The device to compute on."""

import ctypes
import platform

import torch

from carnelian.errors import CarnelianError


def choose_device(device: str = "") -> str:
    """Returns the named device, or by default "cuda" where there is a GPU and else "cpu". Raises CarnelianError if it is absent."""
    if not device:
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or not (number or "0").isdigit():
        raise CarnelianError(f'device "{device}": no such device. Known: cpu, cuda, cuda:N')
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise CarnelianError(
            f'device "{device}": torch finds {count} CUDA devices on this machine. Use cpu, or leave the device out'
        )
    return device


def keep_freed_memory() -> None:
    """Lets this process keep freed memory, up to a gigabyte, for its next tensors. Does nothing where the C library is not glibc.

    glibc otherwise gives each large tensor back to the system, which clears it again page by page at the next step: a quarter of
    the time of Jasper's training step and a tenth of QuartzNet's (`benchmarks/training_step.py`).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    libc = ctypes.CDLL(None)
    for parameter in (mmap_threshold, trim_threshold):
        libc.mallopt(parameter, 1 << 30)


def has_bf16() -> bool:
    """Returns whether the processor computes in bfloat16: AVX512_BF16 or AMX on x86-64; elsewhere it is taken to."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
