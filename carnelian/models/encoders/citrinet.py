"""Citrinet (Majumdar, Balam, Hrinchuk et al., 2021, arXiv 2104.01721): QuartzNet with squeeze-and-excitation, for word pieces."""

from carnelian.models.block_spec import BlockSpec
from carnelian.models.layers import ConvolutionalEncoder
from carnelian.ranges import Fraction, PositiveFloat, PositiveInt


def citrinet(
    features: PositiveInt = 80,
    *,
    channels: PositiveInt = 512,
    last: PositiveInt = 640,
    repeat: PositiveInt = 5,
    kernel_factor: PositiveFloat = 1.0,
    reduction: PositiveInt = 8,
    dropout: Fraction = 0.1,
    blocks: PositiveInt = 8,
) -> ConvolutionalEncoder:
    """Citrinet-`channels`: (B, F, T) features and (B,) frames -> (B, `last`, O) and (B,) steps of eight frames each.

    Three groups of at most `blocks` blocks (6, 7 and 8 in the paper), each entered by one of stride 2. `kernel_factor` is the gamma
    of the "gamma 0.25" models. 256 and 512 have `last` 640, 1024 has 1024: 9.8, 36 and 142 million parameters.
    """

    def row(width: int, kernel: int, **more) -> BlockSpec:
        odd = max(int(kernel * kernel_factor), 1) // 2 * 2 + 1
        return BlockSpec(width, odd, separable=True, excitation=reduction, **more)

    groups = [range(11, 23, 2), range(13, 27, 2), range(25, 41, 2)]
    return ConvolutionalEncoder(
        features,
        [
            BlockSpec(channels, 5, separable=True, excitation=reduction),
            *(
                row(channels, kernel, repeat=repeat, stride=2 if index == 0 else 1, dropout=dropout, residual="plain")
                for kernels in groups
                for index, kernel in enumerate(kernels[:blocks])
            ),
            row(last, 41),
        ],
    )
