"""Connectionist temporal classification (Graves et al., 2006): the loss, and how many steps a transcript needs."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def ctc_loss(log_probs: Tensor, steps: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Negative log-likelihood (B,) of each row's targets, natural logarithm; 0, and no gradient, where the steps do not suffice.

    log_probs (B, O, V) with the blank last, steps (B,), targets (B, L), target_lengths (B,).
    """
    with torch.autocast(log_probs.device.type, enabled=False):
        return F.ctc_loss(
            log_probs.float().transpose(0, 1),
            targets,
            steps,
            target_lengths,
            blank=log_probs.shape[-1] - 1,
            reduction="none",
            zero_infinity=True,
        )


def disagreement(log_probs: Tensor, others: Tensor, steps: Tensor) -> Tensor:
    """How far two views (B, O, V) of the same rows are apart, (B,): Kullback-Leibler both ways, halved, summed over a row's steps.

    Each view is drawn to the other as it is: no gradient flows into the one it is compared with (Yao et al., 2024, arXiv 2410.05101).
    """
    inside = torch.arange(log_probs.shape[1], device=steps.device) < steps[:, None]
    apart = torch.zeros_like(log_probs[..., 0])
    for fixed, drawn in ((log_probs.detach(), others), (others.detach(), log_probs)):
        apart = apart + (fixed.exp() * (fixed - drawn)).sum(-1)
    return (apart * inside).sum(-1) / 2


def steps_needed(symbols: list[int]) -> int:
    """The fewest output steps that can spell the symbols: one each, and a blank between equal neighbours."""
    return len(symbols) + sum(left == right for left, right in zip(symbols, symbols[1:]))


class CTC(nn.Module):
    """The criterion as a part of a model: nothing to learn, and one output more than the alphabet has symbols, the blank."""

    extra = 1

    def forward(self, log_probs: Tensor, steps: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        return ctc_loss(log_probs, steps, targets, target_lengths)


def ctc(symbols: int) -> CTC:
    """The criterion of an alphabet of so many symbols, whatever their number."""
    return CTC()
