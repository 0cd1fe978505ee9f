"""Conformer and Fast Conformer: equal to NeMo's outputs, alone and in a batch, whole, chunk by chunk and piece by piece."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from carnelian.errors import RecipeError
from carnelian.models.acoustic import AcousticModel, count_parameters
from carnelian.models.encoders.conformer import conformer
from carnelian.models.encoders.relative_attention import AttentionPlan, Context, RelativeAttention
from carnelian.models.features import log_mel
from carnelian.models.streaming.conformer import ConformerStream

GOLDEN = Path(__file__).parent / "golden" / "conformer.npz"
MADE = runpy.run_path(str(Path(__file__).parent / "nemo_conformer_golden.py"))
LENGTHS, SETTINGS, SMALL, numbers = MADE["LENGTHS"], MADE["SETTINGS"], MADE["SMALL"], MADE["numbers"]


def ours(theirs: dict) -> dict:
    """NeMo's settings under our names, read anew here: the importer has its own table."""
    settings = {**SMALL, **theirs}
    context = settings.get("att_context_size", [-1, -1])
    local = "self_attention_model" in settings
    around = settings.get("conv_context_size", [])
    found = {
        "channels": settings["d_model"],
        "layers": settings["n_layers"],
        "heads": settings["n_heads"],
        "kernel": settings["conv_kernel_size"],
        "context": context if isinstance(context[0], list) else [context],
        "context_style": "local" if local else "chunked" if "att_context_style" in settings else "regular",
        "convolution_context": [8, 0] if around == "causal" else around,
        "shared_biases": not local and not settings.get("untie_biases", True),
        "norm": settings.get("conv_norm_type", "batch_norm").partition("_")[0],
        "outputs": settings.get("feat_out", 0),
    }
    for key, name in (
        ("expansion", "ff_expansion_factor"),
        ("subsampling", "subsampling"),
        ("stride", "subsampling_factor"),
        ("subsampling_channels", "subsampling_conv_channels"),
        ("causal_subsampling", "causal_downsampling"),
        ("scale", "xscaling"),
        ("bias", "use_bias"),
    ):
        if name in settings:
            found[key] = settings[name]
    return found


def filled(encoder):
    """The encoder with the weights that NeMo's had."""
    for name, tensor in encoder.state_dict().items():
        if tensor.is_floating_point():
            theirs = f"layers.0.self_attn.{name}" if name.startswith("pos_bias") else name
            shape = (*tensor.shape, 1) if "pointwise_conv" in name and tensor.dim() == 2 else tuple(tensor.shape)
            tensor.copy_(torch.from_numpy(numbers(theirs, shape)).reshape(tensor.shape))
    return encoder.eval()


@pytest.mark.parametrize("name", SETTINGS)
def test_equal_to_nemo_alone_and_in_a_batch(name):
    golden = np.load(GOLDEN)
    encoder = filled(conformer(SMALL["feat_in"], **ours(SETTINGS[name])))
    features = torch.from_numpy(numbers("features", (2, SMALL["feat_in"], LENGTHS[0])) * 2)
    with torch.no_grad():
        # what stands in the padding has no effect
        encoded, steps = encoder(features, torch.tensor(LENGTHS))
        for row, (length, count) in enumerate(zip(LENGTHS, steps.tolist())):
            expected = torch.from_numpy(golden[f"{name}/{row}"])
            alone, (own,) = encoder(features[row : row + 1, :, :length], torch.tensor([length]))
            assert own == count
            torch.testing.assert_close(encoded[row, :, :count], expected, atol=2e-5, rtol=2e-5)
            torch.testing.assert_close(alone[0, :, :count], expected, atol=2e-5, rtol=2e-5)


def test_parameters_are_counted_as_nemo_counts_them():
    """The numbers are those of NeMo 3.0.0's ConformerEncoder and ConvASRDecoder with the same number of symbols."""
    fast = {"kernel": 9, "subsampling": "dw_striding", "stride": 8, "subsampling_channels": 256}
    large = {"channels": 512, "heads": 8}
    for expected, symbols, settings in (
        (12_995_441, 128, {}),
        (30_538_625, 128, {"channels": 256, "layers": 18}),
        (121_501_313, 128, {**large, "layers": 18}),
        (109_287_937, 1024, {**large, **fast, "layers": 17}),
        (115_600_385, 1024, {**large, **fast, "layers": 18}),
        (608_799_745, 1024, {**fast, "channels": 1024, "heads": 8, "layers": 24}),
    ):
        with torch.device("meta"):
            model = AcousticModel(log_mel(features=80), conformer(80, **settings), symbols)
        assert count_parameters(model) == expected


@pytest.mark.parametrize("style", ["regular", "local", "chunked"])
@pytest.mark.parametrize("left,right", [(6, 2), (6, 0), (3, 2), (0, 2), (12, 5)])
def test_chunks_of_attention_equal_the_one_piece(style, left, right, monkeypatch):
    if style == "chunked" and left % (right + 1):
        left += right + 1 - left % (right + 1)
    torch.manual_seed(left + right)
    attention, context = RelativeAttention(8, 2), Context(left, right, style)
    torch.nn.init.normal_(attention.pos_bias_v)
    encoded, steps = torch.randn(3, 61, 8), torch.tensor([61, 40, 1])
    plan = AttentionPlan(context, steps, 61, 8)
    assert plan.chunked
    in_chunks = plan.attend(attention, encoded)
    monkeypatch.setattr(Context, "limited", False)
    whole = AttentionPlan(context, steps, 61, 8)
    assert not whole.chunked
    for row, count in enumerate(steps.tolist()):
        expected = whole.attend(attention, encoded)[row, :count]
        torch.testing.assert_close(in_chunks[row, :count], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stride", [2, 4, 8])
@pytest.mark.parametrize(
    "settings",
    [
        {"context": [[16, 3]], "context_style": "chunked"},
        {"context": [[-1, 3]], "context_style": "chunked", "norm": "layer", "shared_biases": True},
        {"context": [[0, 2]], "context_style": "chunked", "outputs": 10},
        {"context": [[6, 0]]},
        {"context": [[6, 0]], "context_style": "local"},
        {"context": [[-1, 0]], "subsampling": "dw_striding"},
    ],
)
def test_pieces_of_any_size_equal_the_whole(settings, stride):
    encoder = filled(
        conformer(
            12, channels=8, layers=2, heads=2, kernel=5, stride=stride, causal_subsampling=True,
            convolution_context=[4, 0], **settings,
        )
    )  # fmt: skip
    generator = torch.Generator().manual_seed(stride)
    for frames in (1, stride, stride + 1, 100, 163):
        features = torch.randn(2, 12, frames, generator=generator)
        with torch.no_grad():
            expected, _ = encoder(features, torch.full((2,), frames))
            stream, pieces, start = ConformerStream(encoder), [], 0
            while start < frames:
                size = int(torch.randint(0, 30, (), generator=generator))
                pieces.append(stream.step(features[:, :, start : start + size]))
                start += size
            pieces.append(stream.finish())
        torch.testing.assert_close(torch.cat(pieces, 2), expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(
    "settings,reason",
    [
        ({}, "its subsampling sees frames ahead"),
        ({"causal_subsampling": True}, "its convolutions see steps ahead"),
        ({"causal_subsampling": True, "convolution_context": [30, 0]}, "its attention sees steps ahead"),
    ],
)
def test_a_model_that_sees_ahead_is_no_streaming_model(settings, reason):
    with pytest.raises(RecipeError, match=reason):
        ConformerStream(conformer(8, channels=8, layers=1, heads=2, **settings))


@pytest.mark.parametrize(
    "settings,named",
    [
        ({"context": [[3, 1]], "context_style": "chunk"}, "context_style"),
        ({"context": [[3, 1]], "context_style": "chunked"}, "multiple"),
        ({"context": [[4, -1]], "context_style": "chunked"}, "context"),
        ({"context": [[-2, 0]]}, "context"),
        ({"context": [[3]]}, "context"),
        ({"context": []}, "context"),
        ({"context": [[0, 0]], "context_style": "local"}, "context"),
        ({"norm": "group"}, "norm"),
        ({"subsampling": "vggnet"}, "subsampling"),
        ({"stride": 6}, "stride"),
        ({"heads": 5}, "heads"),
        ({"kernel": 30}, "kernel"),
        ({"convolution_context": [3, 3]}, "convolution_context"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, named):
    with pytest.raises(RecipeError, match=named):
        conformer(**{"channels": 8, "layers": 1, "heads": 2, **settings})


@pytest.mark.parametrize("settings", [{}, {"context": [[4, 1]], "context_style": "chunked"}, {"norm": "layer"}])
def test_gradients_are_finite_with_rows_of_very_different_length(settings):
    torch.manual_seed(0)
    encoder = conformer(8, channels=8, layers=2, heads=2, kernel=5, **settings).train()
    features = torch.randn(3, 8, 90, requires_grad=True)
    encoded, steps = encoder(features, torch.tensor([90, 3, 0]))
    assert steps.tolist()[0] == 23
    encoded[:, :, : steps[1]].square().sum().backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in encoder.parameters())
    assert features.grad is not None and features.grad.isfinite().all()


def test_one_of_the_contexts_is_drawn_while_training():
    encoder = conformer(8, channels=8, layers=1, heads=2, context=[[4, 1], [6, 2]], context_style="chunked")
    drawn = {encoder.train().context.left for _ in range(50)}
    assert drawn == {4, 6}
    assert {encoder.eval().context.left for _ in range(10)} == {4}


def test_a_very_long_recording_is_attended_to_within_a_limit_and_that_is_noted(monkeypatch, capsys):
    encoder = filled(conformer(8, channels=8, layers=2, heads=2, kernel=5))
    features, frames = torch.randn(1, 8, 200), torch.tensor([200])
    monkeypatch.setattr("carnelian.models.encoders.conformer.LONGEST_WHOLE", 30)
    monkeypatch.setattr("carnelian.models.encoders.conformer.LONG", Context(7, 7))
    with torch.no_grad():
        limited, _ = encoder(features, frames)
        assert encoder(features, frames)[0].equal(limited)
        encoder.contexts = [Context(7, 7)]
        torch.testing.assert_close(limited, encoder(features, frames)[0])
    assert capsys.readouterr().err.count("attention sees 7 steps to each side") == 1
