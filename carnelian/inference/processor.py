"""The processor that inference runs on: its name, its cores, and the instruction sets that decide its speed."""

import os
import platform
import re
from pathlib import Path

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


def multiplies_bytes() -> bool:
    """Whether the processor multiplies bytes into 32-bit sums: where it does not, pairs of products may overflow 16 bits."""
    sets = set(processor_facts()[1])
    return bool({"VNNI", "AMX", "NEON dot product", "I8MM"} & sets) or platform.machine() in ("arm64", "aarch64")
