"""Two views of each utterance that are drawn to one another (CR-CTC)."""

from functools import partial

import pytest
import torch

from carnelian.checkpoint import load_checkpoint
from carnelian.data.alphabet import Alphabet
from carnelian.data.batch import Batch
from carnelian.errors import RecipeError
from carnelian.models.losses.ctc import disagreement
from carnelian.models.registry import build_model
from carnelian.training.tasks.acoustic import acoustic_loss, consistent_loss, train_acoustic


def views(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(2, 5, 4, dtype=torch.float64, generator=generator).log_softmax(-1) for _ in range(2)]
    return draw[0].requires_grad_(), draw[1].requires_grad_()


def test_disagreement_is_the_divergence_both_ways():
    one, other = views(0)
    steps = torch.tensor([5, 2])
    expected = [
        sum(
            ((p.exp() * (p - q)).sum() + (q.exp() * (q - p)).sum()) / 2
            for p, q in zip(one[row, :count], other[row, :count])
        )
        for row, count in enumerate(steps.tolist())
    ]
    torch.testing.assert_close(disagreement(one, other, steps), torch.stack(expected))
    assert disagreement(one, one.clone(), steps).abs().max() == 0
    disagreement(one, other, steps).sum().backward()
    # the one drawn: minus half of what it is drawn to
    torch.testing.assert_close(one.grad[0], -other[0].exp().detach() / 2)
    assert torch.count_nonzero(one.grad[1, 2:]) == 0


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    audio, lengths = torch.randn(3, 9600, generator=generator), torch.tensor([9600, 7200, 4800])
    return Batch(audio, lengths, torch.tensor([[1, 2], [2, 1], [1, 0]]), torch.tensor([2, 2, 1]), [], [])


def test_equal_views_change_nothing(recipe, batch):
    """Without masks and dropout both views are the same, and loss and gradients those of a single one."""
    del recipe["masks"], recipe["encoder"]["blocks"][1]["dropout"]
    recipe["features"]["dither"] = 0.0
    found = []
    for loss in (acoustic_loss, partial(consistent_loss, weight=0.2)):
        torch.manual_seed(0)
        model = build_model(recipe, Alphabet(" ab")).train()
        losses = loss(model, batch)
        losses.mean().backward()
        found.append((losses, [weight.grad for weight in model.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


def test_views_under_masks_disagree(recipe, batch):
    torch.manual_seed(0)
    model = build_model(recipe, Alphabet(" ab")).train()
    torch.manual_seed(1)
    alone = consistent_loss(model, batch, 0.0)
    torch.manual_seed(1)
    assert (consistent_loss(model, batch, 1.0) > alone).all()


def test_trains_and_resumes_to_the_same_bits(recipe, tmp_path):
    recipe["train"] |= {"consistency": 0.2, "save_every": 1, "keep_last": 9, "steps": 4}
    whole = load_checkpoint(train_acoustic(recipe, tmp_path / "whole")).weights
    train_acoustic(recipe, tmp_path / "parts")
    for path in (tmp_path / "parts").glob("step-0000000[34]*"):
        path.unlink()
    resumed = load_checkpoint(train_acoustic(recipe, tmp_path / "parts")).weights
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_asg_has_no_probabilities_to_compare(recipe, tmp_path):
    recipe["train"]["consistency"] = 0.2
    with pytest.raises(RecipeError, match="consistency compares the probabilities of CTC"):
        train_acoustic(recipe | {"criterion": {"name": "asg"}}, tmp_path)
