"""Front ends: filterbanks, frame counts, and laws that hold for each of them."""

import numpy as np
import pytest
import torch

from carnelian.errors import RecipeError
from carnelian.models.features import FRAME_COUNTS, log_mel, mel_filterbank, mfcc, spectrogram


def test_mel_filterbank_is_nemos(shared):
    known = np.load(shared("nemo/oracle/quartznet_tiny_train.npz"))["after1/preprocessor.featurizer.fb"][0]
    assert np.abs(mel_filterbank(64, 512, 16_000).numpy() - known).max() < 1e-6


def test_each_triangle_has_area_one():
    width = 8_000 / 4_096
    areas = mel_filterbank(20, 8_192, 16_000).sum(1) * width
    assert torch.allclose(areas, torch.ones(20), atol=0.02)


@pytest.mark.parametrize("make", [log_mel, mfcc, spectrogram])
def test_a_row_alone_equals_the_row_in_a_batch(make):
    torch.manual_seed(0)
    features = make().eval()
    audio, lengths = torch.randn(3, 9_000), torch.tensor([9_000, 5_123, 2_400])
    audio *= torch.arange(9_000) < lengths[:, None]
    together, frames = features(audio, lengths)
    assert together.shape[1] == features.channels
    for row, length in enumerate(lengths):
        alone, count = features(audio[row : row + 1, :length], lengths[row : row + 1])
        assert count == frames[row]
        assert torch.allclose(alone[0, :, :count], together[row, :, :count], atol=1e-4)
        assert not together[row, :, count:].any()


def test_mfcc_turns_log_mel_energies_and_keeps_their_length():
    torch.manual_seed(0)
    audio, lengths = torch.randn(1, 8_000), torch.tensor([8_000])
    energies, _ = log_mel(normalize="none", pad_to=0).eval()(audio, lengths)
    coefficients, _ = mfcc(features=64, normalize="none").eval()(audio, lengths)
    frames = 50
    assert torch.allclose(coefficients[..., :frames].norm(dim=1), energies[..., :frames].norm(dim=1), rtol=1e-4)
    assert torch.allclose(coefficients[:, 0, :frames], energies[..., :frames].mean(1) * 8, rtol=1e-4)


def test_spectrogram_peaks_at_the_tone():
    tone = torch.sin(2 * torch.pi * 1_000 * torch.arange(16_000) / 16_000)[None]
    features, frames = spectrogram(normalize="none").eval()(tone, torch.tensor([16_000]))
    assert (features[0, :, 5 : frames[0] - 5].argmax(0) == 20).all()  # bins are 50 Hz apart


def test_per_feature_normalisation_is_over_the_rows_own_frames():
    torch.manual_seed(0)
    features, frames = log_mel().eval()(torch.randn(2, 16_000), torch.tensor([16_000, 8_000]))
    for row, count in enumerate(frames):
        inside = features[row, :, :count]
        assert torch.allclose(inside.mean(1), torch.zeros(64), atol=1e-4)
        assert torch.allclose(inside.std(1), torch.ones(64), atol=1e-3)


@pytest.mark.parametrize(
    "convention, counts", [("floor", [0, 1, 100]), ("floor+1", [1, 2, 101]), ("ceil", [1, 1, 100])]
)
def test_frame_counts(convention, counts):
    assert FRAME_COUNTS[convention](torch.tensor([159, 160, 16_000]), 160).tolist() == counts


def test_dither_is_only_for_training():
    audio, lengths = torch.zeros(1, 4_000), torch.tensor([4_000])
    features = log_mel(normalize="none")
    assert not torch.equal(features.train()(audio, lengths)[0], features(audio, lengths)[0])
    assert torch.equal(features.eval()(audio, lengths)[0], features(audio, lengths)[0])


def test_silence_and_the_shortest_audio_give_finite_features():
    features = log_mel().eval()
    for samples in (1, 160, 320, 16_000):
        values, _ = features(torch.zeros(1, samples), torch.tensor([samples]))
        assert values.isfinite().all()


def test_unknown_conventions_are_named():
    with pytest.raises(RecipeError, match="Known: floor"):
        log_mel(frame_count="round")
