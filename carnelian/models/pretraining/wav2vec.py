"""wav2vec as it is pre-trained: the front end and the head that predicts later frames."""

from typing import Any

import torch
from torch import Tensor, nn

from carnelian.errors import RecipeError
from carnelian.models.encoders.wav2vec import wav2vec
from carnelian.models.losses.contrastive import future_predictions
from carnelian.recipe import Recipe, call, choose


class Wav2VecPretraining(nn.Module):
    """(B, S) audio and (B,) samples -> losses (B,), and figures: `accuracy` of the contrast, `variance` of the local vectors."""

    def __init__(self, features: Any, contrast: nn.Module):
        super().__init__()
        self.features, self.contrast = features, contrast
        self.candidates = 1 + int(contrast.negatives)  # type: ignore[arg-type]

    def forward(self, audio: Tensor, audio_lengths: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        encoded, frames = self.features.encode(audio, audio_lengths)
        context = self.features.aggregate(encoded, frames)
        losses, accuracy = self.contrast(context, encoded, frames)
        return losses, {"accuracy": accuracy, "variance": share_that_varies(encoded.transpose(1, 2), frames)}


def share_that_varies(encoded: Tensor, steps: Tensor) -> Tensor:
    """Returns the share of the mean square of vectors (B, T, D) that is variance over rows and their steps: 0 if all are the same."""
    with torch.no_grad():
        inside = (torch.arange(encoded.shape[1], device=steps.device) < steps[:, None])[..., None]
        count = inside.sum().clamp_min(1)
        mean = (encoded.float() * inside).sum((0, 1)) / count
        square = (encoded.float().square() * inside).sum() / count
        return 1 - mean.square().sum() / square.clamp_min(1e-12)


def build_wav2vec(recipe: Recipe) -> Wav2VecPretraining:
    """Returns a wav2vec to pre-train, from a recipe's [features] and [contrast]. Raises RecipeError."""
    table = recipe.get("features", {"name": "wav2vec"})
    front_end = choose({"wav2vec": wav2vec}, table, where="features")
    hop = round(front_end.hop * front_end.sample_rate)
    offset = -(-front_end.shortest // hop)  # as fairseq's "auto": no sample is in both context and prediction
    try:
        contrast = call(
            future_predictions, recipe.get("contrast", {}), where="contrast", channels=front_end.channels, offset=offset
        )
    except (RuntimeError, MemoryError) as error:
        raise RecipeError(f"[contrast]: no model can be built from these settings ({str(error)[:200]})") from None
    return Wav2VecPretraining(front_end, contrast)
