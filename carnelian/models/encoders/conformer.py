"""Conformer (Gulati et al., 2020, arXiv 2005.08100) and Fast Conformer (Rekesh et al., 2023, arXiv 2305.05084).

The Fast Conformer is the Conformer with a subsampling of 8 by depthwise separable convolutions and a kernel of 9. Names of weights
are NeMo's, whose numbers this gives (nemo/collections/asr/modules/conformer_encoder.py).
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carnelian import console
from carnelian.errors import RecipeError
from carnelian.models.encoders.relative_attention import AttentionPlan, Context, RelativeAttention, contexts_of
from carnelian.models.encoders.subsampling import Subsampling
from carnelian.models.masking import InPlaceDropout
from carnelian.ranges import Fraction, NonNegativeInt, PositiveInt

LONGEST_WHOLE = 8192  # steps of which all pairs are computed: 11 minutes at 80 ms, 2 GB for 8 heads
LONG = Context(128, 128)  # beyond, as NeMo's users set it (`change_attention_model`)


class FeedForward(nn.Module):
    """Linear, Swish, linear: (..., D) -> (..., D) through D `expansion` channels."""

    def __init__(self, channels: int, expansion: int, dropout: float, bias: bool):
        super().__init__()
        self.linear1 = nn.Linear(channels, channels * expansion, bias=bias)
        self.dropout = InPlaceDropout(dropout)
        self.linear2 = nn.Linear(channels * expansion, channels, bias=bias)

    def forward(self, encoded: Tensor) -> Tensor:
        return self.linear2(self.dropout(F.silu(self.linear1(encoded))))


class ConvolutionModule(nn.Module):
    """Pointwise and GLU, depthwise, norm, Swish, pointwise: (B, T, D) -> (B, T, D), the padding set to zero before the depthwise.

    `padding` counts the steps before and after each that the depthwise convolution sees; (kernel - 1, 0) is causal.
    """

    def __init__(self, channels: int, padding: tuple[int, int], norm: str, bias: bool):
        super().__init__()
        if norm not in ("batch", "layer"):
            raise RecipeError(f'[encoder] norm = "{norm}": no such choice. Known: batch, layer')
        self.padding, self.norm = padding, norm
        self.pointwise_conv1 = nn.Linear(channels, 2 * channels, bias=bias)
        self.depthwise_conv = nn.Conv1d(channels, channels, sum(padding) + 1, groups=channels, bias=bias)
        self.batch_norm = nn.BatchNorm1d(channels) if norm == "batch" else nn.LayerNorm(channels)
        self.pointwise_conv2 = nn.Linear(channels, channels, bias=bias)

    def forward(self, encoded: Tensor, inside: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`inside` (B, T) is false on padding; `before` (B, D, left) are the depthwise convolution's inputs ahead of the first
        step, zeros if not given. Returns the outputs, and the inputs to hand in as `before` with the steps that follow.
        """
        gated = (F.glu(self.pointwise_conv1(encoded), dim=-1) * inside[..., None]).mT
        left, right = self.padding
        gated = F.pad(gated, (left, right)) if before is None else torch.cat([before, F.pad(gated, (0, right))], -1)
        filtered = self.depthwise_conv(gated)
        normed = self.batch_norm(filtered).mT if self.norm == "batch" else self.batch_norm(filtered.mT)
        kept = gated[..., gated.shape[-1] - right - left : gated.shape[-1] - right]
        return self.pointwise_conv2(F.silu(normed)), kept


class ConformerLayer(nn.Module):
    """Half a feed-forward module, self-attention, convolution, half a feed-forward module, each added to its input; layer norm."""

    def __init__(
        self,
        channels: int,
        *,
        heads: int,
        expansion: int,
        padding: tuple[int, int],
        norm: str,
        dropout: float,
        dropout_attention: float,
        bias: bool,
        own_biases: bool,
    ):
        super().__init__()
        self.norm_feed_forward1 = nn.LayerNorm(channels)
        self.feed_forward1 = FeedForward(channels, expansion, dropout, bias)
        self.norm_self_att = nn.LayerNorm(channels)
        self.self_attn = RelativeAttention(channels, heads, bias=bias, own_biases=own_biases, dropout=dropout_attention)
        self.norm_conv = nn.LayerNorm(channels)
        self.conv = ConvolutionModule(channels, padding, norm, bias)
        self.norm_feed_forward2 = nn.LayerNorm(channels)
        self.feed_forward2 = FeedForward(channels, expansion, dropout, bias)
        self.norm_out = nn.LayerNorm(channels)
        self.dropout = InPlaceDropout(dropout)

    def forward(self, encoded: Tensor, inside: Tensor, plan: AttentionPlan) -> Tensor:
        half = self.dropout(self.feed_forward1(self.norm_feed_forward1(encoded)))
        encoded = torch.add(encoded, half, alpha=0.5)
        encoded = encoded + self.dropout(plan.attend(self.self_attn, self.norm_self_att(encoded)))
        encoded = encoded + self.dropout(self.conv(self.norm_conv(encoded), inside)[0])
        half = self.dropout(self.feed_forward2(self.norm_feed_forward2(encoded)))
        encoded = torch.add(encoded, half, alpha=0.5)
        return self.norm_out(encoded)


class Conformer(nn.Module):
    """(B, F, T) features and (B,) frames -> (B, D, O) encoded and (B,) steps of `stride` frames each."""

    receptive_field = math.inf

    def __init__(
        self,
        subsampling: Subsampling,
        layers: Sequence[ConformerLayer],
        *,
        channels: int,
        heads: int,
        outputs: int,
        contexts: Sequence[Context],
        scale: bool,
        shared_biases: bool,
        dropout: float,
    ):
        super().__init__()
        self.width, self.channels, self.stride = channels, outputs or channels, subsampling.stride
        self.pre_encode = subsampling
        self.layers = nn.ModuleList(layers)
        self.out_proj = nn.Linear(channels, outputs) if outputs else None
        self.contexts = list(contexts)
        self.scale = math.sqrt(channels) if scale else 1.0
        self.dropout = InPlaceDropout(dropout)
        if shared_biases:
            self.pos_bias_u = nn.Parameter(torch.zeros(heads, channels // heads))
            self.pos_bias_v = nn.Parameter(torch.zeros(heads, channels // heads))
        self.shared_biases, self.noted = shared_biases, False

    @property
    def context(self) -> Context:
        """What attention sees: the first of the contexts; while training one of them at random."""
        several = self.training and len(self.contexts) > 1
        return self.contexts[int(torch.randint(len(self.contexts), ())) if several else 0]

    def fitting_context(self, length: int) -> Context:
        """Returns the attention context for a number of steps: a limited one where all pairs of steps would take too much memory."""
        context = self.context
        if self.training or context.limited or length <= LONGEST_WHOLE:
            return context
        if not self.noted:
            self.noted = True
            console.note(
                f"a recording of {length:,} steps: from {LONGEST_WHOLE:,} on, attention sees {LONG.left} steps to each side, not all"
            )
        return LONG

    @property
    def biases(self) -> tuple[Tensor, Tensor] | None:
        """The biases of attention that all layers share, if they do."""
        return (self.pos_bias_u, self.pos_bias_v) if self.shared_biases else None

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        encoded, steps = self.pre_encode(features, frames)
        encoded = self.dropout(encoded * self.scale)
        inside = torch.arange(encoded.shape[1], device=encoded.device) < steps[:, None]
        plan = AttentionPlan(self.fitting_context(encoded.shape[1]), steps, encoded.shape[1], self.width, self.biases)
        for layer in self.layers:
            encoded = layer(encoded, inside, plan)
        if self.out_proj is not None:
            encoded = self.out_proj(encoded)
        return encoded.mT, steps


def conformer(
    features: int = 80,
    *,
    channels: PositiveInt = 176,
    layers: PositiveInt = 16,
    heads: PositiveInt = 4,
    expansion: PositiveInt = 4,
    kernel: PositiveInt = 31,
    norm: str = "batch",
    subsampling: str = "striding",
    stride: PositiveInt = 4,
    subsampling_channels: NonNegativeInt = 0,
    causal_subsampling: bool = False,
    context: list[list[int]] = [[-1, -1]],  # noqa: B006
    context_style: str = "regular",
    convolution_context: list[int] = [],  # noqa: B006
    scale: bool = True,
    shared_biases: bool = False,
    bias: bool = True,
    outputs: NonNegativeInt = 0,
    dropout: Fraction = 0.1,
    dropout_attention: Fraction = 0.1,
) -> Conformer:
    """Conformer: small, medium and large have 176, 256 and 512 `channels`, 16, 18 and 18 `layers`, 4, 4 and 8 `heads`.

    The Fast Conformer large has 512 channels, 17 layers, 8 heads, `kernel` 9, `subsampling` "dw_striding" of `stride` 8 with 256
    `subsampling_channels` (0: as many as `channels`), no `scale` (of the layers' input by the root of the channels).
    `context` are pairs of steps before and after each that attention sees, -1 for all; the first is that of inference, while
    training one is drawn at random. `convolution_context` are the steps before and after that the depthwise convolution sees,
    `kernel` - 1 in all; by default half and half. `norm` is that of the convolution module, "batch" or "layer".
    """
    padding = convolution_padding(kernel, convolution_context)
    if channels % heads or channels % 2:
        raise RecipeError(f"[encoder] channels = {channels}: expected an even number that the {heads} heads divide")
    width, causal = subsampling_channels or channels, causal_subsampling
    front = Subsampling(features, channels, kind=subsampling, stride=stride, width=width, causal=causal)
    layer = partial(
        ConformerLayer,
        channels,
        heads=heads,
        expansion=expansion,
        padding=padding,
        norm=norm,
        dropout=dropout,
        dropout_attention=dropout_attention,
        bias=bias,
        own_biases=not shared_biases,
    )
    return Conformer(
        front,
        [layer() for _ in range(layers)],
        channels=channels,
        heads=heads,
        outputs=outputs,
        contexts=contexts_of(context, context_style),
        scale=scale,
        shared_biases=shared_biases,
        dropout=dropout,
    )


def convolution_padding(kernel: int, context: Sequence[int]) -> tuple[int, int]:
    """The steps before and after each that a depthwise convolution sees, by default half and half."""
    padding = list(context) or [kernel // 2, kernel // 2]
    if kernel % 2 == 0:
        raise RecipeError(f"[encoder] kernel = {kernel}: expected an odd number")
    if len(padding) != 2 or min(padding) < 0 or sum(padding) != kernel - 1:
        raise RecipeError(
            f"[encoder] convolution_context = {padding}: expected two whole numbers whose sum is {kernel - 1}"
        )
    return padding[0], padding[1]
