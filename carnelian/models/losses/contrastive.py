"""Contrastive losses of self-supervised training: the true vector is to score above others of the same utterance.

wav2vec (Schneider, Baevski, Collobert, Auli, 2019, arXiv 1904.05862, section 2.2) predicts vectors of later frames; wav2vec 2.0
(arXiv 2006.11477, section 3.2) those of masked steps.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carnelian.ranges import NonNegativeFloat, PositiveFloat, PositiveInt


def draw_negatives(frames: Tensor, width: int, count: int) -> Tensor:
    """Returns places (B, width, count) drawn uniformly, for each of `width` places, from the other places of its own row.

    frames (B,): places of each row; what is drawn for places past them is of no use. A row of one place has no other: it gets 0.
    """
    places = torch.arange(width, device=frames.device)[None, :, None]
    others = (frames - 1).clamp_min(1)[:, None, None]
    drawn = (torch.rand(len(frames), width, count, device=frames.device) * others).long()
    drawn = torch.minimum(drawn, others - 1)  # a product may be rounded up
    return torch.where(drawn >= places, drawn + 1, drawn) * (frames > 1)[:, None, None]


def take_places(encoded: Tensor, places: Tensor) -> Tensor:
    """Returns the vectors (B, W, N, D) of (B, T, D) at places (B, W, N)."""
    rows = torch.arange(len(encoded), device=encoded.device)[:, None, None]
    return encoded[rows, places]


class FuturePredictions(nn.Module):
    """wav2vec's head and loss: for each step k an affine map of the context predicts the local vector `offset + k` frames later.

    Binary cross entropy of the products with the true vector and with `negatives` vectors of other frames of the same utterance,
    summed, divided by the number of true ones. The maps have one bias in common, as fairseq's have.
    """

    def __init__(self, channels: int, offset: int, steps: int, negatives: int):
        super().__init__()
        self.offset, self.steps, self.negatives = offset, steps, negatives
        # the initial values of fairseq's transposed convolution
        bound = 1 / math.sqrt(channels * steps)
        self.weight = nn.Parameter(torch.empty(steps, channels, channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))

    def forward(
        self, context: Tensor, encoded: Tensor, frames: Tensor, negatives: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Context and local vectors (B, D, T), frames (B,) -> losses (B,), and the share of true vectors that score above
        all others.

        negatives (B, T, N): places to take instead of drawing them. A row of `offset` frames or fewer has the loss 0.
        """
        context, encoded = context.transpose(1, 2), encoded.transpose(1, 2)
        width = encoded.shape[1]
        if negatives is None:
            negatives = draw_negatives(frames, width, self.negatives)
        candidates = torch.cat([encoded[:, :, None], take_places(encoded, negatives)], dim=2)  # the true one first
        # 0, with a gradient of 0 for every weight also where no row has a step to predict
        nothing = 0.0 * (self.weight.float().sum() + self.bias.float().sum() + context.float().sum((1, 2)))
        losses, counts, best = nothing, torch.zeros_like(nothing), torch.zeros_like(nothing)
        for step in range(min(self.steps, width - self.offset)):
            ahead = self.offset + step
            predicted = context[:, : width - ahead] @ self.weight[step].T + self.bias
            scores = torch.einsum("btd,btnd->btn", predicted, candidates[:, ahead:]).float()
            inside = torch.arange(ahead, width, device=frames.device) < frames[:, None]
            entropy = F.softplus(-scores[..., 0]) + F.softplus(scores[..., 1:]).sum(-1)
            losses = losses + (entropy * inside).sum(1)
            counts += inside.sum(1)
            best += ((scores[..., 0] > scores[..., 1:].amax(-1)) & inside).sum(1)
        return losses / counts.clamp_min(1), best.sum() / counts.sum().clamp_min(1)


def future_predictions(
    channels: int, offset: int, *, steps: PositiveInt = 12, negatives: PositiveInt = 10
) -> FuturePredictions:
    """wav2vec's objective: the vectors of `steps` later frames, each among `negatives` others of its utterance."""
    return FuturePredictions(channels, offset, steps, negatives)


class MaskedContrast(nn.Module):
    """wav2vec 2.0's objective: the context at a masked step is to be nearest to that step's quantised vector.

    Cosine similarity over `temperature`, cross entropy among the true vector and `negatives` of other masked steps of the
    utterance. `diversity` and `penalty` are the weights of the quantiser's diversity loss and of the features' mean square.
    """

    def __init__(
        self,
        context: int,
        codes: int,
        channels: int,
        negatives: int,
        temperature: float,
        diversity: float,
        penalty: float,
    ):
        super().__init__()
        self.negatives, self.temperature, self.diversity, self.penalty = negatives, temperature, diversity, penalty
        self.context, self.codes = nn.Linear(context, channels), nn.Linear(codes, channels)

    def forward(
        self, context: Tensor, codes: Tensor, counts: Tensor, negatives: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Context (B, M, D) and quantised vectors (B, M, Q) of each row's masked steps, counts (B,) -> summed losses (B,) and
        the share of steps whose true vector is the nearest.

        negatives (B, M, N): places to take instead of drawing them. A negative that equals the true vector is left out.
        """
        predicted, targets = self.context(context), self.codes(codes)
        if negatives is None:
            negatives = draw_negatives(counts, targets.shape[1], self.negatives)
        others = take_places(targets, negatives)
        same = (others == targets[:, :, None]).all(-1)
        candidates = torch.cat([targets[:, :, None], others], dim=2)
        scores = F.cosine_similarity(predicted[:, :, None].float(), candidates.float(), dim=-1) / self.temperature
        scores = torch.cat([scores[..., :1], scores[..., 1:].masked_fill(same, -math.inf)], dim=2)
        inside = torch.arange(targets.shape[1], device=counts.device) < counts[:, None]
        entropy = -scores.log_softmax(-1)[..., 0]
        nearest = (scores[..., 0] > scores[..., 1:].amax(-1)) & ~same.all(-1) & inside
        return (entropy * inside).sum(1), nearest.sum() / counts.sum().clamp_min(1)


def masked_contrast(
    context: int,
    codes: int,
    *,
    channels: PositiveInt = 256,
    negatives: PositiveInt = 100,
    temperature: PositiveFloat = 0.1,
    diversity: NonNegativeFloat = 0.1,
    penalty: NonNegativeFloat = 10.0,
) -> MaskedContrast:
    """wav2vec 2.0's objective, with the numbers of BASE: vectors of `channels` are compared."""
    return MaskedContrast(context, codes, channels, negatives, temperature, diversity, penalty)
