"""Schedules at the steps that define them; NovoGrad, Muon and LARC against their formulas."""

import math

import pytest
import torch

from carnelian.errors import RecipeError
from carnelian.training.optim import OPTIMIZERS, SCHEDULES, NovoGrad, orthogonal, scale_by_larc


@pytest.mark.parametrize("name", sorted(SCHEDULES.keys() - {"noam", "tri_stage"}))
def test_warm_up_rises_to_the_peak(name):
    rate = SCHEDULES[name](steps=100, peak=0.5, warmup=10)
    assert [rate(step) for step in (0, 4, 9)] == pytest.approx([0.05, 0.25, 0.5])
    assert rate(10) == pytest.approx(0.5)
    assert all(rate(step + 1) <= rate(step) for step in range(10, 120))


@pytest.mark.parametrize(
    ("name", "settings", "halfway", "end"),
    [
        ("constant", {}, 1.0, 1.0),
        ("cosine", {"lowest": 0.2}, 0.6, 0.2),
        ("polynomial", {"power": 2.0}, 0.25, 0.0),
        ("polynomial", {"power": 0.5, "lowest": 0.1}, 0.1 + 0.9 * math.sqrt(0.5), 0.1),
        ("exponential", {"lowest": 0.01}, 0.1, 0.01),
        ("exponential", {"factor": 0.5, "every": 20}, 0.25, 0.5**5),
    ],
)
def test_decay(name, settings, halfway, end):
    rate = SCHEDULES[name](steps=100, peak=1.0, **settings)
    assert (rate(0), rate(50), rate(100)) == pytest.approx((1.0, halfway, end))


def test_an_exponential_does_not_come_to_nothing():
    with pytest.raises(RecipeError, match="never comes to 0"):
        SCHEDULES["exponential"](steps=10, peak=0.1, lowest=0.0)
    assert SCHEDULES["exponential"](steps=10, peak=0.1, lowest=0.0, factor=0.5, every=5)(5) == pytest.approx(0.05)


def test_a_rate_in_steps_falls_at_its_step():
    """At the very step, for lengths where a share of the steps, multiplied back, comes out a little too low."""
    for every in (3, 7, 5_000, 10_000):
        steps, warmup = 50 * every + 11, 1000 % (every + 1)
        rate = SCHEDULES["exponential"](steps=steps, peak=1.0, lowest=1e-9, warmup=warmup, factor=0.5, every=every)
        for count in range(1, 20):
            at = warmup + count * every
            assert (rate(at - 1), rate(at)) == pytest.approx((0.5 ** (count - 1), 0.5**count)), (every, count)


def test_hold_keeps_the_peak():
    rate = SCHEDULES["cosine"](steps=100, peak=1.0, warmup=10, hold=40)
    assert {rate(step) for step in range(10, 51)} == {1.0}
    assert rate(51) < 1.0


def test_a_warm_up_longer_than_the_training_is_said():
    with pytest.raises(RecipeError, match="more than the 5 steps"):
        SCHEDULES["cosine"](steps=5, peak=1.0, warmup=10)


def test_novograd_takes_the_steps_of_its_paper():
    start, gradients = torch.tensor([3.0, -4.0]), [torch.tensor([0.6, 0.8]), torch.tensor([-3.0, 0.0])]
    weight = start.clone().requires_grad_()
    optimizer = NovoGrad([weight], lr=0.1, betas=(0.9, 0.5), eps=0.0, weight_decay=0.01)
    expected, momentum, second = start, torch.zeros(2), None
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        norm = gradient.square().sum()
        second = norm if second is None else 0.5 * second + 0.5 * norm
        momentum = 0.9 * momentum + gradient / second.sqrt() + 0.01 * expected
        expected = expected - 0.1 * momentum
    torch.testing.assert_close(weight.detach(), expected)


@pytest.mark.parametrize("shape", [(3, 40, 24), (2, 16, 90), (1, 30, 30)])
def test_orthogonal_keeps_singular_vectors(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inside = left.mT @ orthogonal(matrices) @ right.mT
    values = inside.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(inside, torch.diag_embed(values), rtol=0, atol=1e-10)
    assert values.min() > 0 and values.max() < 1.28 and values[:, 1:-1].min() > 0.72
    dead = matrices[0].float()
    dead[1] = 1e-40  # what momentum leaves of a channel without gradients; products of such numbers are slow
    assert not orthogonal(dead[None])[0, 1].any()


def test_muon_leaves_what_mixes_no_channels_to_adam():
    shapes = [(4, 3, 1, 5), (4, 1, 1, 5), (6, 4), (6,)]
    draw = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=draw) for shape in shapes]
    gradients = [[torch.randn(shape, generator=draw) for shape in shapes] for _ in range(3)]
    ours, adams = [[tensor.clone().requires_grad_() for tensor in start] for _ in range(2)]
    optimizer, adam = (
        OPTIMIZERS[name](weights, weight_decay=0.1) for name, weights in (("muon", ours), ("adamw", adams))
    )
    expected, momentum = start[0].flatten(1), torch.zeros(4, 15)
    for step in gradients:
        for weights, taken in ((ours, optimizer), (adams, adam)):
            taken.param_groups[0]["lr"] = 0.1
            for weight, gradient in zip(weights, step):
                weight.grad = gradient.clone()
            taken.step()
        momentum = 0.95 * momentum + step[0].flatten(1)
        update = orthogonal((step[0].flatten(1) + 0.95 * momentum)[None])[0]
        expected = expected * (1 - 0.1 * 0.1) - 0.1 * 0.2 * math.sqrt(15) * update
        assert all(weight.grad is not None for weight in ours)
    torch.testing.assert_close(ours[0].detach().flatten(1), expected)
    for mine, adams_own in zip(ours[1:], adams[1:]):
        assert torch.equal(mine, adams_own)


@pytest.mark.parametrize(("clip", "scale"), [(True, 0.001 * 5 / (0.1 * 10)), (False, 0.001 * 5 / 10)])
def test_larc_scales_by_the_ratio_of_norms(clip, scale):
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    weight.grad = torch.tensor([6.0, -8.0])
    scale_by_larc(torch.optim.SGD([weight], lr=0.1), trust=0.001, clip=clip)
    torch.testing.assert_close(weight.grad, scale * torch.tensor([6.0, -8.0]))


def test_larc_never_lengthens_a_clipped_gradient():
    weight = torch.tensor([300.0, 400.0], requires_grad=True)
    weight.grad = torch.tensor([0.06, -0.08])
    scale_by_larc(torch.optim.SGD([weight], lr=0.001), trust=0.001)
    torch.testing.assert_close(weight.grad, torch.tensor([0.06, -0.08]))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_comes_down_a_bowl(name):
    weight = torch.tensor([1.0, -2.0], requires_grad=True)
    optimizer = OPTIMIZERS[name]([{"params": [weight], "factor": 1.0}])
    for _ in range(50):
        optimizer.param_groups[0]["lr"] = 0.02
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert weight.detach().norm() < 1.5


def test_noam_falls_with_the_root_of_the_step():
    """The rates are those of NeMo 3.0.0's NoamAnnealing with a rate of 5, d_model 176, 20 warm-up steps, min_lr 0.03."""
    rate = SCHEDULES["noam"](steps=400, factor=5.0, channels=176, warmup=20, lowest=0.03)
    expected = {0: 0.00421374914, 1: 0.00421374914, 2: 0.00842749828, 10: 0.0421374914, 19: 0.0800612337,
                20: 0.0842749828, 21: 0.0822439619, 100: 0.0376889181, 399: 0.03}  # fmt: skip
    assert {step: rate(step) for step in expected} == pytest.approx(expected)
