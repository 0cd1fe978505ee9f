"""A training that is stopped, killed, or fed with rubbish goes on as if nothing had happened."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from carnelian import checkpoint as files
from carnelian.checkpoint import load_checkpoint, load_model, load_tensors, saved_steps
from carnelian.data.alphabet import Alphabet
from carnelian.data.audio import load_audio
from carnelian.errors import AudioError, CarnelianError, CheckpointError, ManifestError, RecipeError
from carnelian.training.corpus import Corpus
from carnelian.training.distributed import World
from carnelian.training.resume import locked
from carnelian.training.run import Score
from carnelian.training.settings import check_recipe
from carnelian.training.signals import Stopped
from carnelian.training.tasks import acoustic
from carnelian.training.tasks.acoustic import train_acoustic

HERE = Path(__file__).parent


def assert_same(first: Path, second: Path) -> None:
    """Two checkpoints and their training states hold the same bits."""
    for one, other in ((first, second), (beside(first), beside(second))):
        (tensors, _), (others, _) = load_tensors(one), load_tensors(other)
        assert tensors.keys() == others.keys()
        for name, tensor in tensors.items():
            assert torch.equal(tensor, others[name]), name


def beside(path: Path) -> Path:
    return path.with_name(path.name.replace(".safetensors", ".state.safetensors"))


def stop_at(recipe: dict, folder: Path, step: int, number: int = signal.SIGTERM) -> Stopped:
    """Trains, with a signal coming in the midst of a step, and gives what came of it."""

    def validate(model, alphabet, stop):
        if len(seen) + 1 == step:
            os.kill(os.getpid(), number)
        seen.append(0)
        return Score(1.0, [])

    seen: list[int] = []
    recipe = {**recipe, "train": {**recipe["train"]}}
    with pytest.raises(Stopped) as stopped:
        train_acoustic(recipe, folder, validate=validate)
    return stopped.value


@pytest.mark.parametrize(
    ("optimizer", "train"),
    [
        ("novograd", {"workers": 2, "checkpoint_activations": True}),
        ("adamw", {"average": 0.9, "accumulate": 2, "precision": "bf16"}),
        ("sgd", {"clip": 1.0, "batch_size": 0, "batch_seconds": 2.0}),
        ("muon", {"clip": 1.0}),
    ],
)
def test_resumed_training_ends_at_the_same_bits(recipe, tmp_path, optimizer, train):
    recipe["train"] |= train | {"validate_every": 1}
    recipe["optimizer"] = {"name": optimizer}
    whole = train_acoustic(recipe, tmp_path / "whole", validate=lambda *_: Score(1.0, []))
    stopped = stop_at(recipe, tmp_path / "parts", 4)
    assert (stopped.number, list(saved_steps(tmp_path / "parts"))[-1]) == (signal.SIGTERM, 4)
    assert "goes on from there" in str(stopped)
    parts = train_acoustic(recipe, tmp_path / "parts", validate=lambda *_: Score(1.0, []))
    assert_same(whole, parts)


def test_recomputed_activations_change_nothing(recipe, tmp_path):
    plain = train_acoustic(recipe, tmp_path / "plain")
    recipe["train"]["checkpoint_activations"] = True
    assert_same(plain, train_acoustic(recipe, tmp_path / "recomputed"))


def test_training_outside_the_main_thread(recipe, tmp_path):
    recipe["train"]["steps"] = 2
    done = []
    thread = threading.Thread(target=lambda: done.append(train_acoustic(recipe, tmp_path)))
    thread.start()
    thread.join()
    assert done[0].exists()


def test_a_finished_run_says_so_and_does_nothing(recipe, tmp_path, capfd):
    recipe["train"]["steps"] = 2
    path = train_acoustic(recipe, tmp_path)
    before = path.stat().st_mtime_ns
    assert train_acoustic(recipe, tmp_path) == path
    assert path.stat().st_mtime_ns == before
    assert "finished at step 2" in capfd.readouterr().err


def test_another_recipe_does_not_write_over_a_run(recipe, tmp_path):
    recipe["train"]["steps"] = 2
    train_acoustic(recipe, tmp_path)
    recipe["seed"] = 4
    with pytest.raises(CheckpointError, match="another recipe"):
        train_acoustic(recipe, tmp_path)


@pytest.fixture
def overflow(manifest, monkeypatch):
    """Lets the loss of one utterance of the corpus overflow."""
    path = str(manifest.parent / "5.wav")

    def loss(model, batch):
        overflows = torch.tensor([utterance.audio_filepath == path for utterance in batch.utterances])
        assert overflows.sum() <= 1
        return finite_loss(model, batch) * torch.where(overflows, torch.inf, 1.0)

    finite_loss = acoustic.acoustic_loss
    monkeypatch.setattr(acoustic, "acoustic_loss", loss)


def spoil(manifest: Path, folder: Path) -> Path:
    """The corpus with one recording that holds NaN."""
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    audio, _ = soundfile.read(manifest.parent / "5.wav")
    audio[100] = np.nan
    soundfile.write(folder / "spoilt.wav", audio, 16000, subtype="FLOAT")
    for line in lines:
        line["audio_filepath"] = str(manifest.parent / line["audio_filepath"])
    lines[5]["audio_filepath"] = str(folder / "spoilt.wav")
    (folder / "spoilt.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "spoilt.jsonl"


@pytest.mark.usefixtures("overflow")
def test_a_step_that_is_not_finite_is_left_out_and_its_batch_named(recipe, tmp_path, capfd):
    recipe["train"] |= {"steps": 3, "save_every": 1, "keep_last": 9}
    recipe.pop("augment")  # three batches, one of them with the overflowing loss
    train_acoustic(recipe, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    (bad,) = [line["step"] for line in lines if "events" in line]
    assert "was left out" in lines[bad - 1]["events"][0]
    assert "utterances" in capfd.readouterr().err
    weights = {step: load_checkpoint(tmp_path / "run" / f"step-{step:08d}.safetensors").weights for step in (1, 2, 3)}
    for name, tensor in weights[3].items():
        assert tensor.isfinite().all(), name
        if bad > 1:
            assert torch.equal(weights[bad][name], weights[bad - 1][name]), name


def test_a_recording_that_cannot_be_read_costs_no_step(recipe, manifest, tmp_path):
    recipe["train"] |= {"accumulate": 2}
    whole = train_acoustic(recipe, tmp_path / "whole")
    last = Corpus(check_recipe(recipe), recipe, Alphabet(" ab"), 16000, World()).plan(1)[-1][0]
    broken = manifest.parent / f"{last}.wav"
    opened = []

    def fail(utterance, sample_rate):
        opened.append(utterance.audio_filepath)
        if utterance.audio_filepath == str(broken) and opened.count(str(broken)) == 2:
            raise AudioError(f"{broken}: torn")
        return load_audio(utterance, sample_rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("carnelian.data.batch.load_audio", fail)
        with pytest.raises(AudioError, match="torn"):
            train_acoustic(recipe, tmp_path / "parts")
    assert list(saved_steps(tmp_path / "parts"))[-1] == 2, "the sixth batch, in the third step, was the one"
    assert_same(whole, train_acoustic(recipe, tmp_path / "parts"))


def test_loss_scale_events_are_in_the_log(recipe, tmp_path):
    recipe["train"] |= {"precision": "fp16", "steps": 6}
    train_acoustic(recipe, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    scales = [2.0**14] + [line["loss_scale"] for line in lines]
    for before, after, line in zip(scales, scales[1:], lines):
        assert (after < before) == ("overflows in fp16" in "".join(line.get("events", [])))
    assert scales[-1] <= scales[0]


@pytest.mark.usefixtures("overflow")
def test_a_step_that_is_not_finite_may_stop_the_run(recipe, tmp_path):
    recipe["train"] |= {"nonfinite": "stop"}
    with pytest.raises(RecipeError, match=r"step \d+: loss inf.*in the batch of .*utterances\).*The run stops here"):
        train_acoustic(recipe, tmp_path / "run")


def test_nan_in_a_recording_is_named(recipe, manifest, tmp_path):
    recipe["train"] |= {"manifests": [str(spoil(manifest, tmp_path))]}
    with pytest.raises(AudioError, match=r"spoilt\.wav: .*NaN"):
        train_acoustic(recipe, tmp_path / "run")


def test_a_full_disk_leaves_the_checkpoint_before_whole(recipe, tmp_path, monkeypatch):
    recipe["train"] |= {"save_every": 2}
    whole = train_acoustic(recipe, tmp_path / "whole")
    replace, written = os.replace, []

    def fill(source, target):
        if str(target).endswith(".safetensors"):
            written.append(target)
            if len(written) > 5:  # the weights of the third checkpoint, whose state is written already
                raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", fill)
    with pytest.raises(CheckpointError, match=r"could not be written.*No space left"):
        train_acoustic(recipe, tmp_path / "full")
    monkeypatch.undo()
    assert list(saved_steps(tmp_path / "full")) == [2, 4]
    assert not list((tmp_path / "full").glob(".*"))
    load_model(tmp_path / "full" / "step-00000004.safetensors")
    assert_same(whole, train_acoustic(recipe, tmp_path / "full"))


@pytest.mark.parametrize("part", ["state", "weights"])
def test_a_cut_checkpoint_falls_back_to_the_one_before(recipe, tmp_path, capfd, part):
    recipe["train"] |= {"steps": 3, "save_every": 1}
    path = train_acoustic(recipe, tmp_path)
    expected = {name: tensor.clone() for name, tensor in load_checkpoint(path).weights.items()}
    cut = beside(path) if part == "state" else path
    cut.write_bytes(cut.read_bytes()[:-100])
    assert train_acoustic(recipe, tmp_path) == path
    noted = capfd.readouterr().err
    assert (
        re.search(rf"{cut.name}: .*Going back to the checkpoint before it", noted) and "going on from step 2" in noted
    )
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_checkpoint(path).weights.items())


def test_no_whole_checkpoint_is_one_line(recipe, tmp_path):
    recipe["train"] |= {"steps": 2}
    path = train_acoustic(recipe, tmp_path)
    beside(path).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint is whole \(step 2\). Remove the step-\* files"):
        train_acoustic(recipe, tmp_path)


def test_a_failed_validation_leaves_the_weights_in_training(recipe, tmp_path):
    """With a moving average, validation runs on the averaged weights; these must not become those in training."""
    recipe["train"] |= {"average": 0.9, "validate_every": 4}
    whole = train_acoustic(recipe, tmp_path / "whole", validate=lambda *_: Score(1.0, []))

    def fail(model, alphabet, stop):
        raise AudioError("gone.wav: no such file")

    with pytest.raises(AudioError):
        train_acoustic(recipe, tmp_path / "parts", validate=fail)
    assert_same(whole, train_acoustic(recipe, tmp_path / "parts", validate=lambda *_: Score(1.0, [])))


def test_a_run_is_made_longer_on_purpose(recipe, tmp_path, capfd):
    recipe["train"] |= {"steps": 4}
    train_acoustic(recipe, tmp_path)
    recipe["train"] |= {"steps": 6, "workers": 1, "save_minutes": 3.0}
    assert train_acoustic(recipe, tmp_path).name == "step-00000006.safetensors"
    assert "now has 6 steps instead of 4: the schedule ends there" in capfd.readouterr().err


def test_what_changes_the_numbers_is_named(recipe, tmp_path, long_manifest, capfd):
    recipe["train"]["steps"] = 2
    train_acoustic(recipe, tmp_path / "run")
    changed = {**recipe, "seed": 4, "optimizer": {"name": "adamw"}, "train": {**recipe["train"], "clip": 1.0}}
    with pytest.raises(
        CheckpointError, match=r"optimizer.name was \"novograd\", is \"adamw\"; seed was 3, is 4; train.clip"
    ):
        train_acoustic(changed, tmp_path / "run")
    moved = {**recipe, "train": {**recipe["train"], "manifests": [str(long_manifest)], "steps": 3}}
    with pytest.raises(CheckpointError, match=r"other utterances \(12, now 60\).*--allow-changes"):
        train_acoustic(moved, tmp_path / "run")
    train_acoustic(moved, tmp_path / "run", allow_changes=True)
    assert "other utterances" in capfd.readouterr().err


def test_two_trainings_in_one_folder(recipe, tmp_path):
    """The lock is the system's: it goes with the process, however that ends."""
    recipe["train"]["steps"] = 2
    with locked(tmp_path, World()), pytest.raises(CheckpointError, match="another process trains in this folder"):
        train_acoustic(recipe, tmp_path)
    assert train_acoustic(recipe, tmp_path).exists()


def test_a_dry_run_takes_a_step_and_keeps_nothing(recipe, tmp_path, capfd):
    train_acoustic(recipe, tmp_path / "run", dry_run=True)
    assert "the recipe works" in capfd.readouterr().err and not (tmp_path / "run").exists()


def test_transcripts_outside_the_alphabet_are_refused(recipe, manifest, tmp_path):
    """As with upper-case transcripts under a lower-case alphabet: a training would learn empty texts."""
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    for text in ("upper", "empty"):
        for line in lines:
            line["audio_filepath"] = str(manifest.parent / Path(line["audio_filepath"]).name)
            line["text"] = line["text"].upper() if text == "upper" else ""
        (tmp_path / f"{text}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe["train"] |= {"steps": 2, "manifests": [str(tmp_path / "upper.jsonl")]}
    with pytest.raises(ManifestError, match=r"38 of 38 characters .*lower case: normalize the transcripts"):
        train_acoustic(recipe, tmp_path / "run")
    recipe["train"]["unknown_characters"] = 1.0
    train_acoustic(recipe, tmp_path / "run")
    recipe["train"]["manifests"] = [str(tmp_path / "empty.jsonl")]
    with pytest.raises(ManifestError, match="no utterance has a transcript"):
        train_acoustic(recipe, tmp_path / "empty")


def test_no_better_validation_ends_the_run(recipe, tmp_path):
    recipe["train"] |= {"validate_every": 1, "patience": 2, "keep_best": 1, "keep_last": 1}
    rates = iter([0.9, 0.5, 0.6, 0.7, 0.1])
    path = train_acoustic(recipe, tmp_path, validate=lambda *_: Score(next(rates), [("a b", "a")]))
    assert path.name == "step-00000004.safetensors"
    assert list(saved_steps(tmp_path)) == [2, 4], "the best is kept beside the last"
    assert load_checkpoint(tmp_path / "step-00000002.safetensors").more["validation_wer"] == 0.5
    assert train_acoustic(recipe, tmp_path, validate=lambda *_: 1 / 0) == path, "and it stays ended"


def test_the_end_is_validated(recipe, tmp_path):
    recipe["train"]["steps"] = 3
    path = train_acoustic(recipe, tmp_path, validate=lambda *_: Score(0.125, []))
    assert load_checkpoint(path).more["validation_wer"] == 0.125


def test_what_a_training_took_is_kept_and_goes_on(recipe, tmp_path, capfd):
    """A run that was stopped and went on counts all its steps, and each error rate with its minutes."""
    recipe["train"] |= {"validate_every": 2, "price_per_hour": 3600.0}
    stop_at(recipe, tmp_path, 2)
    rates = iter([0.5, 0.25, 0.75])
    path = train_acoustic(recipe, tmp_path, validate=lambda *_: Score(next(rates), []))
    took = load_checkpoint(path).more["training"]
    assert [step for step, _, _ in took["validations"]] == [2, 4, 6, 8]
    assert took["cost"] == pytest.approx(60 * took["wall_minutes"], abs=0.01) and took["peak_memory_gb"] > 0.1
    assert took["audio_hours"] * 3600 > 8 * 4 * 0.3 and took["processor_minutes"] > 0
    printed = capfd.readouterr().err
    assert "best validation WER 25.00 % at step" in printed and "audio hours per hour" in printed


def test_validation_leaves_no_trace(recipe, tmp_path):
    recipe["train"] |= {"average": 0.9}
    whole = train_acoustic(recipe, tmp_path / "alone")
    recipe["train"] |= {"validate_every": 1}

    def disturb(model, alphabet, stop):
        assert not model.training
        model(torch.randn(2, 4000), torch.tensor([4000, 3000]))
        return Score(torch.rand(1).item(), [])

    watched = train_acoustic(recipe, tmp_path / "watched", validate=disturb)
    assert_same(whole, watched)


@pytest.mark.parametrize(
    ("table", "key", "value", "said"),
    [
        ("train", "precision", "fp8", "Known: bf16, fp16, fp32"),
        ("train", "nonfinite", "ignore", "Known: skip, stop"),
        ("train", "batch_seconds", 3.0, "give one of them"),
        ("train", "epochs", 3, "give one of them"),
        ("train", "batchsize", 3, "Did you mean 'batch_size'"),
        ("train", "device", "cuda", "CUDA devices"),
        ("train", "max_duration", 0.01, "none of 12 utterances"),
        ("optimizer", "name", "nvgrad", "Did you mean 'novograd'"),
        ("schedule", "warmup", 1000, "more than the 8 steps"),
    ],
)
def test_what_a_recipe_cannot_say(recipe, tmp_path, table, key, value, said):
    if value == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    recipe[table] = {**recipe[table], key: value}
    with pytest.raises(CarnelianError, match=said):
        train_acoustic(recipe, tmp_path)


TRAIN = """
    import contextlib, json, os, random, signal, sys, time
    import torch, torch._dynamo  # what a first step imports, so that the children need not
    with contextlib.suppress(ImportError):
        import torch.utils.tensorboard
    torch.set_num_threads(1)
    from carnelian.checkpoint import load_model
    from carnelian.data.batch import plan_batches
    from carnelian.training.tasks.acoustic import train_acoustic
    from pathlib import Path
    from carnelian.checkpoint import saved_steps
    from carnelian.training.run import checkpoint_path, load_state

    recipe, folder = json.loads(sys.argv[1]), sys.argv[2]
    plan_batches(__import__("numpy").ones(8), batch_size=2)  # so that the children need not compile

    def lines():
        return open(folder + "/log.jsonl").read().count(chr(10)) if os.path.exists(folder + "/log.jsonl") else 0

    def train(steps, seconds, folder=folder):
        before, child = lines(), os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            train_acoustic(recipe, folder)
            os._exit(0)
        if steps:
            while lines() < before + steps and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                time.sleep(0.002)
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1]

    rng, last, killed = random.Random(5), 0, 0
    while killed < 20:
        killed += train(rng.randint(1, 5), rng.uniform(0, 0.02)) == signal.SIGKILL
        steps = list(saved_steps(folder))
        assert not last or steps, "a checkpoint is always there"
        if steps:
            load_model(checkpoint_path(Path(folder), steps[-1]))
            load_state(Path(folder), steps[-1])
            assert steps[-1] >= last
            last = steps[-1]
        assert last < recipe["train"]["steps"], "too few steps for twenty kills"
    assert train(0, 0) == 0
    assert train(0, 0, sys.argv[3]) == 0  # and one that is left alone
"""


@pytest.mark.slow
def test_killed_twenty_times_it_ends_at_the_same_bits(recipe, tmp_path):
    recipe["train"] |= {"steps": 150, "save_every": 2, "average": 0.9}
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(TRAIN),
        json.dumps(recipe),
        str(tmp_path / "killed"),
        str(tmp_path / "whole"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert_same(*(tmp_path / run / "step-00000150.safetensors" for run in ("whole", "killed")))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_saves_and_says_how_to_go_on(recipe, tmp_path, number, code):
    recipe["train"] |= {"steps": 100000}
    lines = [f'[{key}]\nname = "{table["name"]}"\n' for key, table in recipe.items() if key in ("optimizer",)]
    settings = "".join(f"{key} = {json.dumps(value)}\n" for key, value in recipe["train"].items())
    text = (
        f'alphabet = " ab"\n[train]\n{settings}{"".join(lines)}[encoder]\nname = "quartznet"\nwidth = 0.1\nblocks = 5\n'
        '[schedule]\nname = "constant"\npeak = 0.01\n'
    )
    (tmp_path / "recipe.toml").write_text(text)
    command = [
        sys.executable,
        "-m",
        "carnelian",
        "train",
        str(tmp_path / "recipe.toml"),
        "--out",
        str(tmp_path / "run"),
    ]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    log = tmp_path / "run" / "log.jsonl"
    while running.poll() is None and not (log.exists() and log.read_text().count("\n") > 2):
        threading.Event().wait(0.1)
    running.send_signal(number)
    said = running.communicate(timeout=60)[1]
    assert running.returncode == code, said
    assert "The same command goes on from there" in said
    assert "Traceback" not in said
    assert list(saved_steps(tmp_path / "run"))


@pytest.mark.slow
def test_a_compiled_model_learns_the_same(recipe, tmp_path, monkeypatch):
    """As far as Python is compiled: what makes machine code of it takes a minute, and is torch's to test."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    recipe.pop("masks"), recipe.pop("augment")
    recipe["features"]["dither"] = 0.0
    recipe["encoder"]["blocks"][1]["dropout"] = 0.0
    recipe["train"] |= {"steps": 3}
    plain = load_checkpoint(train_acoustic(recipe, tmp_path / "plain")).weights
    recipe["train"]["compile"] = True
    for name, tensor in load_checkpoint(train_acoustic(recipe, tmp_path / "compiled")).weights.items():
        torch.testing.assert_close(tensor, plain[name], rtol=1e-3, atol=1e-4, msg=name)
