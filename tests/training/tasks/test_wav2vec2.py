"""wav2vec 2.0 pre-trained on rising and falling tones, and what its parts compute."""

import json
import math

import numpy as np
import pytest
import torch

from carnelian.checkpoint import load_checkpoint
from carnelian.errors import RecipeError
from carnelian.models.pretraining.quantizer import gumbel_quantizer
from carnelian.models.pretraining.wav2vec2 import build_wav2vec2
from carnelian.recipe import load_recipe
from carnelian.training.optim import tri_stage
from carnelian.training.settings import check_pretraining_recipe, check_recipe
from carnelian.training.tasks.acoustic import train_acoustic
from carnelian.training.tasks.wav2vec2 import WAV2VEC2, train_wav2vec2

ENCODER = {
    "name": "wav2vec2", "channels": 16, "layers": 2, "heads": 2, "feedforward": 32, "width": 8, "kernels": [10, 8],
    "strides": [20, 8], "position_kernel": 8, "position_groups": 2, "time_mask_share": 0.65, "time_mask_length": 4,
    "layer_drop": 0.05, "feature_gradient": 0.1,
}  # fmt: skip


def small(manifest, **train):
    return {
        "task": "wav2vec2",
        "train": {
            "manifests": [str(manifest)], "steps": 4, "batch_size": 4, "workers": 0, "device": "cpu",
            **train,
        },
        "features": {"name": "waveform"},
        "encoder": ENCODER,
        "quantizer": {"codes": 8, "groups": 2, "entries": 4},
        "contrast": {"channels": 8, "negatives": 5},
        "optimizer": {"name": "adam"},
        "schedule": {"name": "constant", "peak": 0.003},
    }  # fmt: skip


def test_trains_and_serves_as_encoder(tones, manifest, recipe, tmp_path):
    path = train_wav2vec2(small(tones, steps=12, validation=[str(tones)]), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert all(0 <= line["accuracy"] <= 1 and 2 <= line["perplexity"] <= 8 for line in steps)
    assert np.mean([line["loss"] for line in steps[-4:]]) < np.mean([line["loss"] for line in steps[:4]])
    weights = load_checkpoint(path).weights
    recipe = {key: value for key, value in recipe.items() if key not in ("masks", "augment", "features")}
    recipe |= {
        "schedule": {"name": "tri_stage", "peak": 0.01},
        "encoder": {**ENCODER, "channel_mask_share": 0.1, "channel_mask_length": 4},
        "initialize": {"checkpoint": str(path), "parts": ["features", "encoder"], "freeze": ["encoder"]},
    }
    tuned = load_checkpoint(train_acoustic(recipe, tmp_path / "tuned")).weights
    encoder = {name: tensor for name, tensor in weights.items() if name.startswith("encoder.")}
    assert encoder and all(torch.equal(tuned[name], tensor) for name, tensor in encoder.items())


def test_every_part_learns():
    torch.manual_seed(0)
    model = build_wav2vec2({"encoder": {**ENCODER, "layer_drop": 0.0}, "quantizer": {"codes": 8, "entries": 4}}).train()
    losses, figures = model(torch.randn(3, 6000), torch.tensor([6000, 5000, 100]))
    losses.sum().backward()
    assert losses.shape == (3,) and losses.isfinite().all() and figures.keys() == {"accuracy", "perplexity", "variance"}
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_the_gradient_of_the_convolutions_is_scaled():
    found = []
    for factor in (1.0, 0.1, 0.0):
        torch.manual_seed(0)
        model = build_wav2vec2({"encoder": {**ENCODER, "layer_drop": 0.0, "feature_gradient": factor}}).train()
        torch.manual_seed(1)
        model(torch.ones(1, 4000).cumsum(1).sin(), torch.tensor([4000]))[0].sum().backward()
        found.append((model.encoder.convolutions[0].convolution.weight.grad, model.encoder.projection.weight.grad))
    torch.testing.assert_close(found[1][0], 0.1 * found[0][0])
    torch.testing.assert_close(found[1][1], found[0][1])
    assert found[2][0] is None and torch.equal(found[2][1], found[0][1])


def test_quantizer():
    """Hard choices with the gradient of soft ones; perplexity from one entry for all to all entries alike; the temperature falls."""
    torch.manual_seed(0)
    quantizer = gumbel_quantizer(6, codes=8, groups=2, entries=4)
    encoded = torch.randn(50, 6)
    entries = quantizer.codebooks.detach()
    codes, _ = quantizer.train()(encoded)
    for group, half in enumerate(codes.detach().chunk(2, dim=1)):
        assert ((half[:, None] - entries[group]).abs().sum(-1).amin(1) < 1e-6).all()
    codes.sum().backward()
    assert quantizer.choice.weight.grad.abs().sum() > 0
    quantizer.eval()
    likeliest = quantizer.choice(encoded).view(50, 2, 4).argmax(-1)
    expected = torch.cat([entries[group, likeliest[:, group]] for group in range(2)], dim=1)
    torch.testing.assert_close(quantizer(encoded)[0], expected)
    with torch.no_grad():
        quantizer.choice.weight.zero_()
        assert float(quantizer(encoded)[1]) == pytest.approx(8, abs=1e-3)
        quantizer.choice.bias[[0, 4]] = 100.0
        assert float(quantizer(encoded)[1]) == pytest.approx(2, abs=1e-3)
    quantizer.cool(0)
    assert quantizer.temperature == 2.0
    quantizer.cool(100_000)
    assert quantizer.temperature == pytest.approx(2 * 0.999995**100_000)
    quantizer.cool(10**6)
    assert quantizer.temperature == 0.5


def test_tri_stage_is_that_of_fairseq():
    rate = tri_stage(steps=100, peak=1e-4)
    assert rate(0) == pytest.approx(1e-6) and rate(5) == pytest.approx(1e-4 * (0.01 + 0.99 / 2))
    assert rate(10) == rate(49) == rate(50) == pytest.approx(1e-4)
    assert rate(75) == pytest.approx(1e-4 * math.exp(math.log(0.05) / 2)) and rate(100) == pytest.approx(5e-6)
    with pytest.raises(RecipeError, match="more than 1 together"):
        tri_stage(steps=10, peak=1.0, warmup_share=0.6, hold_share=0.6)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"encoder": {**ENCODER, "time_mask_share": 0.0}}, "there is nothing to predict"),
        ({"quantizer": {"codes": 7}}, "expected a multiple of groups"),
        ({"features": {"name": "log_mel"}}, "no features has this name"),
    ],
)
def test_faulty_recipes(tones, tmp_path, change, expected):
    with pytest.raises(RecipeError, match=expected):
        train_wav2vec2({**small(tones), **change}, tmp_path / "run")


@pytest.mark.parametrize(("name", "millions"), [("base", 95.0), ("large", 317.4)])
def test_packaged_recipes(name, millions):
    """The published sizes, in millions of parameters as the paper rounds them: quantiser and objective included."""
    recipe = load_recipe(f"wav2vec2/{name}")
    check_pretraining_recipe(recipe, WAV2VEC2.tables)
    with torch.device("meta"):
        model = WAV2VEC2.build(recipe)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.005)


def test_recipe_of_the_fine_tuning():
    recipe = load_recipe("wav2vec2/fine_tune")
    assert recipe["schedule"]["name"] == "tri_stage" and recipe["encoder"]["channel_mask_share"] > 0
    check_recipe(recipe)
