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
    """Returns the divergence (B,) of two outputs (B, O, V) for the same rows: the mean of both Kullback-Leibler
    divergences, summed over steps.

    Each output is the constant target of the other: no gradient flows into a target (CR-CTC, Yao et al., 2024, arXiv 2410.05101).
    """
    inside = torch.arange(log_probs.shape[1], device=steps.device) < steps[:, None]
    apart = torch.zeros_like(log_probs[..., 0])
    for fixed, drawn in ((log_probs.detach(), others), (others.detach(), log_probs)):
        apart = apart + (fixed.exp() * (fixed - drawn)).sum(-1)
    return (apart * inside).sum(-1) / 2


def steps_needed(symbols: list[int]) -> int:
    """Returns the fewest output steps that CTC needs for the symbols: one each, and a blank between equal neighbours."""
    return len(symbols) + sum(left == right for left, right in zip(symbols, symbols[1:]))


class CTC(nn.Module):
    """CTC as the criterion of a model: it has no weights, and adds one output to the alphabet's symbols, the blank."""

    extra = 1

    def forward(self, log_probs: Tensor, steps: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        return ctc_loss(log_probs, steps, targets, target_lengths)


def ctc(symbols: int) -> CTC:
    """Returns CTC, which is the same for any number of symbols."""
    return CTC()
