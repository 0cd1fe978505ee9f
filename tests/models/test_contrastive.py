"""The contrastive losses against double loops over rows, steps and negatives, as the papers write them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from carnelian.models.losses.contrastive import FuturePredictions, MaskedContrast, draw_negatives, future_predictions
from carnelian.models.pretraining.wav2vec import build_wav2vec, share_that_varies


@pytest.mark.parametrize("width", [9, 4])
def test_wav2vec_is_a_double_loop(width):
    """Every step, every frame, every negative; also where frames do not suffice for all steps."""
    torch.manual_seed(0)
    head = future_predictions(6, 3, steps=4, negatives=5)
    context, encoded = torch.randn(3, 6, width), torch.randn(3, 6, width).relu()
    frames = torch.tensor([width, width - 1, 2])
    negatives = draw_negatives(frames, width, 5)
    losses, accuracy = head(context, encoded, frames, negatives)
    right = total = 0
    for row, length in enumerate(frames.tolist()):
        loss, count = torch.zeros(()), 0
        for step in range(4):
            for frame in range(length):
                target = frame + 3 + step
                if target >= length:
                    continue
                predicted = head.weight[step] @ context[row, :, frame] + head.bias
                score = predicted @ encoded[row, :, target]
                others = [predicted @ encoded[row, :, int(place)] for place in negatives[row, target]]
                loss = loss - torch.sigmoid(score).log() - sum(torch.sigmoid(-other).log() for other in others)
                right += int(score > max(others))
                count += 1
        total += count
        torch.testing.assert_close(losses[row], loss / max(1, count))
    assert float(accuracy) == pytest.approx(right / total)


def test_predictions_are_those_of_the_published_transposed_convolution():
    torch.manual_seed(0)
    head, reference = future_predictions(6, 3), nn.ConvTranspose2d(6, 6, (1, 12))
    with torch.no_grad():
        head.weight.copy_(reference.weight[:, :, 0].permute(2, 1, 0))
        head.bias.copy_(reference.bias)
    context = torch.randn(2, 6, 7)
    expected = reference(context[..., None])
    for step in range(12):
        found = context.transpose(1, 2) @ head.weight[step].T + head.bias
        torch.testing.assert_close(found.transpose(1, 2), expected[..., step])


def test_negatives_are_uniform_over_the_other_frames_of_the_row():
    torch.manual_seed(0)
    places = draw_negatives(torch.tensor([5, 3, 1]), 5, 20_000)
    for row, length in enumerate((5, 3)):
        for frame in range(length):
            counts = torch.bincount(places[row, frame], minlength=5).float() / 20_000
            expected = torch.tensor(
                [1 / (length - 1) if other != frame and other < length else 0 for other in range(5)]
            )
            assert (counts - expected).abs().max() < 0.02
    assert not places[2].any()


def test_chance_and_offset_of_the_published_model():
    torch.manual_seed(0)
    model = build_wav2vec({"features": {"name": "wav2vec", "channels": 8, "context": [3], "skip": False}})
    assert (model.contrast.offset, model.contrast.steps, model.contrast.negatives) == (3, 12, 10)
    scores = torch.randn(4, 8, 2000), torch.randn(4, 8, 2000)
    accuracy = float(model.contrast(*scores, torch.full((4,), 2000))[1])
    assert accuracy == pytest.approx(1 / 11, abs=0.01)


def test_crops_too_short_for_a_prediction_have_a_loss_and_gradients_of_0():
    model = FuturePredictions(4, offset=3, steps=2, negatives=2)
    context = torch.randn(2, 4, 3, requires_grad=True)
    losses, accuracy = model(context, torch.randn(2, 4, 3), torch.tensor([3, 2]))
    losses.sum().backward()
    assert losses.tolist() == [0, 0] and float(accuracy) == 0
    assert all(not tensor.grad.any() for tensor in (context, model.weight, model.bias))


def test_variance_tells_a_collapse():
    assert float(share_that_varies(torch.ones(2, 5, 3), torch.tensor([5, 4]))) == pytest.approx(0, abs=1e-6)
    alternating = torch.tensor([1.0, -1.0]).repeat(2, 4)[..., None]
    assert float(share_that_varies(alternating, torch.tensor([8, 8]))) == pytest.approx(1)


def test_wav2vec2_is_a_double_loop():
    torch.manual_seed(0)
    objective = MaskedContrast(6, 4, 5, negatives=7, temperature=0.1, diversity=0.1, penalty=10.0)
    context, codes = torch.randn(3, 6, 6), torch.randn(3, 6, 4)
    codes[0, 1] = codes[0, 0]  # two steps with one code: they are no negatives of each other
    counts = torch.tensor([6, 4, 1])
    places = draw_negatives(counts, 6, 7)
    losses, accuracy = objective(context, codes, counts, places)
    right = 0
    for row, count in enumerate(counts.tolist()):
        expected = torch.zeros(())
        for step in range(count):
            predicted, target = objective.context(context[row, step]), objective.codes(codes[row, step])
            others = [objective.codes(codes[row, int(place)]) for place in places[row, step]]
            others = [other for other in others if not torch.equal(other, target)]
            scores = torch.stack([F.cosine_similarity(predicted, each, dim=0) / 0.1 for each in (target, *others)])
            expected = expected - scores[0] + scores.logsumexp(0)
            right += int(bool(others) and scores[0] > max(scores[1:]))
        torch.testing.assert_close(losses[row], expected)
    assert float(accuracy) == pytest.approx(right / 11)
    losses.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in objective.parameters())
