"""The loop on a model of one number: its gradients, its scales, its place."""

import pytest
import torch
from torch import nn

from carnelian.errors import RecipeError
from carnelian.training.fit import DataPosition, Training, fit


class Rows(list):
    """A batch of numbers."""

    def to(self, device):
        return self


def run(rows, *, steps=4, loss=None, model=None, optimizer=None, **settings):
    """Reports and model of a training on the same batches each epoch."""
    torch.manual_seed(0)
    model = model or nn.Linear(1, 1)
    training = Training(model, optimizer or torch.optim.SGD(model.parameters(), lr=1.0))

    def squares(model, batch):
        return model(torch.tensor(batch)[:, None])[:, 0].square()

    settings = {"schedule": lambda step: 0.01, **settings}
    batches = lambda epoch, start: iter([Rows(batch) for batch in rows][start:])  # noqa: E731
    return list(fit(training, epoch_batches=batches, loss=loss or squares, steps=steps, **settings)), training


def test_accumulated_batches_are_one_batch_with_all_rows():
    rows = [0.1, 0.5, -0.3, 0.8, 0.2, 0.9]
    whole, first = run([rows])
    parts, second = run([rows[:1], rows[1:4], rows[4:]], accumulate=3)
    for one, other in zip(whole, parts):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-5)
    assert torch.allclose(first.model.weight, second.model.weight)


def test_the_place_is_kept_over_epochs():
    _, training = run([[1.0], [2.0], [3.0]], steps=5)
    assert vars(training.position) == {"step": 5, "epoch": 1, "position": 2}
    place = DataPosition(step=3, epoch=1, position=1)
    stream = place.follow(lambda epoch, start: iter([(epoch, index) for index in range(start, 2)]))
    assert [next(stream) for _ in range(3)] == [(1, 1), (2, 0), (2, 1)]


def test_an_epoch_without_batches_is_said():
    with pytest.raises(RecipeError, match="not one batch"):
        run([])


def test_clipping_bounds_the_step():
    (free,), _ = run([[100.0]], steps=1)
    _, training = run([[100.0]], steps=1, clip=1.0, schedule=lambda step: 1.0)
    torch.manual_seed(0)
    before = nn.Linear(1, 1)
    moved = torch.cat(
        [now.flatten() - then.flatten() for now, then in zip(training.model.parameters(), before.parameters())]
    )
    assert free.gradient_norm > 10
    assert moved.norm().item() == pytest.approx(1.0, rel=1e-4)


def test_memory_that_does_not_suffice_halves_the_batch_once():
    def halves(batch):
        return [Rows(batch[:2]), Rows(batch[2:])]

    def hungry(model, batch):
        if len(batch) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return model(torch.tensor(batch)[:, None])[:, 0].square()

    (report,), first = run([[0.1, 0.2, 0.3, 0.4]], steps=1, loss=hungry, halves=halves)
    (plain,), second = run([[0.1, 0.2, 0.3, 0.4]], steps=1)
    assert report.halved and not plain.halved
    assert report.loss == pytest.approx(plain.loss)
    assert torch.allclose(first.model.weight, second.model.weight)
    with pytest.raises(RecipeError, match=r"step 1: out of memory .*Lower \[train\] batch_size"):
        run([[0.1] * 6], steps=1, loss=hungry, halves=halves)


def test_fp16_halves_its_scale_on_overflow_and_leaves_the_step_out():
    def loss(model, batch):
        return model(torch.tensor(batch)[:, None])[:, 0].float() * (1e38 if batch[0] > 1 else 1.0)

    reports, training = run([[0.5], [2.0], [0.5]], steps=3, loss=loss, precision="fp16")
    assert [report.finite for report in reports] == [True, False, True]
    assert [report.loss_scale for report in reports] == [2.0**14, 2.0**13, 2.0**13]
    tensors, numbers = training.state()
    assert numbers["scaler"]["scale"] == 2.0**13
    again = Training(nn.Linear(1, 1), torch.optim.SGD(training.model.parameters()))
    again.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14)
    again.optimizer = torch.optim.SGD(again.model.parameters())
    again.restore(tensors, numbers)
    assert again.scaler.get_scale() == 2.0**13


def test_rows_with_nothing_to_learn_are_counted():
    (report,), _ = run(
        [[0.5, 0.1]],
        steps=1,
        loss=lambda model, batch: model(torch.tensor(batch)[:, None])[:, 0] * torch.tensor([1.0, 0.0]),
    )
    assert report.idle == 1


def test_the_average_follows_the_weights():
    _, training = run([[1.0, 0.5]], steps=3, average=0.5)
    weights = []
    for steps in (1, 2, 3):
        weights.append(run([[1.0, 0.5]], steps=steps)[1].model.weight.detach())
    expected = weights[0].lerp(weights[1], 1 - 2 / 11).lerp(weights[2], 1 - 3 / 12)  # faster than by half at first
    torch.testing.assert_close(training.averaged()["weight"], expected)
    assert training.averaged().keys() == training.model.state_dict().keys()
