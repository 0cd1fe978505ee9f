"""Which machine for a recipe: whether it fits, how long it takes, what it costs on demand, as spot and as a Capacity Block."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from carnelian.checkpoint import build_model
from carnelian.cloud.machines import Catalogue, Machine
from carnelian.data.alphabet import make_alphabet
from carnelian.errors import CloudError
from carnelian.models.cost import OPTIMIZER_STATES, Cost, measure_cost
from carnelian.recipe import Recipe

USABLE = 0.9
"""The share of a GPU's memory that the training may fill; the rest is for CUDA itself, the allocator's gaps and NCCL."""
MEAN_UTTERANCE = 12.29
"""Seconds of a LibriSpeech training utterance on average, in which published speeds are counted."""
STARTUP_HOURS = 0.25
BLOCK_HOURS_LOST = 40 / 60
"""A Capacity Block's machines are stopped 30 minutes before its end, and our trainings 10 minutes earlier."""
BLOCK_DAYS = [*range(1, 15), *range(21, 183, 7)]
REFERENCE_GPU = "A100-80"
FAST_NETWORK = 4
"""Network interfaces for EFA, of 100 Gbit/s each, from which on several machines train together."""
WEEK, DAY = 168.0, 24.0


@dataclass(frozen=True)
class Demand:
    """What a training asks for: GiB of one GPU at the recipe's batch and for each second of it, and audio hours over all epochs."""

    encoder: str
    fixed_gib: float
    gib_per_second: float
    batch_seconds: float
    audio_hours: float
    million_multiply_adds: float
    activation_megabytes: float

    @property
    def gib(self) -> float:
        return self.fixed_gib + self.gib_per_second * self.batch_seconds


@dataclass(frozen=True)
class Row:
    """A machine, or several, for a training; $ for all of it, None where no price is known."""

    machine: Machine
    count: int
    gib: float
    fits: bool
    accumulate: int
    hours: float
    source: str
    on_demand: float | None
    spot: float | None
    capacity_block: float | None
    block_days: int

    @property
    def gpus(self) -> int:
        return self.machine.gpus * self.count

    @property
    def cheapest(self) -> float:
        """The lowest of the known prices, infinite where none is."""
        return min(
            (price for price in (self.on_demand, self.spot, self.capacity_block) if price is not None), default=math.inf
        )


def measure_demand(recipe: Recipe, hours_of_audio: float) -> Demand:
    """The demand of an acoustic recipe, from a step of its network on the meta device: shapes alone, no memory and no GPU."""
    if "encoder" not in recipe or "alphabet" not in recipe:
        raise CloudError(
            "the recipe has no [encoder] or no alphabet. Give one of an acoustic model, such as those of carnelian recipes"
        )
    if hours_of_audio <= 0:
        raise CloudError(f"--hours-of-audio {hours_of_audio:g}: expected hours of the training manifests, above 0")
    with torch.device("meta"):
        cost = measure_cost(build_model(recipe, make_alphabet(recipe["alphabet"])))
    train, optimizer = recipe.get("train", {}), recipe.get("optimizer", {})
    longest = train.get("max_duration", 16.7)
    batch_seconds = train.get("batch_seconds") or train.get("batch_size", 1) * longest
    views = 2 if train.get("consistency") else 1
    steps = train.get("steps", 0) * train.get("accumulate", 1)
    fixed, per_second = step_bytes(cost, optimizer.get("name", "adamw"), train.get("precision", "fp32"))
    return Demand(
        encoder=recipe["encoder"].get("name", ""),
        fixed_gib=fixed / 2**30,
        gib_per_second=per_second * views / 2**30,
        batch_seconds=batch_seconds,
        audio_hours=views * (train["epochs"] * hours_of_audio if train.get("epochs") else steps * batch_seconds / 3600),
        million_multiply_adds=cost.multiply_adds / 1e6,
        activation_megabytes=cost.activation_bytes / 1e6,
    )


def step_bytes(cost: Cost, optimizer: str, precision: str) -> tuple[float, float]:
    """Bytes of weights, gradients and optimizer state, and of activations for each second of the batch.

    In mixed precision activations take half; weights keep their 32 bits and are copied once in 16.
    """
    states = OPTIMIZER_STATES.get(optimizer, 2)
    mixed = precision != "fp32"
    fixed = cost.training_bytes(0.0, states) + 2 * cost.parameters * mixed
    return fixed, cost.activation_bytes * (0.5 if mixed else 1.0)


def reference_speed(demand: Demand, catalogue: Catalogue) -> tuple[float, str]:
    """Seconds of audio that one A100 80 GB trains on in a second, and where the figure is from.

    A network of another shape takes a x multiply-adds + b x activation bytes, with a and b from the two published networks.
    """
    for each in catalogue.published:
        if each.encoder == demand.encoder and math.isclose(
            each.million_multiply_adds, demand.million_multiply_adds, rel_tol=0.05
        ):
            return each.utterances_per_second * MEAN_UTTERANCE, "published"
    shapes = np.array([[each.million_multiply_adds, each.activation_megabytes] for each in catalogue.published])
    seconds = np.array([1 / (each.utterances_per_second * MEAN_UTTERANCE) for each in catalogue.published])
    weights = np.linalg.solve(shapes, seconds)
    return 1 / float(np.dot(weights, [demand.million_multiply_adds, demand.activation_megabytes])), "scaled by size"


def gpu_speed(gpu: str, catalogue: Catalogue) -> float:
    """How fast a GPU trains, an A100 80 GB being 1: in proportion to memory bandwidth below it, by its square root above."""
    ratio = catalogue.bandwidth[gpu] / catalogue.bandwidth[REFERENCE_GPU]
    return ratio if ratio <= 1 else math.sqrt(ratio)


def shared_speed(gpus: int, catalogue: Catalogue) -> float:
    """Returns the speed of `gpus` GPUs together, as a share of `gpus` times the speed of one."""
    if gpus == 1:
        return 1.0
    return catalogue.scaling["within_8"] if gpus <= 8 else catalogue.scaling["beyond"]


def plan_rows(
    demand: Demand,
    catalogue: Catalogue,
    *,
    machines: Iterable[Machine] | None = None,
    counts: Iterable[int] = (1, 2, 4),
    speed: float = 0.0,
) -> list[Row]:
    """A row for each machine and for several of those with EFA, fastest last.

    speed: seconds of audio that one GPU of the machine trains on in a second, as measured; 0: from published figures.
    """
    rows = [
        plan_row(demand, catalogue, machine, count, speed)
        for machine in (catalogue.machines if machines is None else machines)
        for count in counts
        if count == 1 or machine.efa >= FAST_NETWORK
    ]
    return sorted(rows, key=lambda row: -row.hours)


def plan_row(demand: Demand, catalogue: Catalogue, machine: Machine, count: int, speed: float = 0.0) -> Row:
    """What a training takes on `count` machines of one type."""
    room = USABLE * machine.gpu_gib
    accumulate = 1
    if demand.gib > room:  # a batch in parts, where one part fits
        left = room - demand.fixed_gib
        accumulate = math.ceil(demand.gib_per_second * demand.batch_seconds / left) if left > 0 else 0
    fits = 0 < accumulate <= 64
    source = "measured"
    if not speed:
        speed, source = reference_speed(demand, catalogue)
        if machine.gpu != REFERENCE_GPU:
            speed, source = (
                speed * gpu_speed(machine.gpu, catalogue),
                f"{source}, A100 to {machine.gpu}".replace("published, ", "scaled from "),
            )
    gpus = machine.gpus * count
    hours = STARTUP_HOURS + demand.audio_hours / (speed * gpus * shared_speed(gpus, catalogue))
    days = next((days for days in BLOCK_DAYS if 24 * days - BLOCK_HOURS_LOST >= hours), 0)

    def dollars(per_hour: float | None, hours: float) -> float | None:
        return None if per_hour is None else per_hour * hours * count

    return Row(
        machine,
        count,
        demand.fixed_gib + demand.gib_per_second * demand.batch_seconds / max(1, accumulate),
        fits,
        accumulate,
        hours,
        source,
        dollars(machine.on_demand, hours),
        dollars(machine.spot, hours),
        dollars(machine.capacity_block, 24.0 * days) if days else None,
        days if machine.capacity_block else 0,
    )


def recommend(rows: list[Row], budget: float = 0.0) -> tuple[Row | None, Row | None]:
    """The small and the large machine: the cheapest with one GPU that ends within a week, the cheapest with eight within a day.

    Where none ends so soon, the fastest. None where nothing fits or is within the budget.
    """
    possible = [row for row in rows if row.fits and row.cheapest < math.inf and (not budget or row.cheapest <= budget)]

    def best(rows: list[Row], hours: float) -> Row | None:
        soon = [row for row in rows if row.hours <= hours]
        return min(soon, key=lambda row: row.cheapest) if soon else min(rows, key=lambda row: row.hours, default=None)

    return best([row for row in possible if row.gpus == 1], WEEK), best([row for row in possible if row.gpus >= 8], DAY)
