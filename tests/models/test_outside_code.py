"""Functions of other packages in recipes and checkpoints: run where the user has allowed the package, never otherwise."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from carnelian.checkpoint import Checkpoint, load_model, save_checkpoint
from carnelian.data.alphabet import Alphabet
from carnelian.errors import RecipeError
from carnelian.models.layers import ConvolutionalEncoder
from carnelian.models.registry import build_model

NETS = '''
from os import system
from pathlib import Path

from carnelian.models.block_spec import BlockSpec
from carnelian.models.layers import ConvolutionalEncoder
from carnelian.ranges import PositiveInt

Path("imported").touch()


def my_net(features: PositiveInt = 64, *, width: PositiveInt = 8):
    """One convolution."""
    return ConvolutionalEncoder(features, [BlockSpec(width, 11, stride=2)])


def no_encoder(features=64):
    return object()
'''
ALPHABET = Alphabet(" ab")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The current folder, with a package of a name that was not imported before; returns that name."""
    name = f"outside_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    (tmp_path / name / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("CARNELIAN_CODE", raising=False)
    return name


def recipe(name, **keys):
    return {"features": {"name": "log_mel"}, "encoder": {"name": name, **keys}}


def test_an_allowed_function_is_checked_and_built_as_any_other(package, monkeypatch):
    monkeypatch.setenv("CARNELIAN_CODE", f"another, {package}")
    model = build_model(recipe(f"{package}.nets:my_net", width=12), ALPHABET)
    assert isinstance(model.encoder, ConvolutionalEncoder) and model.encoder.channels == 12
    with pytest.raises(RecipeError, match="expected a whole number 1 or more"):
        build_model(recipe(f"{package}.nets:my_net", width=0), ALPHABET)
    with pytest.raises(RecipeError, match=r"no setting is called 'widht'.*Did you mean 'width'"):
        build_model(recipe(f"{package}.nets:my_net", widht=4), ALPHABET)
    with pytest.raises(RecipeError, match="no model can be built"):
        build_model(recipe(f"{package}.nets:no_encoder"), ALPHABET)


@pytest.mark.parametrize("allowed", ["", "another", "outside", "outside_", ".", "*"])
def test_what_is_not_allowed_is_not_imported(package, tmp_path, monkeypatch, allowed):
    monkeypatch.setenv("CARNELIAN_CODE", allowed)
    with pytest.raises(RecipeError, match=r"was not run.*CARNELIAN_CODE"):
        build_model(recipe(f"{package}.nets:my_net"), ALPHABET)
    assert not (tmp_path / "imported").exists() and f"{package}.nets" not in sys.modules


@pytest.mark.parametrize(
    "name",
    [
        "{}.nets:system",
        "{}.nets:missing",
        "{}.nets:",
        "{}.missing:f",
        "{}.nets:Path",
        "os:system",
        ":",
        "a:b:c",
        "{}.nets:my_net.__globals__",
    ],
)
def test_only_functions_of_the_allowed_package_are_called(package, monkeypatch, name):
    monkeypatch.setenv("CARNELIAN_CODE", package)
    with pytest.raises(RecipeError) as error:
        build_model(recipe(name.format(package), command="touch called"), ALPHABET)
    assert len(str(error.value)) <= 300 and "\n" not in str(error.value)


def test_a_checkpoint_of_a_stranger_runs_no_code(package, tmp_path, monkeypatch):
    monkeypatch.setenv("CARNELIAN_CODE", package)
    held = recipe(f"{package}.nets:my_net")
    save_checkpoint("model.safetensors", Checkpoint(build_model(held, ALPHABET).state_dict(), ALPHABET, held))
    assert load_model("model.safetensors")[0].encoder.channels == 8
    (tmp_path / "imported").unlink()
    soundfile.write("silence.wav", np.zeros(16_000), 16_000)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}:{os.pathsep.join(sys.path)}",
    }
    environment.pop("CARNELIAN_CODE")
    for words in (["transcribe", "model.safetensors", "silence.wav"], ["info", "model.safetensors"]):
        done = subprocess.run(
            [sys.executable, "-m", "carnelian", *words], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 2 and "was not run" in done.stderr and len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "imported").exists()
