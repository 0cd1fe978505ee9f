"""Features read between their places: where they are read, and that padding changes nothing."""

import pytest
import torch

from carnelian.models.time_stretch import interpolate, time_stretch

FEATURES = torch.randn(3, 8, 50, generator=torch.Generator().manual_seed(0))
FRAMES = torch.tensor([50, 31, 1])


@pytest.mark.parametrize("dim", [1, 2])
def test_between_is_the_features_at_whole_places_and_their_mean_halfway(dim):
    places = torch.arange(FEATURES.shape[dim] - 1).expand(3, -1)
    whole = FEATURES.narrow(dim, 0, FEATURES.shape[dim] - 1)
    after = FEATURES.narrow(dim, 1, FEATURES.shape[dim] - 1)
    assert torch.equal(interpolate(FEATURES, places.double(), dim=dim), whole)
    torch.testing.assert_close(interpolate(FEATURES, places + 0.5, dim=dim), (whole + after) / 2)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.3, 2.0])
def test_a_ramp_rises_by_so_much_less_and_ends_where_it_ended(factor):
    ramp = torch.arange(50.0).expand(3, 8, 50)
    longer, frames = time_stretch(ramp, FRAMES, factor)
    assert torch.equal(frames, (FRAMES * factor).long()) and longer.shape == (3, 8, int(50 * factor))
    for row, count, last in zip(longer, frames, FRAMES):
        wanted = (torch.arange(int(count)) / factor).clamp_max(int(last) - 1)
        torch.testing.assert_close(row[:, :count], wanted.expand(8, -1))
        assert (row[:, count:] == 0).all()


@pytest.mark.parametrize("factor", [0.5, 1.1, 1.7])
def test_a_row_alone_is_as_in_the_batch(factor):
    together, frames = time_stretch(FEATURES, FRAMES, factor)
    for row in range(3):
        alone, [count] = time_stretch(FEATURES[row : row + 1, :, : FRAMES[row]], FRAMES[row : row + 1], factor)
        assert count == frames[row] and torch.equal(alone[0, :, :count], together[row, :, :count])


def test_nothing_heard_stays_nothing():
    nothing, frames = time_stretch(torch.zeros(2, 8, 16), torch.tensor([0, 0]), 1.2)
    assert nothing.shape == (2, 8, 1) and not nothing.any() and not frames.any()
