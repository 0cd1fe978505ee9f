"""BEST-RQ on rising and falling tones: it learns the labels of its quantiser, and serves a recognizer as encoder."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from carnelian.checkpoint import load_checkpoint
from carnelian.errors import RecipeError
from carnelian.models.pretraining.best_rq import RandomQuantizer, build_best_rq
from carnelian.recipe import load_recipe
from carnelian.training.settings import check_pretraining_recipe
from carnelian.training.tasks.acoustic import train_acoustic
from carnelian.training.tasks.best_rq import BEST_RQ, train_best_rq

ENCODER = {"name": "convolutional", "blocks": [{"channels": 24, "kernel": 11, "stride": 2}]}
FEATURES = {"name": "log_mel", "features": 16}


def small(manifest, **train):
    return {
        "task": "best_rq",
        "train": {
            "manifests": [str(manifest)], "steps": 4, "batch_size": 4, "workers": 0, "device": "cpu", "max_samples": 8000,
            **train,
        },
        "features": FEATURES,
        "encoder": ENCODER,
        "prediction": {"entries": 8, "codes": 4, "mask_length": 8},
        "optimizer": {"name": "adam"},
        "schedule": {"name": "constant", "peak": 0.01},
    }  # fmt: skip


def test_learns_and_serves_as_encoder(tones, manifest, recipe, tmp_path, capsys):
    path = train_best_rq(small(tones, steps=40, validation=[str(tones)]), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert all(1 <= line["perplexity"] <= 8.001 and line["variance"] > 0 for line in steps)
    assert np.mean([line["loss"] for line in steps[-8:]]) < 0.8 * np.mean([line["loss"] for line in steps[:4]])
    assert np.mean([line["accuracy"] for line in steps[-8:]]) > 2 / 8
    said = capsys.readouterr().err
    assert "chance: accuracy 0.125 (1 in 8)" in said and "prediction error" in said
    weights = load_checkpoint(path).weights
    recipe = {key: value for key, value in recipe.items() if key not in ("masks", "augment", "features", "encoder")}
    recipe["initialize"] = {"checkpoint": str(path), "parts": ["features", "encoder"], "freeze": ["encoder"]}
    tuned = load_checkpoint(train_acoustic(recipe, tmp_path / "tuned")).weights
    encoder = {name: tensor for name, tensor in weights.items() if name.startswith("encoder.")}
    assert encoder and all(torch.equal(tuned[name], tensor) for name, tensor in encoder.items())


def test_labels_are_those_of_loops_over_steps_and_entries():
    torch.manual_seed(0)
    quantizer, features = RandomQuantizer(3, 2, entries=5, channels=4), torch.randn(2, 3, 7)
    found, padded = quantizer(features, 4), F.pad(features, (0, 1))
    for row in range(2):
        for step in range(4):
            frames = torch.cat([padded[row, :, 2 * step], padded[row, :, 2 * step + 1]])
            code = frames @ quantizer.projection
            nearest = min(range(5), key=lambda entry: float((code / code.norm() - quantizer.codebook[entry]).norm()))
            assert int(found[row, step]) == nearest
    assert torch.equal(quantizer(features, 3), found[:, :3])


def test_only_masked_steps_have_a_loss_and_the_quantizer_none():
    torch.manual_seed(0)
    model = build_best_rq(small("")).train()
    audio = torch.randn(3, 8000)
    losses, figures = model(audio, torch.tensor([8000, 6000, 400]))  # the last is shorter than a span
    losses.sum().backward()
    assert losses[:2].min() > 0 and losses[2] == 0 and figures.keys() == {"accuracy", "perplexity", "variance"}
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert not any(name.startswith("quantizer") for name, _ in model.named_parameters())
    model.zero_grad()
    losses, figures = model(audio[:, :400], torch.full((3,), 400))
    losses.sum().backward()
    assert not losses.any() and float(figures["accuracy"]) == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"prediction": {"mask_share": 0.0}}, "no step would be masked"),
        ({"prediction": {"mask_length": 1}}, "at least the 2 frames"),
        ({"features": {"name": "waveform"}}, "no features has this name"),
        ({"contrast": {}}, "no such table"),
    ],
)
def test_faulty_recipes(tones, tmp_path, change, expected):
    with pytest.raises(RecipeError, match=expected):
        train_best_rq({**small(tones), **change}, tmp_path / "run")


def test_packaged_recipe():
    recipe = load_recipe("best_rq/conformer_small")
    check_pretraining_recipe(recipe, BEST_RQ.tables)
    with torch.device("meta"):
        model = BEST_RQ.build(recipe)
    assert sum(parameter.numel() for parameter in model.encoder.parameters()) / 1e6 == pytest.approx(13.0, abs=0.3)
