"""Masks on features: what they hide, what they leave, and that each row draws its own."""

import torch

from carnelian.models.specaugment import spec_augment, spec_cutout, vocal_tract

FEATURES = torch.rand(8, 64, 200) + 1  # never zero
FRAMES = torch.tensor([200, 180, 150, 100, 50, 20, 5, 1])


def test_spec_augment_hides_whole_bands_and_whole_frames():
    torch.manual_seed(0)
    masked = spec_augment(frequency_masks=2, frequency_width=20, time_masks=2, time_width=30)(FEATURES, FRAMES)
    hidden = masked == 0
    bands, frames = hidden.all(2), hidden.all(1)
    assert torch.equal(hidden, bands[:, :, None] | frames[:, None, :])
    assert bands.sum(1).max() <= 40 and frames.sum(1).max() <= 60
    assert hidden.any() and not torch.equal(bands[0], bands[1])
    assert torch.equal(masked[~hidden], FEATURES[~hidden])


def test_time_masks_stay_inside_each_row_and_under_their_share():
    for seed in range(20):
        torch.manual_seed(seed)
        hidden = (spec_augment(frequency_masks=0, time_masks=1, time_width=0.1)(FEATURES, FRAMES) == 0).all(1)
        assert (hidden.sum(1) <= FRAMES * 0.1).all()
        assert not (hidden & (torch.arange(200) >= FRAMES[:, None])).any()


def test_spec_cutout_hides_rectangles_of_at_most_the_given_sides():
    torch.manual_seed(1)
    hidden = spec_cutout(masks=1, frequency_width=10, time_width=20)(FEATURES, FRAMES) == 0
    for row in hidden:
        bands, frames = row.any(1), row.any(0)
        assert torch.equal(row, bands[:, None] & frames[None, :])
        assert bands.sum() <= 10 and frames.sum() <= 20


def test_a_vocal_tract_of_the_same_size_changes_nothing_and_another_moves_bands():
    assert torch.allclose(vocal_tract(low=1.0, high=1.0)(FEATURES, FRAMES), FEATURES)
    ramp = torch.arange(64.0)[None, :, None].expand(1, 64, 3)
    warped = vocal_tract(low=0.5, high=0.5)(ramp, torch.tensor([3]))
    assert torch.allclose(warped[0, :, 0], torch.arange(64.0) / 2)
