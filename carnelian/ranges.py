"""Ranges of settings, written in signatures: `dropout: Annotated[float, between(0, 1)]`. Recipes and commands are checked by them."""

import math
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True, slots=True)
class Range:
    """Finite numbers from `low` to `high`, both inside unless `above` or `below` is set."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: Any) -> bool:
        if not math.isfinite(value):
            return False
        return (value > self.low if self.above else value >= self.low) and (
            value < self.high if self.below else value <= self.high
        )

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"above {self.low:g}" if self.above else f"{self.low:g} or more"
        if math.isinf(self.low):
            return f"below {self.high:g}" if self.below else f"{self.high:g} or less"
        low = f"above {self.low:g}" if self.above else f"from {self.low:g}"
        return f"{low} to {'below ' if self.below else ''}{self.high:g}"


def at_least(low: float) -> Range:
    """Returns the range of numbers that are `low` or more."""
    return Range(low)


def above(low: float) -> Range:
    """Returns the range of numbers that are more than `low`."""
    return Range(low, above=True)


def between(low: float, high: float) -> Range:
    """Returns the range of numbers from `low` to `high`, both inside."""
    return Range(low, high)


PositiveInt = Annotated[int, at_least(1)]
NonNegativeInt = Annotated[int, at_least(0)]
PositiveFloat = Annotated[float, above(0)]
NonNegativeFloat = Annotated[float, at_least(0)]
Fraction = Annotated[float, between(0, 1)]
FractionBelowOne = Annotated[float, Range(0, 1, below=True)]
