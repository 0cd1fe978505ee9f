"""The precision that is fastest on this processor, measured once and remembered."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from carnelian.errors import CarnelianError
from carnelian.files import cache_folder, written
from carnelian.inference.processor import processor_facts

#: of work in all, when a kind of model is first run on a processor
MEASURED_SECONDS = 1.0


def choose_precision(
    kind: str, engines: Mapping[str, Callable[[], Any]], memory: Path | None = None
) -> tuple[str, Any]:
    """Returns the name of the fastest of some engines of one model, and that engine.

    kind: what the measurement is remembered by, beside the processor, such as "onnx quartznet". engines: by precision, functions
    that make them. memory: the file of earlier choices, by default in the user's cache folder.
    """
    processor, sets = processor_facts()
    memory = memory or cache_folder() / "precision.json"
    key = f"{processor}, {' '.join(sets)}: {kind}, {' or '.join(sorted(engines))}"
    choices = read_choices(memory)
    if choices.get(key) in engines:
        return choices[key], engines[choices[key]]()
    made = {name: make() for name, make in engines.items()}
    seconds = {name: seconds_per_run(engine, MEASURED_SECONDS / len(made)) for name, engine in made.items()}
    fastest = min(seconds, key=lambda name: seconds[name])
    try:
        with written(memory) as file:
            json.dump(choices | {key: fastest}, file, indent=2)
    except CarnelianError:  # a read-only home: it is measured again next time
        pass
    return fastest, made[fastest]


def seconds_per_run(engine: Any, seconds: float) -> float:
    """The shortest time that an engine takes for two seconds of noise, of as many runs as fit."""
    noise = [0.1 * np.random.default_rng(0).standard_normal(2 * engine.sample_rate, np.float32)]
    engine.emissions(noise, (1.0,))
    times: list[float] = []
    ends = time.perf_counter() + seconds
    while not times or time.perf_counter() < ends:
        started = time.perf_counter()
        engine.emissions(noise, (1.0,))
        times.append(time.perf_counter() - started)
    return min(times)


def read_choices(memory: Path) -> dict[str, str]:
    """The remembered choices; none where the file is absent or is not what was written."""
    try:
        found = json.loads(memory.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
