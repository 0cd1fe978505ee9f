"""What `carnelian info` says of recipes and checkpoints, and what a model's cost is computed as."""

import json
from pathlib import Path

import pytest
import torch

from carnelian.checkpoint import Checkpoint, save_checkpoint
from carnelian.commands.info import info
from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.errors import CheckpointError, RecipeError
from carnelian.models.acoustic import AcousticModel
from carnelian.models.cost import measure_cost
from carnelian.models.features import log_mel
from carnelian.models.registry import ENCODERS, build_model

WHOLE = 'encoder={name="citrinet", channels=16, last=16, blocks=1}'
RECIPE = f"""
alphabet = "{ENGLISH}"

[train]
batch_size = 8

[encoder]
name = "quartznet"
blocks = 5
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def figures(capsys, *given, **options) -> dict:
    info(*given, **options, json_output=True)
    return json.loads(capsys.readouterr().out)


def test_recipe(recipe, capsys):
    """The published figures of QuartzNet 5x5: 6,713,181 parameters, 2,937 frames, 334.25 million multiply-adds a second."""
    found = figures(capsys, recipe)
    assert found["parameters"] == 6_713_181
    assert found["million_multiply_adds_per_second_of_audio"] == 334.25
    assert found["receptive_field_seconds"] == 29.37
    assert (found["stride_frames"], found["seconds_per_step"], found["batch"]) == (2, 0.02, "8 x 10 s")
    assert len(found["layers"]) == 9
    assert sum(layer["parameters"] for layer in found["layers"]) == found["parameters"]


def test_settings_can_be_changed(recipe, capsys):
    assert figures(capsys, recipe, set=["encoder.blocks=15"])["parameters"] == 18_924_381
    whole = figures(capsys, recipe, set=[WHOLE])
    assert whole["receptive_field_seconds"] == "the whole recording"


def test_tables_for_people(recipe, capsys):
    info(recipe)
    out = capsys.readouterr().out
    for words in ("blocks 1", "separable", "6,713,181", "29.37", "28 symbols and the blank"):
        assert words in out


def test_checkpoint(tmp_path, capsys):
    settings = {"encoder": {"name": "quartznet", "blocks": 5, "repeat": 1, "width": 0.03}, "train": {"batch_size": 4}}
    alphabet = Alphabet("ab")
    model = build_model(settings, alphabet)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, Checkpoint(model.state_dict(), alphabet, settings, 70, {"wer": 0.25}))
    found = figures(capsys, path)
    assert (found["step"], found["wer"], found["alphabet"]) == (70, 0.25, ["a", "b"])
    assert found["tensors"] == len(model.state_dict())
    assert found["recipe"] == settings
    info(path)
    out = capsys.readouterr().out
    for words in ("70", "0.25", "encoder.blocks", "quartznet", "'ab'"):
        assert words in out


def test_faults_are_told_in_a_line(tmp_path, recipe):
    with pytest.raises(RecipeError, match="no such recipe"):
        info(tmp_path / "none.toml")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        info(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError):
        info(tmp_path / "bad.safetensors")
    recipe.write_text('task = "other"')
    with pytest.raises(RecipeError, match="no recipe of an acoustic model"):
        info(recipe)


@pytest.mark.parametrize("name", ["citrinet", "deepspeech2", "wav2letter", "wave2letter", "jasper_mini"])
def test_cost_of_every_kind(name):
    """On the meta device nothing is computed, yet all is counted, and each multiply-add uses a weight."""
    with torch.device("meta"):
        model = AcousticModel(log_mel(features=80), ENCODERS[name](80), 28)
    cost = measure_cost(model, seconds=0.32)
    assert cost.parameters == sum(weight.numel() for weight in model.parameters())
    steps = 100 / model.encoder.stride
    assert cost.multiply_adds >= 0.9 * cost.parameters * steps
    assert cost.activation_bytes > 0
    assert cost.training_bytes(20, 1) > 12 * cost.parameters


def test_kept_bytes_are_what_a_step_keeps():
    """Against tensors counted by hand: a convolution keeps its input, batch norm its input, ReLU its output."""
    with torch.device("meta"):
        rows = [{"channels": 4, "kernel": 3}]
        model = AcousticModel(log_mel(features=8), ENCODERS["convolutional"](8, blocks=rows), 1)
    cost = measure_cost(model)
    # floats a frame: features 8, convolution 4, activation 4, log-probs 2
    assert cost.activation_bytes == pytest.approx(100 * 4 * (8 + 4 + 4 + 2), rel=0.3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("optimizer.name=admw", "Did you mean 'adamw'"),
        ("optimizer.betas=[0.9]", "expected two values"),
        ("schedule.peek=1", "Did you mean 'peak'"),
        ("train.clip=-1", "expected a number 0 or more"),
        ("augment.sped={}", "Did you mean 'speed'"),
        ("masks.spec_augment.time_masks=-1", "expected a whole number 0 or more"),
        ("nonsense.key=1", r"\[nonsense\]"),
    ],
)
def test_a_recipe_is_checked_as_train_checks_it(change, says):
    with pytest.raises(RecipeError, match=says):
        info(Path("an4/quartznet"), set=[change])
