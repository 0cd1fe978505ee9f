"""The ranges of a beam search's settings, and the checks of them. Imports no compiled code, so that settings load at once."""

from numbers import Integral
from typing import Annotated

from carnelian.errors import DecodingError
from carnelian.ranges import between

WIDEST = 100_000  # prefixes in a beam, which then takes some hundred megabytes
LARGEST_WEIGHT = 80.0  # natural log; no weight or bonus is larger, so that no factor leaves the range of a float
LARGEST_UNKNOWN = 10_000.0  # natural log: what an unknown word may cost

Alpha = Annotated[float, between(0, LARGEST_WEIGHT)]
Beta = Annotated[float, between(-LARGEST_WEIGHT, LARGEST_WEIGHT)]
BeamWidth = Annotated[int, between(1, WIDEST)]


def checked_width(beam_width: int) -> int:
    """Returns the beam width; raises DecodingError for one out of range."""
    if not (isinstance(beam_width, Integral) and 1 <= beam_width <= WIDEST):
        raise DecodingError(f"beam width {beam_width}: expected a whole number from 1 to {WIDEST:,}")
    return int(beam_width)


def check_weight(name: str, value: float, lowest: float = -LARGEST_WEIGHT) -> None:
    """Raises DecodingError for a weight that is no number or out of range."""
    if not lowest <= value <= LARGEST_WEIGHT:
        raise DecodingError(f"{name} {value}: expected a number from {lowest:g} to {LARGEST_WEIGHT:g}")
