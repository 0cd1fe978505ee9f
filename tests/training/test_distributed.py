"""Two processes give the weights of one process with the doubled batch; what they add up is exact."""

import json
import os
import socket
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from carnelian.checkpoint import load_checkpoint, load_tensors
from carnelian.errors import RecipeError
from carnelian.models.norms import MaskedBatchNorm
from carnelian.training.distributed import of_this_process, share_norms
from carnelian.training.tasks.acoustic import train_acoustic
from carnelian.training.tasks.corrector import train_corrector
from carnelian.training.tasks.language import train_language

START = """
    import json, os, signal, sys
    import torch, torch.distributed
    torch.set_num_threads(1)
    from carnelian.training.run import Score
    from carnelian.training.signals import Stopped
    from carnelian.training.tasks.acoustic import train_acoustic
    from carnelian.training.distributed import highest_over_processes, of_this_process
    from carnelian.training.fit import total_over_processes
    rank = int(os.environ["RANK"])
"""
END = """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # nobody leaves while another still talks to it
        torch.distributed.destroy_process_group()
"""


def together(script: str, *arguments: str, count: int = 2) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each process of a script that `count` of them run, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "".join(map(textwrap.dedent, (START, script, END))), *arguments]
    world = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]
    try:
        ends = [process.communicate(timeout=300) for process in running]
    finally:
        for process in running:
            process.kill()
    return [(process.returncode, *end) for process, end in zip(running, ends)]


@pytest.fixture
def steady(recipe) -> dict:
    """The recipe with nothing random in it but the order of the batches."""
    recipe.pop("masks"), recipe.pop("augment")
    recipe["features"]["dither"] = 0.0
    recipe["encoder"]["blocks"][1]["dropout"] = 0.0
    recipe["train"] |= {"steps": 5, "sync_norm": True, "average": 0.9}
    return recipe


@pytest.mark.slow
def test_two_processes_are_one_with_the_doubled_batch(steady, tmp_path):
    """Weights within 1e-4 of their size, for both kinds of batch norm, both criteria and two views of each utterance; and
    stopped by a signal to one, they go on to the same bits."""
    runs = {name: json.loads(json.dumps(steady)) for name in ("batch", "masked_batch", "asg", "consistency")}
    runs["masked_batch"]["encoder"]["norm"] = "masked_batch"
    runs["asg"]["criterion"] = {"name": "asg"}
    runs["consistency"]["train"]["consistency"] = 0.2
    for run in runs.values():
        run["train"] |= {"batch_size": 3, "validate_every": 5}
    alike = list(runs)
    runs["stopped"] = {**runs["batch"], "train": {**runs["batch"]["train"], "validate_every": 3}}
    script = """
        def validate(model, alphabet, stop):
            mine = of_this_process(list(range(7)))
            if rank == 1 and stopping:
                os.kill(os.getpid(), signal.SIGTERM)
            return Score(total_over_processes([sum(mine)])[0] / 100, [])

        torch.distributed.init_process_group("gloo")
        runs, stopping = json.loads(sys.argv[1]), False
        for name in sorted(runs.keys() - {"stopped"}):
            train_acoustic(runs[name], sys.argv[2] + "/" + name, validate=validate)
        try:
            stopping = True
            train_acoustic(runs["stopped"], sys.argv[2] + "/stopped", validate=validate)
        except Stopped as stopped:
            assert stopped.number == signal.SIGTERM
            stopping = False
        assert not os.path.exists(sys.argv[2] + "/stopped/step-00000005.safetensors")
        train_acoustic(runs["stopped"], sys.argv[2] + "/stopped", validate=validate)
    """
    ends = together(script, json.dumps(runs), str(tmp_path))
    assert [code for code, _, _ in ends] == [0, 0], ends
    for kind in alike:
        runs[kind]["train"] |= {"batch_size": 6, "sync_norm": False}
        expected = load_checkpoint(train_acoustic(runs[kind], tmp_path / f"{kind} alone")).weights
        checkpoint = load_checkpoint(tmp_path / kind / "step-00000005.safetensors")
        assert checkpoint.more["validation_wer"] == 0.21, "each of 0..6 was counted once"
        for name, tensor in expected.items():
            torch.testing.assert_close(checkpoint.weights[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    stopped = load_checkpoint(tmp_path / "stopped" / "step-00000005.safetensors").weights
    for name, tensor in load_checkpoint(tmp_path / "batch" / "step-00000005.safetensors").weights.items():
        assert torch.equal(stopped[name], tensor), name
    assert "finished" in ends[0][2]
    assert "finished" not in ends[1][2], "only the first process speaks"
    steps = [json.loads(line)["step"] for line in (tmp_path / "batch" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 5], "only the first process writes: a line a step, and the validation's"


def test_alone_nothing_is_shared():
    assert of_this_process([1, 2, 3]) == [1, 2, 3]


def test_norms_keep_their_kind_and_weights():
    model = nn.Sequential(nn.BatchNorm2d(3), MaskedBatchNorm(3))
    names = list(model.state_dict())
    share_norms(model)
    share_norms(model)
    assert list(model.state_dict()) == names
    assert isinstance(model[1], MaskedBatchNorm)
    encoded = torch.randn(2, 3, 1, 5)
    expected = MaskedBatchNorm(3).eval()(encoded, torch.tensor([5, 3]))
    torch.testing.assert_close(model.eval()[1](encoded, torch.tensor([5, 3])), expected)


DYING = """
    import json, os, sys
    import torch
    torch.set_num_threads(1)
    from carnelian.training.run import Score
    from carnelian.training.tasks.acoustic import train_acoustic
    from carnelian.training.fit import total_over_processes

    def validate(model, alphabet, stop):
        if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and sys.argv[3] == "die":
            raise RuntimeError("the tape of process 1 has torn")
        return Score(total_over_processes([0.5])[0] / 2, [])

    train_acoustic(json.loads(sys.argv[1]), sys.argv[2], validate=validate)
"""


@pytest.mark.slow
def test_torchrun_shows_the_error_of_a_process_that_dies_and_goes_on_from_the_last_checkpoint(steady, tmp_path):
    steady["train"] |= {"validate_every": 3, "save_every": 1}
    (tmp_path / "script.py").write_text(textwrap.dedent(DYING))
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "1",
    ]
    for name, deed in (("restarted", "die"), ("whole", "live")):
        arguments = [str(tmp_path / "script.py"), json.dumps(steady), str(tmp_path / name), deed]
        done = subprocess.run(
            [*launch, *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert ("the tape of process 1 has torn" in done.stderr) == (deed == "die")
    lines = [json.loads(line)["step"] for line in (tmp_path / "restarted" / "log.jsonl").read_text().splitlines()]
    assert lines[:3] == [1, 2, 3] and lines.count(1) == 1, "it did not begin anew"
    first, second = (
        load_checkpoint(tmp_path / name / "step-00000005.safetensors").weights for name in ("restarted", "whole")
    )
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


SHARDED = """
    from carnelian.checkpoint import build_model
    from carnelian.data.alphabet import make_alphabet
    from carnelian.training.distributed import World, gathered, local_part, shard_model

    def validate(model, alphabet, stop):
        for _ in range(1 + rank):  # not as often as the other process
            model(torch.randn(1, 4000), torch.tensor([4000]))
        if rank == 1 and stopping:
            os.kill(os.getpid(), signal.SIGTERM)
        return Score(float(model.head.weight.double().norm()), [])

    torch.distributed.init_process_group("gloo")
    runs, folder, stopping = json.loads(sys.argv[1]), sys.argv[2], False
    torch.manual_seed(0)
    first = next(iter(runs.values()))
    model = build_model(first, make_alphabet(first["alphabet"]))
    everything = sum(weight.numel() for weight in model.parameters())
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shard_model(model, World(rank, 2))
    mine = sum(local_part(weight).numel() for weight in model.parameters())
    assert mine < 0.6 * everything and total_over_processes([mine]) == [everything]
    for name, tensor in gathered(model.state_dict()).items():
        assert torch.equal(tensor, expected[name]), name

    for name, recipe in runs.items():
        train_acoustic(recipe, f"{folder}/{name}/together", validate=validate)
        recipe["train"]["sharded"] = True
        train_acoustic(recipe, f"{folder}/{name}/sharded", validate=validate)
    for last in ("resumed", "alone"):
        try:
            recipe["train"]["validate_every"], stopping = 3, True
            train_acoustic(recipe, f"{folder}/{last}", validate=validate)
        except Stopped:
            stopping = False
    assert not os.path.exists(f"{folder}/resumed/step-00000005.safetensors")
    train_acoustic(recipe, f"{folder}/resumed", validate=validate)
"""


@pytest.mark.slow
def test_a_model_divided_among_processes_trains_as_one_that_is_not(steady, tmp_path):
    """Weights within 1e-5 of their size; validated, saved whole, resumed to the same bits, and by one process too."""
    runs = {
        "larc": {"optimizer": {"name": "sgd"}, "train": {"larc": 0.001, "accumulate": 2, "sync_norm": False}},
        "adamw": {"optimizer": {"name": "adamw"}, "train": {"checkpoint_activations": True, "precision": "bf16"}},
        "muon": {"optimizer": {"name": "muon"}, "train": {"average": 0.9}},
        "novograd": {"optimizer": {"name": "novograd"}, "train": {"clip": 1.0}},
    }
    for name, tables in runs.items():
        train = {**steady["train"], "batch_size": 3, "validate_every": 5, **tables["train"]}
        runs[name] = {**steady, **tables, "train": train}
    ends = together(SHARDED, json.dumps(runs), str(tmp_path))
    assert [code for code, _, _ in ends] == [0, 0], ends
    for name in runs:
        checkpoint, expected = (
            load_checkpoint(tmp_path / name / kind / "step-00000005.safetensors") for kind in ("sharded", "together")
        )
        for key, tensor in expected.weights.items():
            torch.testing.assert_close(checkpoint.weights[key], tensor, rtol=1e-5, atol=1e-6, msg=f"{name} {key}")
        norm = float(checkpoint.weights["head.weight"].double().norm())
        assert checkpoint.more["validation_wer"] == pytest.approx(norm), "the published weights are those validated"
    resumed = load_checkpoint(tmp_path / "resumed" / "step-00000005.safetensors").weights
    for key, tensor in checkpoint.weights.items():
        assert torch.equal(resumed[key], tensor), key
    runs["novograd"]["train"] |= {"sharded": True, "validate_every": 3}
    alone = load_checkpoint(train_acoustic(runs["novograd"], tmp_path / "alone", allow_changes=True))
    assert alone.step == 5
    steps = [json.loads(line)["step"] for line in (tmp_path / "alone" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 3, 4, 5], "it went on where the two had stopped"


def test_a_divided_model_is_not_compiled(recipe, tmp_path):
    recipe["train"] |= {"sharded": True, "compile": True}
    with pytest.raises(RecipeError, match="sharded, compile: not possible together"):
        train_acoustic(recipe, tmp_path)


@pytest.mark.slow
def test_two_processes_train_a_language_model_as_one_and_go_on_with_the_memory_of_each(tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be\nthat is the question\n" * 40)
    recipe = {
        "task": "language",
        "train": {"texts": [str(tmp_path / "text.txt")], "steps": 5, "batch_size": 2, "segment": 6, "device": "cpu"},
        "model": {
            "name": "transformer_xl", "channels": 8, "layers": 2, "heads": 2, "feedforward": 12, "memory": 9, "dropout": 0.0,
        },
        "optimizer": {"name": "adam"},
        "schedule": {"name": "constant", "peak": 0.01},
    }  # fmt: skip
    recipe["train"] |= {"validation": recipe["train"]["texts"], "validate_every": 5}
    stopping = {**recipe, "train": {**recipe["train"], "save_every": 3}}
    script = """
        from carnelian.training.tasks.language import train_language

        torch.distributed.init_process_group("gloo")
        recipe, stopping, folder = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
        train_language(recipe, folder + "/whole")
        train_language(stopping, folder + "/parts")
        torch.distributed.barrier()
        if rank == 0:  # as if killed after step 3
            for name in ("step-00000005.safetensors", "step-00000005.state.safetensors"):
                os.remove(folder + "/parts/" + name)
        torch.distributed.barrier()
        train_language(stopping, folder + "/parts")
    """
    ends = together(script, json.dumps(recipe), json.dumps(stopping), str(tmp_path))
    assert [code for code, _, _ in ends] == [0, 0], ends
    recipe["train"]["batch_size"] = 4
    train_language(recipe, tmp_path / "alone")
    alone, whole, parts = (
        load_tensors(tmp_path / name / "step-00000005.state.safetensors")[0] for name in ("alone", "whole", "parts")
    )
    assert len(alone["carried.memory"]) == 4
    for name, tensor in alone.items():
        torch.testing.assert_close(whole[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
        assert torch.equal(parts[name], whole[name]), name
    found = [load_checkpoint(tmp_path / name).more["validation_perplexity"] for name in ("alone", "whole")]
    assert found[1] == pytest.approx(found[0], rel=0.2)  # each process reads its part without the memory of the other's


@pytest.mark.slow
def test_two_processes_train_a_corrector_as_one(tmp_path):
    """Texts are of one length, so that the pieces of each process count as much as the other's."""
    pytest.importorskip("tokenizers")
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcd"]))
    pairs = [{"text": f"{a} b {c}", "hypothesis": f"{a} d {c}"} for a in "abcd" for c in "abcd"]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    recipe = {
        "task": "corrector",
        "train": {"pairs": [str(tmp_path / "pairs.jsonl")], "steps": 5, "batch_tokens": 20, "device": "cpu"},
        "initialize": {"vocabulary": str(tmp_path / "vocab.txt")},
        "corrector": {"channels": 8, "layers": 1, "heads": 2, "feedforward": 12, "positions": 8, "dropout": 0.0},
        "optimizer": {"name": "adam"},
        "schedule": {"name": "constant", "peak": 0.01},
    }
    recipe["train"]["validation"] = recipe["train"]["pairs"]
    script = """
        from carnelian.training.tasks.corrector import train_corrector

        torch.distributed.init_process_group("gloo")
        train_corrector(json.loads(sys.argv[1]), sys.argv[2])
    """
    ends = together(script, json.dumps(recipe), str(tmp_path / "two"))
    assert [code for code, _, _ in ends] == [0, 0], ends
    recipe["train"]["batch_tokens"] = 40
    train_corrector(recipe, tmp_path / "one")
    one, two = (load_checkpoint(tmp_path / name) for name in ("one", "two"))
    for name, tensor in one.weights.items():
        torch.testing.assert_close(two.weights[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    assert two.more["validation_wer"] == pytest.approx(one.more["validation_wer"])
