"""`carnelian export triton`: Triton's own definition reads the configuration, and the model agrees with it."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from carnelian.checkpoint import Checkpoint, save_checkpoint
from carnelian.commands.export_triton import triton
from carnelian.data.alphabet import Alphabet
from carnelian.errors import CarnelianError
from carnelian.models.registry import build_model

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
ROOT = Path(__file__).resolve().parent.parent.parent
LETTERS = Alphabet(" abcdefghijklmnopqrstuvwxyz'\"")
RECIPE = {
    "features": {"name": "log_mel"},
    "encoder": {"name": "convolutional", "blocks": [{"channels": 32, "kernel": 11, "stride": 2}]},
}
READ = """
import sys
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
print(json_format.MessageToJson(text_format.Parse(open(sys.argv[1]).read(), model_config_pb2.ModelConfig())))
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("triton")
    torch.manual_seed(0)
    network = build_model(RECIPE, LETTERS)
    checkpoint = Checkpoint(network.state_dict(), LETTERS, {"task": "acoustic", **RECIPE}, 0, {})
    save_checkpoint(folder / "small.safetensors", checkpoint)
    triton(folder / "small.safetensors", folder / "models", batch_size=6)
    return folder / "models"


def test_the_model_runs_in_batches_as_alone(repository):
    session = onnxruntime.InferenceSession(str(repository / "small" / "1" / "model.onnx"))
    generator = np.random.default_rng(0)
    lengths = np.array([16_000, 9000, 4000])
    audio = np.zeros((3, 16_000), np.float32)
    for row, length in zip(audio, lengths):
        row[:length] = generator.normal(0, 0.1, length)
    log_probs, steps = session.run(["log_probs", "steps"], {"audio": audio, "audio_lengths": lengths})
    assert log_probs.shape == (3, steps.max(), 30)
    for row, length, found, count in zip(audio, lengths, log_probs, steps):
        [alone], _ = session.run(None, {"audio": row[None, :length], "audio_lengths": np.array([length])})
        np.testing.assert_allclose(found[:count], alone, atol=1e-4)


def test_tritons_definition_reads_the_configuration(repository):
    python = ROOT / ".venv-clients" / "bin" / "python"
    if not python.exists():
        pytest.skip("Triton's definition of a configuration is not installed: make clients")
    words = [python, "-c", READ, repository / "small" / "config.pbtxt"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["name"], found["platform"], found["maxBatchSize"]) == ("small", "onnxruntime_onnx", 6)
    assert found["dynamicBatching"] == {"preferredBatchSize": [3, 6], "maxQueueDelayMicroseconds": "5000"}
    session = onnxruntime.InferenceSession(str(repository / "small" / "1" / "model.onnx"))
    for described, tensors in ((found["input"], session.get_inputs()), (found["output"], session.get_outputs())):
        assert [each["name"] for each in described] == [each.name for each in tensors]
        for each, tensor in zip(described, tensors):
            sizes = [size if isinstance(size, int) else -1 for size in tensor.shape[1:]]
            assert [int(size) for size in each["dims"]] == (sizes or [1])
            assert ("reshape" in each) == (not sizes)
    alphabet = json.loads(found["parameters"]["alphabet"]["stringValue"])
    assert alphabet["symbols"] == list(LETTERS.symbols)


def test_what_is_there_is_kept(repository, tmp_path):
    model = repository / "small" / "1" / "model.onnx"
    with pytest.raises(CarnelianError, match="exists already"):
        triton(model, repository, name="small")
    triton(model, repository, name="again")
    assert (repository / "again" / "1" / "model.onnx").read_bytes() == model.read_bytes()
    with pytest.raises(CarnelianError, match="not a name for a model"):
        triton(model, tmp_path, name="a/b")
