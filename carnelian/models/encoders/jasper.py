"""Jasper (Li, Lavrukhin, Ginsburg et al., 2019, arXiv 1904.03288): deep convolutions with residuals, and its tables' variants."""

from typing import Annotated

from carnelian.errors import RecipeError
from carnelian.models.block_spec import Activation, BlockSpec, Residual
from carnelian.models.layers import ConvolutionalEncoder
from carnelian.models.norms import Norm
from carnelian.ranges import Fraction, PositiveFloat, PositiveInt, between

#: what a convolution adds in a DenseNet row, as a share of the row's channels. The paper does not print it; these give the
#: parameters that it does print (table 4: 205 and 211 million)
GROWTH = {"densenet": 0.63, "densernet": 0.638}


def jasper(
    features: PositiveInt = 64,
    *,
    blocks: PositiveInt = 10,
    repeat: PositiveInt = 5,
    residual: Residual = "dense",
    activation: Activation = "relu",
    norm: Norm = "batch",
    mask: bool = True,
    dropout: Annotated[float, between(0, 2)] = 1.0,
    width: PositiveFloat = 1.0,
) -> ConvolutionalEncoder:
    """Jasper `blocks` x `repeat` of table 1: (B, F, T) features and (B,) frames -> (B, 1024, O) and (B,) steps.

    Table 2 varies `norm` ("batch", "layer", "weight") and `activation` ("relu", "clipped_relu", "leaky_relu", "glu", "gau"),
    table 3 `mask` and the norm "masked_batch", table 4 `residual` ("plain", "dense", "densenet", "densernet"; also "none").
    `dropout` scales the paper's rates, `width` its channels. 10x5 with a dense residual has 332.6 million parameters with 28
    letters.
    """
    times, rest = divmod(blocks, 5)
    if rest or times < 1:
        raise RecipeError(f"jasper: {blocks} blocks. The five blocks of the paper are repeated: give 5, 10, ...")
    table = [(256, 11, 0.2), (384, 13, 0.2), (512, 17, 0.2), (640, 21, 0.3), (768, 25, 0.3)]
    growth = GROWTH.get(residual, 0.0) * width
    return ConvolutionalEncoder(
        features,
        [
            BlockSpec(int(256 * width), 11, stride=2, dropout=0.2 * dropout),
            *(
                BlockSpec(
                    int(channels * width),
                    kernel,
                    repeat,
                    dropout=rate * dropout,
                    residual=residual,
                    growth=int(channels * growth),
                )
                for channels, kernel, rate in table
                for _ in range(times)
            ),
            BlockSpec(int(896 * width), 29, dilation=2, dropout=0.4 * dropout),
            BlockSpec(int(1024 * width), 1, dropout=0.4 * dropout),
        ],
        activation=activation,
        norm=norm,
        mask=mask,
    )


def jasper_mini(
    features: PositiveInt = 64, *, repeat: PositiveInt = 3, dropout: Fraction = 0.0, width: PositiveFloat = 1.0
) -> ConvolutionalEncoder:
    """Jasper-Mini of OpenSeq2Seq, for small machines: ten separable rows of 256 and 512 channels, residuals around each."""
    narrow, wide, last = (int(channels * width) for channels in (256, 512, 1024))
    table = [(narrow, 11), (narrow, 13), (wide, 17), (wide, 21), (wide, 25)]
    return ConvolutionalEncoder(
        features,
        [
            BlockSpec(narrow, 11, stride=2, dropout=dropout, separable=True),
            *(
                BlockSpec(channels, kernel, repeat, dropout=dropout, residual="plain", separable=True)
                for channels, kernel in table
                for _ in range(2)
            ),
            BlockSpec(wide, 29, dilation=2, dropout=dropout, separable=True),
            BlockSpec(last, 1, dropout=dropout),
        ],
    )
