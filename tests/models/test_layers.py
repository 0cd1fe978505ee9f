"""The block's own way of convolving, silencing and normalising, beside torch's."""

import pytest
import torch
import torch.nn.functional as F

from carnelian.errors import RecipeError
from carnelian.models import block_spec, layers, masking
from carnelian.models.convolution.inference import pack_convolutions
from carnelian.models.convolution.toom_cook import ToomCookConvolution
from carnelian.models.encoders.convolutional import convolutional
from carnelian.models.norms import MaskedBatchNorm, MaskedLayerNorm


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    values = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return values.to(memory_format=torch.channels_last) if len(shape) == 4 else values


@pytest.mark.parametrize(
    "kernel, dilation, stride, later",
    [
        (1, 1, 1, 0),
        (3, 1, 1, 0),
        (33, 1, 1, 0),
        (7, 2, 1, 0),
        (5, 3, 1, 0),
        (5, 1, 2, 0),
        (33, 1, 1, 16),
        (7, 2, 1, 3),
        (5, 1, 2, 1),
    ],
)
@pytest.mark.parametrize("frames", [1, 31, 32, 33, 70])
def test_depthwise_equals_convolution(kernel, dilation, stride, later, frames):
    """Outputs and both gradients of the quick way are those of a plain convolution."""
    ours = layers.Convolution(6, 6, kernel, stride=stride, dilation=dilation, groups=6, later=later).double()
    encoded = random(3, 6, 1, frames).requires_grad_()
    weight = ours.weight.detach().clone().requires_grad_()
    expected = F.conv2d(F.pad(encoded, ours.padding), weight, None, (1, stride), 0, (1, dilation), 6)
    gradient = random(*expected.shape, seed=1)
    theirs = torch.autograd.grad(expected, [encoded, weight], gradient)
    result = ours(encoded)
    torch.testing.assert_close(result, expected)
    for one, other in zip(torch.autograd.grad(result, [encoded, ours.weight], gradient), theirs):
        torch.testing.assert_close(one, other)
    assert ours.lengths(torch.tensor(frames)) == expected.shape[-1]
    padded = F.pad(encoded.detach(), ours.padding).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours.without_padding(padded), expected)


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (1, 5), (1, 3000), (3, 40)])
def test_packed_pointwise_convolutions_give_the_same(batch, frames):
    module = layers.Convolution(48, 80, 1)
    module.bias = random(80).float()
    encoded = random(batch, 48, 1, frames).float().contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = F.conv2d(encoded, module.weight, module.bias)
        pack_convolutions(module)
        for result in (module(encoded), module.without_padding(encoded), module(encoded.contiguous())):
            torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
            assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("stride", "later"), [(1, 0), (2, 0), (1, 3)])
def test_wide_dense_convolutions_give_the_same_without_gradients(stride, later):
    module = layers.Convolution(40, 48, 11, stride=stride, later=later)
    encoded = random(1, 40, 1, 30).float().contiguous(memory_format=torch.channels_last)
    expected = module(encoded)
    with torch.no_grad():
        result = module(encoded)
    assert module.weight.numel() > 2 * encoded.numel()
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("kernel", "left", "right"), [(11, 5, 5), (13, 6, 6), (14, 3, 2), (17, 16, 0), (25, 12, 12), (29, 0, 0)]
)
@pytest.mark.parametrize("frames", [29, 30, 31, 70])
def test_toom_cook_equals_convolution(kernel, left, right, frames):
    """Outputs and both gradients are those of a plain convolution, in single precision to 1e-5 of their size."""
    encoded, weight = random(3, 8, 1, frames).requires_grad_(), random(6, 8, 1, kernel, seed=1).requires_grad_()
    expected = F.conv2d(F.pad(encoded, (left, right)), weight)
    gradient = random(*expected.shape, seed=2)
    theirs = expected, *torch.autograd.grad(expected, [encoded, weight], gradient)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        inputs = [tensor.detach().to(dtype).requires_grad_() for tensor in (encoded, weight)]
        result = ToomCookConvolution.apply(*inputs, left, right)
        ours = result, *torch.autograd.grad(result, inputs, gradient.to(dtype))
        for one, other in zip(ours, theirs):
            assert one.dtype == dtype and (one - other).norm() < tolerance * other.norm()


@pytest.mark.parametrize(("dilation", "later"), [(1, 0), (1, 4), (2, 0)])
def test_wide_dense_convolutions_give_the_same_with_gradients(dilation, later):
    module = layers.Convolution(384, 400, 13, dilation=dilation, later=later)
    encoded = random(2, 384, 1, 251).float().contiguous(memory_format=torch.channels_last).requires_grad_()
    assert module.needs_few_products(encoded) and not module.needs_few_products(encoded[:1])
    result = module(encoded)
    expected = F.conv2d(F.pad(encoded, module.padding), module.weight, dilation=(1, dilation))
    gradient = random(*expected.shape, seed=1).float()
    ours = result, *torch.autograd.grad(result, [encoded, module.weight], gradient)
    theirs = expected, *torch.autograd.grad(expected, [encoded, module.weight], gradient)
    for one, other in zip(ours, theirs):
        assert (one - other).norm() < 1e-4 * other.norm()
    assert dilation > 1 or result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dilation", [1, 2])
def test_depthwise_against_central_differences(dilation):
    module = layers.Convolution(2, 2, 3, dilation=dilation, groups=2).double()
    assert torch.autograd.gradcheck(module, random(2, 2, 1, 5).requires_grad_())


def test_interleave_is_undone():
    encoded = random(2, 3, 1, 11)
    assert layers.interleave(encoded, 4).shape == (8, 3, 1, 3)
    assert torch.equal(layers.deinterleave(layers.interleave(encoded, 4), 4, 11), encoded)


def test_mask_padding():
    lengths = torch.tensor([5, 3])
    encoded = random(2, 4, 1, 5)
    quiet = masking.mask_padding(encoded.clone(), lengths)
    assert torch.equal(quiet[0], encoded[0]) and torch.equal(quiet[1, :, :, :3], encoded[1, :, :, :3])
    assert not quiet[1, :, :, 3:].any()
    leaf = encoded.clone().requires_grad_()
    masking.masked(leaf * 2, lengths).sum().backward()
    assert leaf.grad[1, 0, 0].tolist() == [2, 2, 2, 0, 0]
    leaf = encoded.clone().requires_grad_()
    masking.masked_relu(leaf * 2, lengths).sum().backward()
    assert torch.equal(leaf.grad, 2.0 * (quiet > 0))


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(8, 64, 1, 99), (2, 3, 5, 7)])
def test_dropout(share, shape):
    lengths = torch.tensor([shape[-1]] * (shape[0] - 1) + [3])
    leaf = torch.ones(shape).to(memory_format=torch.channels_last).requires_grad_()
    torch.manual_seed(0)
    dropped = masking.masked_relu(leaf * 2, lengths, share)
    dropped.sum().backward()
    scale = 1 / (1 - share) if share < 1 else 0
    assert set(dropped.unique().tolist()) <= {0.0, torch.tensor(2.0).mul(scale).item()}
    assert not dropped[-1, ..., 3:].any()
    assert torch.equal(leaf.grad, torch.where(dropped > 0, 2 * scale, 0.0))
    heard = dropped[:-1].count_nonzero() / dropped[:-1].numel()
    assert abs(heard - (1 - share)) < 4 * (share * (1 - share) / dropped[:-1].numel()) ** 0.5 + 1e-9
    torch.manual_seed(0)
    assert torch.equal(masking.masked_relu((leaf * 2).detach(), lengths, share), dropped)


def test_shuffle_deals_channels():
    encoded = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert layers.shuffle(encoded, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_excitation_pools_inside_the_row():
    module = layers.Excitation(4, 2).double()
    encoded, lengths = random(2, 4, 1, 6), torch.tensor([6, 2])
    result = module(encoded.clone(), lengths)
    mean = encoded[1, :, 0, :2].mean(1)
    scale = torch.sigmoid(module.expand.weight @ F.relu(module.squeeze.weight @ mean))
    torch.testing.assert_close(result[1, :, 0, :2], encoded[1, :, 0, :2] * scale[:, None])


def test_masked_batch_norm_leaves_padding_out():
    module = MaskedBatchNorm(3).double()
    encoded, lengths = random(2, 3, 1, 6), torch.tensor([6, 2])
    result = module(encoded, lengths)
    inside = torch.cat([encoded[0, :, 0], encoded[1, :, 0, :2]], dim=1)
    expected = F.batch_norm(inside[None], None, None, training=True, eps=1e-3)[0]
    torch.testing.assert_close(torch.cat([result[0, :, 0], result[1, :, 0, :2]], dim=1), expected)
    torch.testing.assert_close(module.running_mean, 0.1 * inside.mean(1))
    torch.testing.assert_close(module.running_var, 0.9 + 0.1 * inside.var(1))


def test_masked_layer_norm():
    module = MaskedLayerNorm(3).double()
    encoded, lengths = random(2, 3, 1, 6), torch.tensor([6, 2])
    result = module(encoded, lengths)[1, :, 0, :2]
    expected = F.layer_norm(encoded[1, :, 0, :2], (3, 2), eps=1e-3)
    torch.testing.assert_close(result, expected)


def test_weight_norm_separates_length_and_direction():
    block = layers.Normalized(4, 8, 3, norm="weight")
    names = [name for name, _ in block.named_parameters()]
    assert any("original0" in name for name in names) and "norm.bias" in names
    direction = block.convolution.parametrizations.weight.original1
    with torch.no_grad():
        before = block.convolution.weight.clone()
        direction.mul_(3)
    torch.testing.assert_close(block.convolution.weight, before)


def test_gates():
    encoded = random(1, 4, 1, 2)
    passed, gate = encoded[:, :2], encoded[:, 2:]
    torch.testing.assert_close(block_spec.gated_linear_unit(encoded), passed * torch.sigmoid(gate))
    torch.testing.assert_close(block_spec.gated_activation_unit(encoded), torch.tanh(passed) * torch.sigmoid(gate))


@pytest.mark.parametrize(
    "settings, row", [({"norm": "group"}, {}), ({"activation": "gelu"}, {}), ({}, {"residual": "twice"})]
)
def test_unknown_choices_are_named(settings, row):
    with pytest.raises(RecipeError, match="no such choice"):
        convolutional(8, blocks=[{"channels": 4, "kernel": 3, **row}], **settings)


@pytest.mark.parametrize("plane", [{"kernel": [4, 3]}, {"kernel": [3]}, {"kernel": [3, 3], "stride": [2]}])
def test_a_2d_convolution_has_two_axes_and_odd_kernels(plane):
    with pytest.raises(RecipeError, match=r"conv2d: kernel .* Give two of each|expected two values"):
        convolutional(8, conv2d=[{"channels": 4, **plane}], blocks=[{"channels": 4, "kernel": 3}])


def test_2d_convolutions_give_their_stride_and_receptive_field():
    """The gradient of one step reaches as many frames as the encoder says, and steps are as far apart."""
    planes = [{"channels": 2, "kernel": [3, 5], "stride": [2, 2]}, {"channels": 3, "kernel": [3, 3], "stride": [2, 1]}]
    encoder = convolutional(8, conv2d=planes, blocks=[{"channels": 4, "kernel": 3, "stride": 2}]).eval()
    for weight in encoder.parameters():
        weight.data.abs_()  # so that no ReLU shuts anything off
    features = torch.rand(1, 8, 64, requires_grad=True)
    encoded, steps = encoder(features, torch.tensor([64]))
    assert (encoded.shape, steps.tolist(), encoder.stride) == ((1, 4, 16), [16], 4)
    reached = torch.autograd.grad(encoded[0, :, 8].square().sum(), features)[0][0].abs().sum(0).nonzero()[:, 0]
    assert reached[-1] - reached[0] + 1 == encoder.receptive_field == 5 + 2 * 2 + 2 * 2


def test_2d_convolutions_hold_their_activations_channels_last():
    """One channel of features must not pass for that layout: the convolutions would then all run in the other, a third slower."""
    planes = [{"channels": 4, "kernel": [3, 3]}, {"channels": 6, "kernel": [3, 3], "stride": [2, 2]}]
    encoder = convolutional(8, conv2d=planes, blocks=[{"channels": 4, "kernel": 3}])
    found = []
    for norm in encoder.front.norms:
        norm.register_forward_hook(lambda _, inputs, output: found.extend([inputs[0].stride(1), output.stride(1)]))
    encoder(torch.rand(2, 8, 20), torch.tensor([20, 15]))
    encoder(torch.rand(2, 20, 8).transpose(1, 2).requires_grad_(), torch.tensor([20, 15]))
    assert found == [1] * 8


@pytest.mark.parametrize(
    "module", [layers.Excitation(8, 2), layers.NORMS["layer"](8)], ids=["excitation", "layer norm"]
)
def test_a_row_without_frames_is_finite(module):
    encoded = torch.randn(2, 8, 1, 5)
    output = module(encoded, torch.tensor([5, 0]))
    assert output.isfinite().all()
    output.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


@pytest.mark.parametrize("shape", [(2, 9), (2, 3, 9), (2, 3, 4, 9)])
def test_padding_is_masked_alike_on_other_devices(shape):
    """The path of GPUs, on the meta device: the mask fits a tensor of any number of dimensions."""
    masked_there = masking.mask_padding(torch.ones(shape, device="meta"), torch.tensor([9, 4], device="meta"))
    assert masked_there.shape == shape
