"""What every encoder keeps: a row alone equals the row in a batch, padding does not matter, the declared field is the true one."""

import math

import pytest
import torch

from carnelian.models.registry import ENCODERS

SMALL = {
    "quartznet": ("quartznet", {"blocks": 5, "repeat": 1, "width": 0.03}),
    "quartznet of stride 4": ("quartznet", {"blocks": 5, "repeat": 1, "width": 0.03, "stride": 4}),
    "quartznet with groups": ("quartznet", {"blocks": 5, "repeat": 2, "width": 1 / 32, "groups": 2}),
    "quartznet_wsj": ("quartznet_wsj", {"repeat": 1, "width": 0.03}),
    "jasper": ("jasper", {"blocks": 5, "repeat": 2, "width": 0.05}),
    "jasper, plain residual": ("jasper", {"blocks": 5, "repeat": 1, "width": 0.05, "residual": "plain"}),
    "jasper, no residual": ("jasper", {"blocks": 5, "repeat": 1, "width": 0.05, "residual": "none"}),
    "jasper, densenet": ("jasper", {"blocks": 5, "repeat": 2, "width": 0.05, "residual": "densenet"}),
    "jasper, densernet": ("jasper", {"blocks": 5, "repeat": 2, "width": 0.05, "residual": "densernet"}),
    "jasper, masked batch norm": ("jasper", {"blocks": 5, "repeat": 1, "width": 0.05, "norm": "masked_batch"}),
    "jasper, layer norm": ("jasper", {"blocks": 5, "repeat": 1, "width": 0.05, "norm": "layer"}),
    "jasper, weight norm": ("jasper", {"blocks": 5, "repeat": 1, "width": 0.05, "norm": "weight"}),
    "jasper, clipped": ("jasper", {"blocks": 5, "repeat": 1, "width": 0.05, "activation": "clipped_relu"}),
    "jasper, leaky": ("jasper", {"blocks": 5, "repeat": 1, "width": 0.05, "activation": "leaky_relu"}),
    "jasper, glu": ("jasper", {"blocks": 5, "repeat": 1, "width": 0.05, "activation": "glu"}),
    "jasper, gau": ("jasper", {"blocks": 5, "repeat": 1, "width": 0.05, "activation": "gau"}),
    "jasper_mini": ("jasper_mini", {"repeat": 1, "width": 0.03}),
    "wave2letter": ("wave2letter", {"repeat": 1, "width": 0.05}),
    "wave2letter of stride 1": ("wave2letter", {"repeat": 1, "width": 0.05, "stride": 1}),
    "wav2letter": ("wav2letter", {"width": 0.02}),
    "wav2letter, wsj": ("wav2letter", {"width": 0.05, "size": "wsj"}),
    "convolutional, planes": (
        "convolutional",
        {
            "conv2d": [
                {"channels": 4, "kernel": (5, 5), "stride": (2, 2)},
                {"channels": 4, "kernel": (3, 3), "stride": (2, 1)},
            ],
            "blocks": [{"channels": 6, "kernel": 5, "repeat": 2, "residual": "plain", "separable": True}],
        },
    ),
    "citrinet": ("citrinet", {"channels": 64, "last": 24, "repeat": 2, "blocks": 1}),
    "conformer": ("conformer", {"channels": 16, "layers": 2, "kernel": 5}),
    "conformer, layer norm": ("conformer", {"channels": 16, "layers": 1, "kernel": 5, "norm": "layer"}),
    "fast conformer, local": (
        "conformer",
        {"channels": 16, "layers": 2, "stride": 8, "subsampling": "dw_striding", "context": [[3, 2]]},
    ),
    "deepspeech2": ("deepspeech2", {"width": 0.02}),
    "deepspeech2, medium": ("deepspeech2", {"width": 0.02, "size": "medium"}),
    "deepspeech2, small": ("deepspeech2", {"width": 0.02, "size": "small"}),
}
FEATURES = 16


def make(name: str) -> torch.nn.Module:
    """A small encoder of that kind, its norms with statistics as after training."""
    torch.manual_seed(0)
    encoder, settings = SMALL[name]
    model = ENCODERS[encoder](FEATURES, **settings)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.bias, 0.1, 0.5)
    return model.eval()


@pytest.mark.parametrize("name", SMALL)
def test_row_alone_equals_row_in_batch(name):
    model = make(name).double()  # what is left are differences of meaning, not of rounding
    frames = torch.tensor([61, 30, 45])
    features = torch.randn(3, FEATURES, 64, dtype=torch.float64)
    with torch.no_grad():
        encoded, steps = model(features, frames)
        noisier = torch.where(torch.arange(64) < frames[:, None, None], features, 9.0)
        torch.testing.assert_close(model(noisier, frames)[0], encoded)
        assert encoded.shape[1] == model.channels
        assert steps.tolist() == [-(-count // model.stride) for count in frames.tolist()]
        for row, count in enumerate(frames.tolist()):
            alone, (step,) = model(features[row : row + 1, :, :count], frames[row : row + 1])
            assert step == steps[row]
            torch.testing.assert_close(alone[0, :, :step], encoded[row, :, :step])
        assert encoded[0, :, : steps[0]].std() > 1e-4


@pytest.mark.parametrize("name", SMALL)
def test_receptive_field(name):
    """A frame that is not a number makes exactly those steps no numbers that were computed from it."""
    model = make(name)
    if math.isinf(model.receptive_field):
        return
    length = int(2 * model.receptive_field + 64) // model.stride * model.stride
    features = torch.randn(model.stride, FEATURES, length)
    for row in range(model.stride):
        features[row, :, length // 2 + row] = math.nan
    with torch.no_grad():
        encoded, _ = model(features, torch.full((model.stride,), length))
    assert encoded.isnan().any(1).sum() == model.receptive_field


@pytest.mark.parametrize("name", SMALL)
def test_gradients_are_finite_and_whole(name):
    model = make(name).train()
    frames = torch.tensor([61, 30, 45])
    features = torch.randn(3, FEATURES, 64)
    encoded, steps = model(features, frames)
    inside = torch.arange(encoded.shape[-1]) < steps[:, None, None]
    (encoded * inside).square().sum().backward()
    for parameter, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), parameter
    dead = [parameter for parameter, weight in model.named_parameters() if weight.grad.abs().max() == 0]
    assert not dead


def test_without_a_mask_padding_is_sound():
    torch.manual_seed(0)
    settings = {"blocks": 5, "repeat": 1, "width": 0.05}
    masked = ENCODERS["jasper"](FEATURES, **settings).eval()
    open_ended = ENCODERS["jasper"](FEATURES, **settings, mask=False).eval()
    open_ended.load_state_dict(masked.state_dict())
    features, frames = torch.randn(2, FEATURES, 64), torch.tensor([64, 33])
    with torch.no_grad():
        one, steps = masked(features, frames)
        other, same = open_ended(features, frames)
    assert steps.tolist() == same.tolist() == [32, 17]
    torch.testing.assert_close(one[0], other[0])
    assert not torch.allclose(one[1, :, :17], other[1, :, :17])


@pytest.mark.parametrize("name", SMALL)
def test_half_precision(name):
    """Under autocast to bfloat16 the outputs are near those in full, and all gradients are finite."""
    model = make(name)
    frames = torch.tensor([61, 30])
    features = torch.randn(2, FEATURES, 64)
    with torch.no_grad():
        whole, steps = model(features, frames)
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = model(features, frames)
    inside = torch.arange(whole.shape[-1]) < steps[:, None, None]
    difference = ((half.float() - whole) * inside).square().mean().sqrt()
    assert difference < 0.1 * (whole * inside).square().mean().sqrt()
    (half.float() * inside).square().sum().backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())
