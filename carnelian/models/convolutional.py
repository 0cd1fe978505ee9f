"""An encoder from tables of a recipe: other people's networks, and your own."""

from collections.abc import Sequence

from carnelian.models.layers import ConvolutionalEncoder, Row
from carnelian.models.planes import Plane


def convolutional(
    features: int = 64,
    *,
    rows: Sequence[dict],
    planes: Sequence[dict] = (),
    activation: str = "relu",
    norm: str = "batch",
    mask: bool = True,
) -> ConvolutionalEncoder:
    """Rows given one by one, each a table of `Row`'s fields; before them convolutions over bands and frames, of `Plane`'s."""
    return ConvolutionalEncoder(
        features,
        [Row(**row) for row in rows],
        planes=[Plane(**plane) for plane in planes],
        activation=activation,
        norm=norm,
        mask=mask,
    )
