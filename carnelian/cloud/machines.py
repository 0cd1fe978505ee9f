"""The machines with GPUs that AWS rents, with their prices, images and training speeds: the dated file machines.toml."""

import tomllib
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from importlib.resources import files
from typing import Any

from carnelian.errors import CloudError
from carnelian.recipe import did_you_mean


@dataclass(frozen=True)
class Machine:
    """An instance type; prices in $ per hour of one machine, None where no dated price is known."""

    type: str
    gpus: int
    gpu: str
    gpu_gib: float
    vcpus: int
    memory_gib: int
    efa: int
    on_demand: float | None = None
    spot: float | None = None
    capacity_block: float | None = None

    @property
    def family(self) -> str:
        """The letter by which quotas are counted: G or P."""
        return self.type[0].upper()


@dataclass(frozen=True)
class Published:
    """A published training speed on one A100 80 GB, with what the network costs for each second of audio."""

    encoder: str
    utterances_per_second: float
    million_multiply_adds: float
    activation_megabytes: float


@dataclass(frozen=True)
class Catalogue:
    """All that machines.toml holds. `dated` is the day of the prices, `region` where they apply."""

    dated: date
    region: str
    machines: tuple[Machine, ...]
    published: tuple[Published, ...]
    scaling: dict[str, float]
    bandwidth: dict[str, float]
    image: str
    end_of_support: dict[str, date]
    quotas: dict[str, str] = field(default_factory=dict)

    def machine(self, type: str) -> Machine:
        """The machine of that name; CloudError with the nearest known one otherwise."""
        known = {machine.type: machine for machine in self.machines}
        if type not in known:
            raise CloudError(f"{type}: not a machine that this version knows.{did_you_mean(type, known)}")
        return known[type]

    def warn_of(self, image: str, today: date) -> str | None:
        """One line about an image that gets no patches any more, or None."""
        for part, end in self.end_of_support.items():
            if part in f"{image}/" and end <= today:
                return f"image {image}: no patches since {end}. Take a newer one with --image; default: {self.image}"
        return None

    def with_prices(self, prices: dict[str, dict[str, Any]], region: str, today: date) -> "Catalogue":
        """The same machines with the prices (`on_demand`, `spot`) of a region; None where it does not offer one."""
        machines = tuple(
            replace(machine, **({"on_demand": None, "spot": None} | prices.get(machine.type, {})))
            for machine in self.machines
        )
        return replace(self, machines=machines, region=region, dated=today)


@lru_cache
def load_catalogue() -> Catalogue:
    """What the package's machines.toml says."""
    table = tomllib.loads(files("carnelian.cloud").joinpath("machines.toml").read_text(encoding="utf-8"))
    return Catalogue(
        dated=table["dated"],
        region=table["region"],
        machines=tuple(Machine(**machine) for machine in table["machine"]),
        published=tuple(Published(**figure) for figure in table["published"]),
        scaling=table["scaling"],
        bandwidth=table["bandwidth"],
        image=table["images"]["default"],
        end_of_support=table["images"]["end_of_support"],
        quotas=table["quotas"],
    )
