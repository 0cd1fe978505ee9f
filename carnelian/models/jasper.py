"""Jasper (Li, Lavrukhin, Ginsburg et al., 2019, arXiv 1904.03288, table 1): deep convolutions with dense residuals."""

from carnelian.errors import RecipeError
from carnelian.models.layers import ConvolutionalEncoder, Row


def jasper(
    features: int = 64,
    *,
    blocks: int = 10,
    repeat: int = 5,
    residual: str = "dense",
    dropout: float = 1.0,
    width: float = 1.0,
    activation: str = "relu",
) -> ConvolutionalEncoder:
    """Jasper `blocks` x `repeat`: (B, F, T) features and (B,) frames -> (B, 1024, O) and (B,) steps.

    `dropout` scales the paper's rates, `width` its channels. 10x5 with a dense residual has 332.6 million parameters with 28
    letters.
    """
    times, rest = divmod(blocks, 5)
    if rest or times < 1:
        raise RecipeError(f"jasper: {blocks} blocks. The five blocks of the paper are repeated: give 5, 10, ...")
    table = [(256, 11, 0.2), (384, 13, 0.2), (512, 17, 0.2), (640, 21, 0.3), (768, 25, 0.3)]
    return ConvolutionalEncoder(
        features,
        [
            Row(int(256 * width), 11, stride=2, dropout=0.2 * dropout),
            *(
                Row(int(channels * width), kernel, repeat, dropout=rate * dropout, residual=residual)
                for channels, kernel, rate in table
                for _ in range(times)
            ),
            Row(int(896 * width), 29, dilation=2, dropout=0.4 * dropout),
            Row(int(1024 * width), 1, dropout=0.4 * dropout),
        ],
        activation=activation,
    )
