"""Optimizers and learning-rate schedules, by name, as recipes call them."""

import math
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
import torch.distributed as distributed
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import SGD, AdamW, Optimizer

from carnelian.errors import RecipeError
from carnelian.ranges import (
    Fraction,
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Range,
)
from carnelian.training.distributed import divided_like, full_tensor, local_part


def squared_norms(tensors: list[Tensor]) -> list[Tensor]:
    """|t|^2 of each tensor, over all of it where it is divided among the processes (then all or none of them are)."""
    squares = torch.stack(torch._foreach_norm([local_part(tensor) for tensor in tensors])).square()
    if isinstance(tensors[0], DTensor):
        distributed.all_reduce(squares)
    return list(squares)


class NovoGrad(Optimizer):
    """Gradients normalised layer by layer, then momentum (Ginsburg et al., 2019, arXiv 1905.11286; as nemo/core/optim/novograd.py).

    The second moment v of a tensor is one number: |g|^2 at the first step, then b2 v + (1 - b2) |g|^2.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 0.01,
        *,
        betas: tuple[float, float] = (0.95, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        averaging: bool = False,
    ):
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "averaging": averaging}
        )

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            first, second = group["betas"]
            gradients: list[Tensor] = [parameter.grad for parameter in parameters]  # type: ignore[misc]
            for parameter, square in zip(parameters, squared_norms(gradients)):
                state = self.state[parameter]
                if "second" not in state:
                    state["second"] = square.clone()
                    state["momentum"] = torch.zeros_like(parameter)
                else:
                    state["second"].mul_(second).add_(square, alpha=1 - second)
            scales = [1 / (self.state[parameter]["second"].sqrt() + group["eps"]) for parameter in parameters]
            steps = torch._foreach_mul([local_part(gradient) for gradient in gradients], scales)
            weights = [local_part(parameter) for parameter in parameters]
            if group["weight_decay"]:
                torch._foreach_add_(steps, weights, alpha=group["weight_decay"])
            if group["averaging"]:
                torch._foreach_mul_(steps, 1 - first)
            momenta = [local_part(self.state[parameter]["momentum"]) for parameter in parameters]
            torch._foreach_mul_(momenta, first)
            torch._foreach_add_(momenta, steps)
            torch._foreach_add_(weights, momenta, alpha=-group["lr"])


#: (a, b, c) of the steps X <- a X + b (XX') X + c (XX')^2 X, chosen as in Polar Express (Amsel et al., 2025, arXiv 2505.16932): of
#: singular values from 0.01 to 1 these three make such from 0.73 to 1.27, which is all that Muon needs
POLAR_STEPS = ((8.0934, -23.6204, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526))


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, R, C) matrices with their singular values brought near 1 and their singular vectors kept."""
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonal(matrices.mT).mT
    matrices = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    # the momenta of dead channels become denormal numbers, of which a product takes many times as long
    matrices = F.hardshrink(matrices, 1e-12)
    for a, b, c in POLAR_STEPS:
        square = matrices @ matrices.mT
        matrices = torch.baddbmm(matrices, torch.baddbmm(square, square, square, beta=b, alpha=c), matrices, beta=a)
    return matrices


class Muon(AdamW):
    """Muon (Jordan et al., 2024) for the convolutions that mix channels, AdamW for all other weights.

    Nesterov's momentum of a weight (D', D, ...), as a matrix (D', D ...), is made orthogonal and given the size of Adam's steps
    (0.2 times the root of its longer side: Liu et al., 2025, arXiv 2502.16982), so that one rate and one decay serve both.
    """

    def __init__(self, params: Iterable, *, momentum: float = 0.95, **settings: Any):
        super().__init__(params, **settings)
        for group in self.param_groups:
            group.setdefault("momentum", momentum)

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:  # type: ignore[override]
        mixing: dict[torch.Size, list[tuple[dict, Tensor, Tensor]]] = {}
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and weight.ndim > 2 and weight.shape[1] > 1:
                    mixing.setdefault(weight.shape, []).append((group, weight, weight.grad))
                    weight.grad = None  # not Adam's
        super().step()
        for shape, weights in mixing.items():
            ahead = []
            for group, weight, gradient in weights:
                weight.grad, state = gradient, self.state[weight]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].mul_(group["momentum"]).add_(gradient)
                ahead.append(full_tensor(gradient + group["momentum"] * state["momentum"]).flatten(1))
            steps = orthogonal(torch.stack(ahead)) * (0.2 * max(ahead[0].shape) ** 0.5)
            for (group, weight, _), step in zip(weights, steps):
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(group["lr"] * divided_like(step.view(shape), weight))


def novograd(
    parameters: Iterable,
    *,
    betas: tuple[FractionBelowOne, FractionBelowOne] = (0.95, 0.5),
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.001,
    averaging: bool = False,
) -> Optimizer:
    """NovoGrad; with a learning rate around 0.01."""
    return NovoGrad(parameters, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay, averaging=averaging)


def adamw(
    parameters: Iterable,
    *,
    betas: tuple[FractionBelowOne, FractionBelowOne] = (0.9, 0.98),
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.01,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""
    return AdamW(parameters, lr=1.0, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay)


def muon(
    parameters: Iterable,
    *,
    momentum: FractionBelowOne = 0.95,
    betas: tuple[FractionBelowOne, FractionBelowOne] = (0.9, 0.98),
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.01,
) -> Optimizer:
    """Muon, with AdamW's learning rates; `betas` and `eps` are those of AdamW for the weights that are not Muon's."""
    return Muon(parameters, momentum=momentum, lr=1.0, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay)


def adam(
    parameters: Iterable,
    *,
    betas: tuple[FractionBelowOne, FractionBelowOne] = (0.9, 0.999),
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.0,
) -> Optimizer:
    """Adam (Kingma and Ba, 2015), weight decay as L2."""
    return torch.optim.Adam(parameters, lr=1.0, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay)


def sgd(
    parameters: Iterable,
    *,
    momentum: FractionBelowOne = 0.9,
    weight_decay: NonNegativeFloat = 0.0,
    nesterov: bool = False,
) -> Optimizer:
    """Stochastic gradient descent with momentum."""
    return SGD(parameters, lr=1.0, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "novograd": novograd,
    "adamw": adamw,
    "muon": muon,
    "adam": adam,
    "sgd": sgd,
}


@torch.no_grad()
def scale_by_larc(optimizer: Optimizer, *, trust: float = 0.001, clip: bool = True) -> None:
    """Scales each tensor's gradient by trust |w| / (rate |g|), at most 1 where `clip` (OpenSeq2Seq's LARC, optimizers.py)."""
    for group in optimizer.param_groups:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not parameters:
            continue
        rate = group["lr"] if clip else 1.0
        gradients = [parameter.grad for parameter in parameters]
        for gradient, weight, square in zip(gradients, squared_norms(parameters), squared_norms(gradients)):
            ratio = trust * weight.sqrt() / (rate * (square.sqrt() + 1e-7))
            local_part(gradient).mul_(ratio.clamp(min=1e-7, max=1.0 if clip else None))


Schedule = Callable[[int], float]


def constant(
    *, steps: PositiveInt, peak: NonNegativeFloat, warmup: NonNegativeInt = 0, hold: NonNegativeInt = 0
) -> Schedule:
    """The peak rate, after a linear warm-up; steps count from 0."""
    return lambda step: peak * min(1.0, (step + 1) / max(1, warmup))


def _decaying(steps: int, peak: float, warmup: int, hold: int, decay: Callable[[int, int], float]) -> Schedule:
    """Returns linear warm-up, hold, then `decay(done, left)` of the steps done and of all that follow the hold."""
    if warmup + hold > steps:
        raise RecipeError(f"[schedule] warmup {warmup} and hold {hold} are more than the {steps} steps of the training")
    left = max(1, steps - warmup - hold)

    def rate(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / warmup
        return decay(min(left, max(0, step - warmup - hold)), left)

    return rate


def check_lowest(peak: float, lowest: float) -> None:
    """Raises RecipeError for a lowest rate above the peak."""
    if lowest > peak:
        raise RecipeError(f"[schedule] lowest = {lowest}: above the peak {peak}. Give a lower rate")


def cosine(
    *,
    steps: PositiveInt,
    peak: NonNegativeFloat,
    lowest: NonNegativeFloat = 0.0,
    warmup: NonNegativeInt = 0,
    hold: NonNegativeInt = 0,
) -> Schedule:
    """Returns half a cosine from the peak to the lowest rate."""
    check_lowest(peak, lowest)

    def decay(done: int, left: int) -> float:
        return lowest + (peak - lowest) * (1 + math.cos(math.pi * (done / left))) / 2

    return _decaying(steps, peak, warmup, hold, decay)


def polynomial(
    *,
    steps: PositiveInt,
    peak: NonNegativeFloat,
    power: PositiveFloat = 2.0,
    lowest: NonNegativeFloat = 0.0,
    warmup: NonNegativeInt = 0,
    hold: NonNegativeInt = 0,
) -> Schedule:
    """Returns lowest + (peak - lowest) (1 - share)^power, where the share of the steps runs from 0 to 1."""
    check_lowest(peak, lowest)
    return _decaying(
        steps, peak, warmup, hold, lambda done, left: lowest + (peak - lowest) * (1 - done / left) ** power
    )


def exponential(
    *,
    steps: PositiveInt,
    peak: NonNegativeFloat,
    lowest: NonNegativeFloat = 1e-5,
    warmup: NonNegativeInt = 0,
    hold: NonNegativeInt = 0,
    factor: Fraction = 0.0,
    every: NonNegativeInt = 0,
) -> Schedule:
    """Returns an exponential from the peak to the lowest rate at the last step; or times `factor` each `every` steps, not below it."""
    check_lowest(peak, lowest)
    if not every and not lowest and peak:
        raise RecipeError(
            "[schedule] lowest = 0: an exponential never comes to 0. Give a number above 0, or factor and every"
        )
    if every:
        return _decaying(
            steps, peak, warmup, hold, lambda done, left: max(lowest, peak * factor ** float(done // every))
        )
    return _decaying(steps, peak, warmup, hold, lambda done, left: peak * (lowest / peak) ** (done / left))


def noam(
    *,
    steps: PositiveInt,
    factor: PositiveFloat,
    channels: PositiveInt,
    warmup: PositiveInt = 10_000,
    lowest: NonNegativeFloat = 0.0,
) -> Schedule:
    """Rises linearly, then falls with the root of the step: factor channels^-0.5 min(step^-0.5, step warmup^-1.5).

    (Vaswani et al., 2017, arXiv 1706.03762; as NeMo's NoamAnnealing.) `channels` are those of the encoder; `lowest` holds after the
    warm-up.
    """

    def rate(step: int) -> float:
        step = max(1, step)
        found = factor * channels**-0.5 * min(step**-0.5, step * warmup**-1.5)
        return max(found, lowest) if step > warmup else found

    return rate


def tri_stage(
    *,
    steps: PositiveInt,
    peak: NonNegativeFloat,
    warmup_share: Fraction = 0.1,
    hold_share: Fraction = 0.4,
    first: FractionBelowOne = 0.01,
    last: Annotated[float, Range(0, 1, above=True)] = 0.05,
) -> Schedule:
    """Returns a line from `first` of the peak to the peak, the peak, then an exponential to `last` of it; in shares of the steps.

    (wav2vec 2.0's fine-tuning; as fairseq's tri_stage with phase_ratio 0.1, 0.4, 0.5.)
    """
    if warmup_share + hold_share > 1:
        raise RecipeError(
            f"[schedule] warmup_share {warmup_share} and hold_share {hold_share} are more than 1 together"
        )
    warmup, hold = int(steps * warmup_share), int(steps * hold_share)
    left = max(1, int(steps * (1 - warmup_share - hold_share)))

    def rate(step: int) -> float:
        if step < warmup:
            return peak * (first + (1 - first) * step / warmup)
        return peak * last ** (min(left, max(0, step - warmup - hold)) / left)

    return rate


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "cosine": cosine,
    "polynomial": polynomial,
    "exponential": exponential,
    "noam": noam,
    "tri_stage": tri_stage,
}
