"""Wave2Letter+ (OpenSeq2Seq, Kuchaiev, Ginsburg et al., 2018, arXiv 1805.10387, after Collobert et al., 2016, arXiv 1609.03193)."""

from typing import Annotated, Literal

from carnelian.models.block_spec import BlockSpec
from carnelian.models.layers import ConvolutionalEncoder
from carnelian.ranges import PositiveFloat, PositiveInt, between


def wave2letter(
    features: PositiveInt = 64,
    *,
    repeat: PositiveInt = 3,
    dropout: Annotated[float, between(0, 2)] = 1.0,
    width: PositiveFloat = 1.0,
    stride: Literal[1, 2] = 2,
) -> ConvolutionalEncoder:
    """Wave2Letter+: (B, F, T) features and (B,) frames -> (B, 1024, O) and (B,) steps, with ReLU clipped at 20.

    `dropout` scales the published rates, `width` the channels. 106.5 million parameters with 28 letters. A `stride` of 1 gives
    the plain Wave2Letter: no first row, no dilation.
    """
    table = [(256, 11, 0.2), (384, 13, 0.2), (512, 17, 0.2), (640, 21, 0.3), (768, 25, 0.3)]
    first = [BlockSpec(int(256 * width), 11, stride=stride, dropout=0.2 * dropout)] if stride > 1 else []
    return ConvolutionalEncoder(
        features,
        [
            *first,
            *(
                BlockSpec(int(channels * width), kernel, repeat, dropout=rate * dropout)
                for channels, kernel, rate in table
            ),
            BlockSpec(int(896 * width), 29, dilation=2 if stride > 1 else 1, dropout=0.4 * dropout),
            BlockSpec(int(1024 * width), 1, dropout=0.4 * dropout),
        ],
        activation="clipped_relu",
    )
