"""wav2vec 2.0 as it is pre-trained: the encoder on masked features, a quantiser of the features, and the objective."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from carnelian.errors import RecipeError
from carnelian.models.encoders.wav2vec2 import draw_spans, wav2vec2
from carnelian.models.features import waveform
from carnelian.models.losses.contrastive import masked_contrast
from carnelian.models.pretraining.quantizer import gumbel_quantizer
from carnelian.models.pretraining.wav2vec import share_that_varies
from carnelian.recipe import Recipe, call, choose


class Wav2Vec2Pretraining(nn.Module):
    """(B, S) audio and (B,) samples -> losses (B,), and figures: `accuracy`, `perplexity` of the codes, `variance` of the features."""

    def __init__(self, features: Any, encoder: Any, quantizer: Any, contrast: Any):
        super().__init__()
        self.features, self.encoder, self.quantizer, self.contrast = features, encoder, quantizer, contrast
        self.dropout, self.candidates = nn.Dropout(encoder.dropout.p), 1 + int(contrast.negatives)

    def forward(self, audio: Tensor, audio_lengths: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        waveforms, samples = self.features(audio, audio_lengths)
        extracted, steps = self.encoder.extract(waveforms[:, 0], samples)
        features = self.encoder.feature_norm(extracted)
        masked = draw_spans(steps, features.shape[1], *self.encoder.time_mask)
        projected = self.dropout(self.encoder.projection(features))
        mask_vector = self.encoder.mask_vector.to(projected.dtype)
        context = self.encoder.contextualize(torch.where(masked[..., None], mask_vector, projected), steps)
        # the masked steps of each row, one after the other
        counts = masked.sum(1)
        masked_steps = (~masked).to(torch.uint8).argsort(dim=1, stable=True)[:, : max(1, int(counts.max()))]
        rows = torch.arange(len(masked_steps), device=masked_steps.device)[:, None]
        inside = torch.arange(masked_steps.shape[1], device=masked_steps.device) < counts[:, None]
        targets = self.dropout(features)[rows, masked_steps]
        chosen, perplexity = self.quantizer(targets[inside] if bool(inside.any()) else targets[:, 0])
        codes = chosen.new_zeros(*masked_steps.shape, chosen.shape[-1])
        if bool(inside.any()):
            codes[inside] = chosen
        summed, accuracy = self.contrast(context[rows, masked_steps], codes, counts)
        # a row's part of the sum over the batch by the number of masked steps in it
        losses = summed * (len(counts) / counts.sum().clamp_min(1))
        most = self.quantizer.groups * self.quantizer.entries
        penalty = mean_square(extracted, steps)
        losses = losses + self.contrast.diversity * (most - perplexity) / most + self.contrast.penalty * penalty
        variance = share_that_varies(extracted.detach(), steps)
        return losses, {"accuracy": accuracy, "perplexity": perplexity, "variance": variance}


def mean_square(encoded: Tensor, steps: Tensor) -> Tensor:
    """Returns the mean square of vectors (B, T, D) over each row's steps (B,)."""
    inside = (torch.arange(encoded.shape[1], device=steps.device) < steps[:, None])[..., None]
    return (encoded.float().square() * inside).sum() / (steps.sum().clamp_min(1) * encoded.shape[2])


@torch.no_grad()
def draw_weights(encoder: Any) -> None:
    """Gives an encoder the random weights that fairseq begins with: convolutions as for ReLU, BERT's 0.02 in the Transformer."""
    for layer in encoder.convolutions:
        nn.init.kaiming_normal_(layer.convolution.weight)
    for module in encoder.layers.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    spread = math.sqrt(4 * (1 - encoder.dropout.p) / (encoder.position.kernel_size[0] * encoder.channels))
    encoder.position.weight = torch.randn_like(encoder.position.weight) * spread
    nn.init.zeros_(encoder.position.bias)


def build_wav2vec2(recipe: Recipe) -> Wav2Vec2Pretraining:
    """Returns a wav2vec 2.0 to pre-train, from a recipe's [features], [encoder], [quantizer] and [contrast]. Raises RecipeError."""
    features = choose({"waveform": waveform}, recipe.get("features", {"name": "waveform"}), where="features")
    table = recipe.get("encoder", {"name": "wav2vec2"})
    try:
        encoder = choose({"wav2vec2": wav2vec2}, table, where="encoder", features=features.channels)
        draw_weights(encoder)
        if not encoder.time_mask[0]:
            raise RecipeError("[encoder] time_mask_share = 0: there is nothing to predict. Give the published 0.65")
        width = encoder.projection.in_features
        quantizer = call(gumbel_quantizer, recipe.get("quantizer", {}), where="quantizer", inputs=width)
        contrast = call(
            masked_contrast,
            recipe.get("contrast", {}),
            where="contrast",
            context=encoder.channels,
            codes=quantizer.channels,
        )
    except (RuntimeError, ValueError, MemoryError) as error:
        raise RecipeError(f"[encoder]: no model can be built from these settings ({str(error)[:200]})") from None
    return Wav2Vec2Pretraining(features, encoder, quantizer, contrast)
