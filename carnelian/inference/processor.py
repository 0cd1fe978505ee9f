"""The machine that work runs on: its processor with the instruction sets that decide its speed, and what it is measured with."""

import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from carnelian.benchmarking.rounds import CLOCKS, seconds_of

#: from /proc/cpuinfo, in the order in which they were introduced
INSTRUCTION_SETS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "VNNI",
    "avx_vnni": "VNNI",
    "avx512_bf16": "BF16",
    "amx_int8": "AMX",
    "asimddp": "NEON dot product",
    "i8mm": "I8MM",
}


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_facts(text: str | None = None) -> tuple[str, list[str]]:
    """The processor's name, and its instruction sets in the order of INSTRUCTION_SETS; `text` in place of /proc/cpuinfo."""
    if text is None:
        path = Path("/proc/cpuinfo")
        text = path.read_text() if path.exists() else ""
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)
    name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    found = set(flags[1].split()) if flags else set()
    sets = dict.fromkeys(name for flag, name in INSTRUCTION_SETS.items() if flag in found)
    return (name[1] if name else platform.processor() or platform.machine()), list(sets)


def machine_facts() -> dict[str, Any]:
    """Returns what a figure of speed depends on: processor, instruction sets, cores, memory, GPUs, threads, programs, and the load."""
    name, sets = processor_facts()
    facts: dict[str, Any] = {"processor": name, "instructions": sets, "cores": available_cores(), "gpus": []}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gb"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    if hasattr(os, "getloadavg"):
        facts["load"] = round(os.getloadavg()[0], 1)
    facts["programs"] = {"Python": platform.python_version()}
    for package in ("torch", "onnxruntime", "numba"):
        try:
            facts["programs"][package] = version(package)
        except PackageNotFoundError:
            continue
    if torch := sys.modules.get("torch"):
        facts["threads"] = torch.get_num_threads()
        facts["gpus"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return facts


def matrix_product_rate(device: str = "cpu", precision: str = "fp32") -> dict[str, float]:
    """Returns GFLOP of large matrix products per second by each clock, the best of several: what no model computes faster than.

    By PyTorch where it is loaded, and else by NumPy.
    """
    size = 1024 if device == "cpu" else 8192
    torch = sys.modules.get("torch")
    if torch is None:
        one: Any = np.ones((size, size), np.float32)
        other: Any = one.copy()
    else:
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
        one, other = (torch.randn(size, size, device=device).to(kind) for _ in range(2))

    def multiply() -> None:
        one @ other
        synchronize(device)

    synchronize(device)
    times = [seconds_of(multiply) for _ in range(5)]
    return {clock: 2e-9 * size**3 / min(getattr(each, clock) for each in times) for clock in CLOCKS}


def synchronize(device: str) -> None:
    """Waits until a GPU has done all that it was given."""
    if device != "cpu":
        sys.modules["torch"].cuda.synchronize(device)


def multiplies_bytes() -> bool:
    """Whether the processor multiplies bytes into 32-bit sums: where it does not, pairs of products may overflow 16 bits."""
    sets = set(processor_facts()[1])
    return bool({"VNNI", "AMX", "NEON dot product", "I8MM"} & sets) or platform.machine() in ("arm64", "aarch64")
