"""BEST-RQ (Chiu, Qin, Zhang, Yu, Wu, 2022, arXiv 2202.01855): any encoder predicts what a random quantiser gives at masked steps."""

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carnelian.errors import RecipeError
from carnelian.models.encoders.wav2vec2 import draw_spans
from carnelian.models.features import log_mel
from carnelian.models.pretraining.wav2vec import share_that_varies
from carnelian.models.registry import ENCODERS
from carnelian.ranges import Fraction, PositiveInt, at_least
from carnelian.recipe import Recipe, call, choose

NOISE = 0.1  # standard deviation of what stands in the place of masked features, whose own is 1


class RandomQuantizer(nn.Module):
    """Numbers the features of each step by the nearest of random vectors, by cosine, after a random projection; nothing is trained."""

    projection: Tensor
    codebook: Tensor

    def __init__(self, features: int, stride: int, entries: int, channels: int):
        super().__init__()
        self.stride = stride
        self.register_buffer("projection", nn.init.xavier_uniform_(torch.empty(stride * features, channels)))
        self.register_buffer("codebook", F.normalize(torch.randn(entries, channels), dim=1))

    @torch.no_grad()
    def forward(self, features: Tensor, steps: int) -> Tensor:
        """(B, F, T) features, which are padded or cut to `steps` times the stride -> (B, steps) numbers of entries."""
        features = F.pad(features.float(), (0, steps * self.stride - features.shape[2]))
        stacked = features.unflatten(2, (steps, self.stride)).permute(0, 2, 3, 1).flatten(2)
        with torch.autocast(features.device.type, enabled=False):  # the same labels in each precision
            return (F.normalize(stacked @ self.projection, dim=-1) @ self.codebook.T).argmax(-1)


class BestRq(nn.Module):
    """(B, S) audio and (B,) samples -> losses (B,), and figures: `accuracy`, `perplexity` of the labels, `variance` of the outputs."""

    def __init__(self, features: Any, encoder: Any, *, entries: int, codes: int, mask: tuple[float, int]):
        super().__init__()
        self.features, self.encoder, self.mask, self.candidates = features, encoder, mask, entries
        self.quantizer = RandomQuantizer(features.channels, encoder.stride, entries, codes)
        self.prediction = nn.Linear(encoder.channels, entries)

    def forward(self, audio: Tensor, audio_lengths: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        features, frames = self.features(audio, audio_lengths)
        spans = draw_spans(frames, features.shape[2], *self.mask)
        noise = NOISE * torch.randn_like(features)
        encoded, steps = self.encoder(torch.where(spans[:, None], noise, features), frames)
        context, width = encoded.transpose(1, 2), encoded.shape[2]
        # a step is masked where all of its frames are
        spans = F.pad(spans, (0, width * self.encoder.stride - spans.shape[1]))
        masked = spans.unflatten(1, (width, self.encoder.stride)).all(-1)
        masked &= torch.arange(width, device=steps.device) < steps[:, None]
        labels = self.quantizer(features, width)[masked]
        scores = self.prediction(context[masked]).float()
        count = masked.sum().clamp_min(1)
        entropy = F.cross_entropy(scores, labels, reduction="none") * (len(audio) / count)
        losses = entropy.new_zeros(len(audio)).index_add(0, masked.nonzero()[:, 0], entropy)
        shares = torch.bincount(labels, minlength=self.candidates) / count
        figures = {
            "accuracy": (scores.argmax(-1) == labels).sum() / count,
            "perplexity": torch.special.entr(shares).sum().exp(),
            "variance": share_that_varies(context.detach(), steps),
        }
        return losses, figures


def masked_prediction(
    features: Any,
    encoder: Any,
    *,
    entries: Annotated[int, at_least(2)] = 8192,
    codes: PositiveInt = 16,
    mask_share: Fraction = 0.4,
    mask_length: PositiveInt = 40,
) -> BestRq:
    """BEST-RQ's objective, with the published numbers: labels are the nearest of `entries` random vectors of `codes` channels.

    Spans of `mask_length` frames (0.4 s) are masked. Without overlap they would cover the share `mask_share` of a recording.
    """
    if not mask_share or mask_length < encoder.stride:
        raise RecipeError(
            f"[prediction] mask_share = {mask_share}, mask_length = {mask_length}: no step would be masked. Give a share above 0 "
            f"and at least the {encoder.stride} frames of a step"
        )
    return BestRq(features, encoder, entries=entries, codes=codes, mask=(mask_share, mask_length))


def build_best_rq(recipe: Recipe) -> BestRq:
    """Returns an encoder to pre-train by BEST-RQ, from a recipe's [features], [encoder] and [prediction]. Raises RecipeError."""
    features = choose({"log_mel": log_mel}, recipe.get("features", {"name": "log_mel"}), where="features")
    table = recipe.get("encoder", {"name": "conformer"})
    try:
        encoder = choose(ENCODERS, table, where="encoder", features=features.channels)
        prediction = recipe.get("prediction", {})
        return call(masked_prediction, prediction, where="prediction", features=features, encoder=encoder)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise RecipeError(f"[encoder]: no model can be built from these settings ({str(error)[:200]})") from None
