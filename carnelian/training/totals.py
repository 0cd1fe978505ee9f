"""What a training cost so far: time, processor time, audio, memory, energy, and how soon each error rate was reached."""

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from carnelian.console import duration_text

RAPL = Path("/sys/class/powercap")  # energy counters of Intel and AMD processors under Linux


@dataclass
class Totals:
    """Sums over all steps of a run, kept in its checkpoints, so that a run that was stopped and went on is counted as one.

    Seconds; waited: for data; processor: of all threads of this process, since the run began; joules: of the processors and
    GPUs, where the machine tells it. validations: (step, minutes of training so far, error rate).
    """

    steps: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0
    audio_seconds: float = 0.0
    waited_seconds: float = 0.0
    joules: float = 0.0
    peak_memory_bytes: int = 0
    peak_device_memory_bytes: int = 0
    validations: list[list[float]] = field(default_factory=list)

    @classmethod
    def restore(cls, saved: Any) -> "Totals":
        """Returns the totals that `asdict` saved; keys that this version does not know are left out."""
        known = {each.name for each in fields(cls)}
        return (
            cls(**{key: value for key, value in saved.items() if key in known}) if isinstance(saved, Mapping) else cls()
        )

    def figures(self, price_per_hour: float = 0.0) -> dict[str, float]:
        """Returns the totals as figures to show and to keep: hours, shares, rates, gigabytes, cost."""
        hours = self.seconds / 3600
        found = {
            "wall_minutes": self.seconds / 60,
            "processor_minutes": self.processor_seconds / 60,
            "share_waiting_for_data": self.waited_seconds / self.seconds if self.seconds else 0.0,
            "peak_memory_gb": self.peak_memory_bytes / 1e9,
        }
        if self.audio_seconds:
            found["audio_hours"] = self.audio_seconds / 3600
            found["audio_hours_per_hour"] = self.audio_seconds / self.seconds if self.seconds else 0.0
        if self.peak_device_memory_bytes:
            found["peak_device_memory_gb"] = self.peak_device_memory_bytes / 1e9
        if self.joules:
            found["energy_kwh"] = self.joules / 3.6e6
        if price_per_hour:
            found["cost"] = hours * price_per_hour
        return {key: round(value, 4) for key, value in found.items()}

    def describe(self, price_per_hour: float = 0.0) -> str:
        """Returns the figures as a line for people."""
        durations = {
            "wall_minutes": f"{duration_text(self.seconds)} of wall time",
            "processor_minutes": f"{duration_text(self.processor_seconds)} of processor time",
            "audio_hours": f"{duration_text(self.audio_seconds)} of audio",
        }
        figures = self.figures(price_per_hour).items()
        return ", ".join(durations.get(key) or f"{key.replace('_', ' ')} {value:.4g}" for key, value in figures)

    def saved(self) -> dict[str, Any]:
        """Returns the totals as JSON can hold them."""
        return asdict(self)


class Meter:
    """Adds what happens between its calls to totals."""

    def __init__(self, totals: Totals):
        self.totals = totals
        self.processor, self.energy = time.process_time(), read_energy()

    def step(self, seconds: float, waited: float, audio_seconds: float) -> None:
        """Counts a step."""
        totals, processor, energy = self.totals, time.process_time(), read_energy()
        totals.steps += 1
        totals.seconds += seconds
        totals.waited_seconds += waited
        totals.audio_seconds += audio_seconds
        totals.processor_seconds += processor - self.processor
        totals.joules += max(0.0, energy - self.energy)  # a counter that overflowed begins at 0 again
        self.processor, self.energy = processor, energy
        totals.peak_memory_bytes = max(totals.peak_memory_bytes, peak_memory())
        if torch.cuda.is_initialized():
            totals.peak_device_memory_bytes = max(totals.peak_device_memory_bytes, torch.cuda.max_memory_allocated())

    def validation(self, step: int, rate: float) -> None:
        """Notes an error rate with the minutes of training until then."""
        self.totals.validations.append([step, round(self.totals.seconds / 60, 3), rate])


def peak_memory() -> int:
    """Returns the largest memory of this process so far in bytes; 0 on Windows, which has another interface."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def read_energy() -> float:
    """Returns the joules that processors and GPUs have used since some moment; 0 where the machine does not tell."""
    joules = 0.0
    for path in RAPL.glob("*-rapl:[0-9]/energy_uj") if RAPL.exists() else ():
        try:
            joules += int(path.read_text()) / 1e6
        except (OSError, ValueError):  # often readable for root only
            continue
    return joules + read_gpu_energy()


def read_gpu_energy() -> float:
    """Returns the joules of all GPUs of NVIDIA's, through the package nvidia-ml-py; 0 without it."""
    if not torch.cuda.is_initialized():
        return 0.0
    try:
        import pynvml

        pynvml.nvmlInit()
        devices = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(device) / 1e3 for device in devices)
    except Exception:  # a machine without the package, or a GPU without the counter
        return 0.0
