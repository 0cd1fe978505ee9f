"""A checkpoint is whole or told of in one line; averages are means."""

import json
import struct

import pytest
import torch

from carnelian.checkpoint import (
    Checkpoint,
    average_checkpoints,
    build_model,
    load_checkpoint,
    load_model,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from carnelian.commands.average import average as average_command
from carnelian.data.alphabet import Alphabet
from carnelian.errors import CarnelianError, CheckpointError, RecipeError

RECIPE = {
    "features": {"name": "log_mel", "features": 8},
    "encoder": {"name": "convolutional", "blocks": [{"channels": 4, "kernel": 3, "stride": 2}]},
}
LETTERS = Alphabet(" añ")


def make(path, seed=0, alphabet=LETTERS, **more):
    torch.manual_seed(seed)
    weights = build_model(RECIPE, alphabet).state_dict()
    save_checkpoint(path, Checkpoint(weights, alphabet, RECIPE, 7, more))
    return weights


def test_what_is_saved_is_loaded(tmp_path):
    weights = make(tmp_path / "model.safetensors", validation_wer=0.25)
    model, checkpoint = load_model(tmp_path / "model.safetensors")
    assert (checkpoint.alphabet, checkpoint.recipe, checkpoint.step) == (LETTERS, RECIPE, 7)
    assert checkpoint.more == {"validation_wer": 0.25}
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
def test_a_cut_file_is_one_line(tmp_path, share):
    make(tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: int(share * len(whole))])
    finding = "not a whole checkpoint" if share else "an empty file, not a checkpoint"
    with pytest.raises(CheckpointError, match=rf"cut\.safetensors: {finding}"):
        load_checkpoint(tmp_path / "cut.safetensors")


def header(**entries) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04" + b"\0" * 100, "a checkpoint of another toolkit, not a checkpoint of this package"),
        (struct.pack("<Q", 1 << 62) + b"{}", "not a whole checkpoint"),
        (header(x={"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}) + b"\0" * 4, "not a whole checkpoint"),
        (
            header(x={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}) + b"\0" * 4,
            "not a checkpoint of this package",
        ),
        (header(__metadata__={"format": "carnelian 1"}), "do not make sense"),
        (header(__metadata__={"format": "carnelian 99"}), "carnelian 99"),
        (
            header(__metadata__={"format": "carnelian 1", "alphabet": "[", "recipe": "{}", "step": "1"}),
            "do not make sense",
        ),
    ],
)
def test_a_hostile_file_is_one_line(tmp_path, content, said):
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=said) as error:
        load_checkpoint(tmp_path / "bad.safetensors")
    assert "\n" not in str(error.value)


def test_weights_that_do_not_fit_the_recipe_are_named(tmp_path):
    weights = make(tmp_path / "model.safetensors")
    for change, said in (
        (lambda all: all.pop("head.bias"), r"has no head\.bias \(1 such"),
        (lambda all: all.update(spare=torch.ones(1)), "holds spare"),
        (
            lambda all: all.update({"head.bias": torch.ones(9)}),
            r"head\.bias is of shape \(9,\), the model expects \(4,\)",
        ),
    ):
        changed = dict(weights)
        change(changed)
        save_checkpoint(tmp_path / "changed.safetensors", Checkpoint(changed, LETTERS, RECIPE))
        with pytest.raises(CheckpointError, match=said):
            load_model(tmp_path / "changed.safetensors")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not be written"):
        save_tensors(tmp_path / "file" / "model.safetensors", {"x": torch.ones(1)}, {})


def test_a_disk_without_room_leaves_what_was_there(tmp_path, monkeypatch):
    save_tensors(tmp_path / "x.safetensors", {"x": torch.ones(3)}, {})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("carnelian.checkpoint.os.fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save_tensors(tmp_path / "x.safetensors", {"x": torch.zeros(3)}, {})
    assert torch.equal(load_tensors(tmp_path / "x.safetensors")[0]["x"], torch.ones(3))
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_the_average_is_the_mean(tmp_path):
    paths = [tmp_path / f"step-{seed}.safetensors" for seed in range(3)]
    weights = [make(path, seed) for seed, path in enumerate(paths)]
    mean = average_checkpoints(paths)
    for name, tensor in mean.weights.items():
        expected = sum(each[name].double() for each in weights) / 3
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-7, check_dtype=False)
        assert tensor.dtype == weights[0][name].dtype
    out = average_command(paths, out=tmp_path / "mean.safetensors")
    assert load_checkpoint(out).step == 7
    load_model(out)
    with pytest.raises(CarnelianError, match=r"exists\. Give another --out"):
        average_command(paths, out=out)
    with pytest.raises(CheckpointError, match="1 checkpoints to average"):
        average_command(paths[:1], out=tmp_path / "other.safetensors")
    out = average_command([tmp_path], out=tmp_path / "last.safetensors", last=2)
    assert [name[-13:] for name in load_checkpoint(out).more["averaged"]] == ["1.safetensors", "2.safetensors"]
    with pytest.raises(CheckpointError, match="3 checkpoints, not 4"):
        average_command([tmp_path], out=tmp_path / "many.safetensors", last=4)


def test_models_that_differ_have_no_average(tmp_path):
    make(tmp_path / "one.safetensors")
    make(tmp_path / "other.safetensors", alphabet=Alphabet(" abc"))
    with pytest.raises(CheckpointError, match="another model"):
        average_checkpoints([tmp_path / "one.safetensors", tmp_path / "other.safetensors"])


@pytest.mark.parametrize(
    ("encoder", "finding"),
    [
        ({"blocks": [{"channels": 4, "kernle": 1}]}, r"blocks\] BlockSpec: no setting is called 'kernle'"),
        ({"blocks": [{"channels": 4}]}, r"blocks\] BlockSpec: the setting 'kernel' is missing"),
        ({"blocks": [3]}, r"blocks = \[3\]: expected a list, each a table"),
        ({"blocks": [], "conv2d": [{"channels": 4, "kernel": 3}]}, "kernel = 3: expected two values"),
        ({"blocks": [], "conv2d": [{"channels": 4, "kernel": [3, "a"]}]}, "kernel = .*: expected two values"),
    ],
)
def test_tables_of_an_encoder_are_checked(encoder, finding):
    with pytest.raises(RecipeError, match=finding):
        build_model({"encoder": {"name": "convolutional", **encoder}}, Alphabet(" ab"))
