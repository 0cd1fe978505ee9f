"""Functions timed in turns, so that what else the machine does meets all of them alike."""

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from carnelian.console import bar

CLOCKS = ("wall", "processor")


class CallSeconds(NamedTuple):
    """Seconds that passed, and seconds that processors worked, in this process and in those that it waited for."""

    wall: float
    processor: float


@dataclass(frozen=True)
class Timings:
    """Seconds (repeats, iterations) by the wall clock, and of processor time."""

    wall: np.ndarray
    processor: np.ndarray

    def by(self, clock: str) -> np.ndarray:
        """Returns the seconds by a clock of CLOCKS."""
        return self.wall if clock == "wall" else self.processor

    def with_more(self, other: "Timings") -> "Timings":
        """Returns these repeats and those of another measurement, as far as their iterations go."""
        count = min(self.wall.shape[1], other.wall.shape[1])
        pairs = ((self.wall, other.wall), (self.processor, other.processor))
        return Timings(*(np.concatenate([one[:, :count], two[:, :count]]) for one, two in pairs))


def processor_seconds() -> float:
    """Returns the processor time of this process so far, and of the processes that it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def seconds_of(function: Callable[[], object]) -> CallSeconds:
    """Returns the seconds that a call takes; those that it returns, where it is another process that measures itself."""
    processor, wall = processor_seconds(), time.perf_counter()
    found = function()
    measured = CallSeconds(time.perf_counter() - wall, processor_seconds() - processor)
    return found if isinstance(found, CallSeconds) else measured


def take_turns(
    contenders: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    iterations: int = 1,
    warm_up: int = 1,
    before_repeat: Callable[[], object] = lambda: None,
) -> dict[str, Timings]:
    """Returns the timings of functions by their names.

    Each function is first called `warm_up` times, which are left out: what is compiled, chosen and allocated belongs to none of them.
    In each of the `repeats` every function in turn is called `iterations` times. before_repeat: called before each, untimed.
    """
    found: dict[str, list[list[CallSeconds]]] = {name: [] for name in contenders}
    with bar("measuring", (repeats + 1) * len(contenders)) as advance:
        for name, function in contenders.items():
            for _ in range(warm_up):
                function()
            advance(text=name)
        for _ in range(repeats):
            before_repeat()
            for name, function in contenders.items():
                found[name].append([seconds_of(function) for _ in range(iterations)])
                advance(text=name)
    arrays = {name: np.array(times).reshape(repeats, iterations, 2) for name, times in found.items()}
    return {name: Timings(times[..., 0], times[..., 1]) for name, times in arrays.items()}
