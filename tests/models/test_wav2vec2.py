"""wav2vec 2.0: sizes as published, rows that do not depend on their batch, masks, and what cannot be built."""

import pytest
import torch

from carnelian.errors import RecipeError
from carnelian.models.encoders.wav2vec2 import draw_spans, wav2vec2
from carnelian.models.features import waveform

LARGE = {"channels": 1024, "layers": 24, "heads": 16, "feedforward": 4096}
SMALL = {
    "channels": 16,
    "layers": 2,
    "heads": 2,
    "feedforward": 32,
    "width": 8,
    "position_kernel": 16,
    "position_groups": 2,
}


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 94_371_712),
        (LARGE, 315_428_992),
        (LARGE | {"feature_norm": "layer", "bias": True, "pre_norm": True}, 315_438_720),
    ],
)
def test_parameters_are_those_of_transformers(settings, count):
    """Wav2Vec2Model of transformers 5.23, of the configurations of wav2vec2-base, -large and -large-lv60."""
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in wav2vec2(**settings).parameters()) == count


@pytest.mark.parametrize("layout", [{}, {"feature_norm": "layer", "pre_norm": True, "bias": True}])
def test_a_row_alone_equals_the_row_in_a_batch(layout):
    torch.manual_seed(0)
    model, front = wav2vec2(**SMALL, **layout).eval(), waveform()
    audio, lengths = torch.randn(3, 8000), torch.tensor([8000, 5001, 100])
    with torch.no_grad():
        together, steps = model(*front(audio, lengths))
        assert steps.tolist() == [24, 15, 0] and together.isfinite().all()
        for row, length in enumerate(lengths.tolist()):
            alone, count = model(*front(audio[row : row + 1, :length], lengths[row : row + 1]))
            assert count == steps[row]
            torch.testing.assert_close(alone[0, :, :count], together[row, :, :count], atol=1e-5, rtol=1e-4)
            assert not together[row, :, count:].any()


def test_spans_hide_their_share_and_stay_inside():
    torch.manual_seed(0)
    sizes = torch.tensor([100, 57, 9, 0])
    hidden = torch.stack([draw_spans(sizes, 100, 0.5, 10) for _ in range(400)])
    shares = hidden.float().mean(0).sum(1) / sizes.clamp_min(1)
    assert 0.34 < shares[0] < 0.46, "spans overlap: 1 - (1 - 0.5 / 10)^10 is about 0.40"
    assert not hidden[:, 1, 57:].any() and not hidden[:, 2:].any()
    assert not draw_spans(sizes, 100, 0.0, 10).any()


def test_masks_are_drawn_in_training_only():
    torch.manual_seed(0)
    model = wav2vec2(
        **SMALL, dropout=0.0, time_mask_share=0.6, time_mask_length=3, channel_mask_share=0.3, channel_mask_length=4
    )
    audio = waveform()(torch.randn(1, 16000), torch.tensor([16000]))
    first, second = (model(*audio)[0] for _ in range(2))
    assert not torch.allclose(first, second) and torch.autograd.grad(first.sum(), model.mask_vector)[0].any()
    model.eval()
    torch.testing.assert_close(model(*audio)[0], model(*audio)[0])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"features": 64}, "takes the waveform"),
        ({"kernels": [10]}, "one stride for each"),
        ({"heads": 5}, "multiple of heads"),
    ],
)
def test_what_cannot_be_built_is_one_line(settings, says):
    with pytest.raises(RecipeError, match=says):
        wav2vec2(**settings)
