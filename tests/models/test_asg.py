"""The ASG criterion against sums over every path, and its gradients against differences."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carnelian.models.losses.asg import ASG, pack_repeats, unpack_repeats

STEPS, SYMBOLS = 5, 4


def path_score(scores, transitions, path):
    total = scores[0, path[0]]
    for step in range(1, len(path)):
        total = total + scores[step, path[step]] + transitions[path[step], path[step - 1]]
    return total


def collapse(path):
    return [symbol for symbol, _ in itertools.groupby(path)]


def brute_force(scores, transitions, target):
    """The loss, and the best path, from all SYMBOLS ** steps paths."""
    paths = list(itertools.product(range(SYMBOLS), repeat=len(scores)))
    values = torch.stack([path_score(scores, transitions, path) for path in paths])
    hits = torch.tensor([collapse(path) == target for path in paths])
    return values.logsumexp(0) - values[hits].logsumexp(0), list(paths[int(values.argmax())])


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(1)
    criterion = ASG(SYMBOLS, repeats=1)
    criterion.transitions.data = torch.randn(SYMBOLS, SYMBOLS, generator=generator)
    scores = 2 * torch.randn(3, STEPS, SYMBOLS, generator=generator)
    steps = torch.tensor([5, 4, 3])
    targets = torch.tensor([[0, 3, 1], [2, 0, 0], [1, 2, 1]])
    return criterion, scores, steps, targets, torch.tensor([3, 1, 3])


def test_loss_is_the_sum_over_every_path(case):
    criterion, scores, steps, targets, lengths = case
    losses = criterion(scores, steps, targets, lengths).detach()
    for row in range(3):
        expected, _ = brute_force(
            scores[row, : steps[row]], criterion.transitions.detach(), targets[row, : lengths[row]].tolist()
        )
        assert float(losses[row]) == pytest.approx(float(expected), abs=1e-5)


def test_best_path_is_the_best_of_all_paths(case):
    criterion, scores, steps, targets, lengths = case
    for row, path in enumerate(criterion.best_path(scores, steps)):
        found = brute_force(
            scores[row, : steps[row]], criterion.transitions.detach(), targets[row, : lengths[row]].tolist()
        )
        assert path == found[1]


def test_gradients_are_central_differences(case):
    criterion, scores, steps, targets, lengths = case
    scores.requires_grad_()
    loss = criterion(scores, steps, targets, lengths).sum()
    by_scores, by_transitions = torch.autograd.grad(loss, [scores, criterion.transitions])
    width = 1e-2
    for values, gradient in [(scores, by_scores), (criterion.transitions, by_transitions)]:
        flat = values.detach().view(-1)
        for index in range(flat.numel()):
            kept = float(flat[index])
            sides = []
            for side in (kept + width, kept - width):
                flat[index] = side
                sides.append(float(criterion(scores, steps, targets, lengths).detach().double().sum()))
            flat[index] = kept
            assert (sides[0] - sides[1]) / (2 * width) == pytest.approx(float(gradient.reshape(-1)[index]), abs=2e-3)
    assert not by_scores[1, 4:].any() and not by_scores[2, 3:].any(), "padding must get no gradient"


def test_constants_of_a_step_cancel(case):
    criterion, scores, steps, targets, lengths = case
    normalised = criterion(scores.log_softmax(2), steps, targets, lengths)
    torch.testing.assert_close(normalised, criterion(scores, steps, targets, lengths), atol=1e-5, rtol=1e-5)


def test_impossible_targets_weigh_nothing(case):
    criterion, scores, _, targets, _ = case
    scores.requires_grad_()
    losses = criterion(scores, torch.tensor([2, 4, 3]), targets, torch.tensor([3, 0, 3]))
    losses.sum().backward()
    assert losses[0] == 0 and losses[1] == 0 and losses[2] > 0
    assert torch.isfinite(scores.grad).all() and not scores.grad[:2].any()


def test_long_utterances_stay_finite():
    criterion = ASG(32)
    scores = torch.randn(2, 800, 32, requires_grad=True)
    targets = torch.randint(0, 30, (2, 100))
    criterion(scores, torch.tensor([800, 500]), targets, torch.tensor([100, 90])).sum().backward()
    assert torch.isfinite(scores.grad).all() and torch.isfinite(criterion.transitions.grad).all()


def test_replabels_as_wav2letter_writes_them():
    assert pack_repeats([0, 13, 13], first=26, repeats=2) == [0, 13, 26]  # "ann" is "an1"
    assert pack_repeats([5, 5, 5, 5], first=26, repeats=2) == [5, 27, 5]
    assert unpack_repeats([26, 5, 27, 26], first=26) == [5, 5, 5]


@given(st.lists(st.integers(0, 3)), st.integers(1, 3))
def test_replabels_round_trip(symbols, repeats):
    packed = pack_repeats(symbols, 4, repeats)
    assert unpack_repeats(packed, 4) == symbols
    assert all(left != right for left, right in itertools.pairwise(packed))


def test_learns_a_target_with_a_double_letter():
    criterion = ASG(4, repeats=1)
    target = criterion.encode([0, 1, 1, 2])
    scores = torch.zeros(1, 8, 4, requires_grad=True)
    optimizer = torch.optim.SGD([scores, *criterion.parameters()], lr=1.0)
    for _ in range(50):
        optimizer.zero_grad()
        loss = criterion(scores, torch.tensor([8]), torch.tensor([target]), torch.tensor([len(target)]))
        loss.sum().backward()
        optimizer.step()
    assert loss.item() < 0.5
    assert criterion.decode(criterion.best_path(scores, torch.tensor([8]))[0]) == [0, 1, 1, 2]
