"""A tiny model and the command line in this process, for the tests of commands."""

import sys

import numpy as np
import pytest
import soundfile
import torch

from carnelian import cli
from carnelian.checkpoint import Checkpoint, save_checkpoint
from carnelian.data.alphabet import Alphabet
from carnelian.models.registry import build_model

RECIPE = {
    "task": "acoustic",
    "alphabet": " abc",
    "encoder": {"name": "convolutional", "blocks": [{"channels": 8, "kernel": 5, "stride": 2}]},
}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A checkpoint with random weights, which writes letters at almost every step."""
    torch.manual_seed(0)
    alphabet = Alphabet(RECIPE["alphabet"])
    model = build_model(RECIPE, alphabet)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(path, Checkpoint(model.state_dict(), alphabet, RECIPE, 1, {}))
    return path


@pytest.fixture()
def carnelian(capfd):
    """`carnelian(*words)`: (exit code, standard output, standard error) of the command line in this process."""

    def call(*words):
        before, sys.argv = sys.argv, ["carnelian", *map(str, words)]
        capfd.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as exit:
            code = int(exit.code or 0)
        finally:
            sys.argv = before
        return code, *capfd.readouterr()

    return call


@pytest.fixture()
def record():
    """`record(path, seconds)`: writes a recording of noise with syllables."""

    def write(path, seconds=1.0, seed=0, rate=16000, channels=1):
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        audio = rng.standard_normal((int(seconds * rate), channels))
        audio *= 0.2 * np.abs(np.sin(np.arange(len(audio)) * 4 * np.pi / rate))[:, None]
        soundfile.write(path, audio, rate)
        return path

    return write
