"""From nothing to a measured recognizer by the commands a user types: a corpus is spoken, a model trained, measured, used."""

import json
import re
import sys
from pathlib import Path

import pytest

from carnelian import Recognizer, cli, load_audio
from carnelian.data.utterance import read_manifest

RECIPE = """
task = "acoustic"
alphabet = " abcdefghijklmnopqrstuvwxyz'"
seed = 3
[train]
manifests = ["corpus/train.jsonl"]
validation = ["corpus/test.jsonl"]
steps = 8
batch_size = 8
validate_every = 4
[encoder]
name = "convolutional"
blocks = [{ channels = 32, kernel = 11, stride = 2, separable = true }, { channels = 32, kernel = 11, residual = "plain" }]
[optimizer]
name = "novograd"
[schedule]
name = "cosine"
peak = 0.01
"""


def carnelian(*words) -> int:
    """The command line in this process; its exit code."""
    before, sys.argv = sys.argv, ["carnelian", *map(str, words)]
    try:
        cli.main()
    except SystemExit as exit:
        return int(exit.code or 0)
    finally:
        sys.argv = before
    return 0


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A folder with a corpus and a model of eight steps."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "recipe.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert carnelian("synthesize", "corpus", "--train", 24, "--test", 5) == 0
        assert carnelian("train", "recipe.toml", "--out", "out") == 0
    return folder


@pytest.fixture()
def model(run) -> Path:
    return run / "out" / "step-00000008.safetensors"


def test_the_log_tells_each_step_and_validation(run):
    lines = [json.loads(line) for line in (run / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 9))
    assert [line["step"] for line in lines if "validation_wer" in line] == [4, 8]


def test_a_runs_folder_stands_for_its_last_checkpoint(run, model, capsys):
    recording = run / "corpus" / "audio" / "test-00001.wav"
    assert carnelian("transcribe", run / "out", recording) == carnelian("transcribe", model, recording) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert carnelian("transcribe", run / "corpus", recording) == 2
    assert "no checkpoint in this folder" in capsys.readouterr().err


def test_stretches_are_taken_from_the_option_or_the_settings(run, model, capsys):
    test = run / "corpus" / "test.jsonl"
    (run / "slow.toml").write_text("time_stretches = [1.5]\n")
    found = []
    for words in ([], ["--time-stretch", 1.5], ["--decoding", run / "slow.toml"]):
        assert carnelian("transcribe", model, test, "--format", "jsonl", *words) == 0
        found.append(capsys.readouterr().out)
        assert carnelian("evaluate", model, test, "--json-output", *words) == 0
        found[-1] += json.dumps(json.loads(capsys.readouterr().out)["manifests"])
    assert found[0] != found[1] == found[2]
    assert carnelian("evaluate", model, test, "--time-stretch", 3) == 2
    assert "time_stretches [3.0]: expected numbers from 0.5 to 2" in capsys.readouterr().err


def test_evaluate_prints_what_it_counted(run, model, capsys):
    assert (
        carnelian("evaluate", model, run / "corpus" / "test.jsonl", "--json-output", "--out", run / "lines.jsonl") == 0
    )
    figures = json.loads(capsys.readouterr().out)
    (scores,) = figures["manifests"].values()
    words = sum(len(utterance.text.split()) for utterance in read_manifest(run / "corpus" / "test.jsonl"))
    assert scores["words"] == scores["hits"] + scores["substitutions"] + scores["deletions"] == words
    assert figures["real_time_factor"] > 0
    lines = [json.loads(line) for line in (run / "lines.jsonl").read_text().splitlines()]
    assert sum(line["errors"] for line in lines) == round(scores["wer"] * words)


def test_evaluate_normalises_and_exports(run, model, tmp_path, capsys):
    """References written as people write them score as before, once both sides are normalised; results are exported raw."""
    plain, written = run / "corpus" / "test.jsonl", tmp_path / "written.jsonl"
    lines = [json.loads(line) for line in plain.read_text().splitlines()]
    for line in lines:
        line["audio_filepath"] = str(run / "corpus" / line["audio_filepath"])
        line["text"] = line["text"].capitalize() + "."
    written.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rates = []
    for manifest, words in ((plain, []), (written, ["--normalize", "en", "--export", "leaderboard", tmp_path / "out"])):
        assert carnelian("evaluate", model, manifest, "--json-output", "--warm-up", 1, *words) == 0
        figures = json.loads(capsys.readouterr().out)
        (scores,) = figures["manifests"].values()
        rates.append(scores["wer"])
        assert figures["rtfx"] * figures["real_time_factor"] == pytest.approx(1)
    assert rates[0] == rates[1] and scores["normalization"] == "en 1"
    (path,) = (tmp_path / "out").iterdir()
    exported = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["text"] for line in exported] == [line["text"] for line in lines]
    assert sum(line["time"] for line in exported) == pytest.approx(figures["seconds"], abs=0.01)
    assert carnelian("evaluate", model, written, "--export", "leaderboard", tmp_path / "out") == 2
    assert "exists" in capsys.readouterr().err
    assert carnelian("evaluate", model, plain, "--export", "csv", tmp_path) == 2
    assert 'Give "leaderboard" or "trn", and a folder' in capsys.readouterr().err
    assert carnelian("evaluate", model, plain, "--json-output", "--export", "trn", tmp_path / "trn") == 0
    told = json.loads(capsys.readouterr().out)["manifests"]["test"]
    assert (
        carnelian("score", tmp_path / "trn" / "test.ref.trn", tmp_path / "trn" / "test.hyp.trn", "--json-output") == 0
    )
    scored = json.loads(capsys.readouterr().out)
    assert scored["words"] == told["words"] and len(scored["speakers"]) >= 1


@pytest.mark.parametrize("form", ["text", "jsonl", "srt", "vtt", "ctm"])
def test_transcribe_in_every_format(run, model, form, capsys):
    recording = run / "corpus" / "audio" / "test-00000.wav"
    assert carnelian("transcribe", model, recording, "--format", form) == 0
    printed = capsys.readouterr().out
    heard = Recognizer.load(model)(load_audio(recording, 16_000))
    assert {
        "text": lambda: printed == heard.text + "\n",
        "jsonl": lambda: json.loads(printed)["text"] == heard.text,
        "srt": lambda: printed == "" or re.match(r"1\n00:00:0\d,\d{3} --> ", printed),
        "vtt": lambda: printed.startswith("WEBVTT"),
        "ctm": lambda: len(printed.splitlines()) == len(heard.words),
    }[form]()


def test_alone_in_a_batch_and_from_a_folder_is_the_same(run, model, capsys):
    recognizer = Recognizer.load(model)
    alone = {each.audio_filepath: recognizer(each).text for each in read_manifest(run / "corpus" / "test.jsonl")}
    assert carnelian("transcribe", model, run / "corpus" / "test.jsonl") == 0
    together = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert together == alone


def test_a_recording_that_cannot_be_read_is_named_and_the_others_are_written(run, model, tmp_path, capsys):
    good, bad = run / "corpus" / "audio" / "test-00000.wav", tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF no sound at all")
    assert carnelian("transcribe", model, good, bad) == 2
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 1
    assert "bad.wav" in told.err and "1 of 2 recordings left out" in told.err.splitlines()[-1]


def test_a_run_of_another_recipe_is_not_overwritten(run, capsys, monkeypatch):
    monkeypatch.chdir(run)
    before = {path: path.read_bytes() for path in (run / "out").glob("*.safetensors")}
    assert carnelian("train", "recipe.toml", "--out", "out", "--set", "seed=4") == 2
    assert "another" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (run / "out").glob("*.safetensors")} == before


@pytest.mark.parametrize(
    "change, says",
    [
        ("encoder.block=5", "did you mean|no setting is called 'block'"),
        ("encoder.name=quarznet", "Did you mean 'quartznet'"),
        ("train.steps=many", "expected a whole number"),
        ("nonsense.key=1", r"\[nonsense\]"),
        ("train.manifests=['no.jsonl']", "no.jsonl"),
    ],
)
def test_a_fault_in_a_recipe_is_one_line(run, change, says, capsys, monkeypatch):
    monkeypatch.chdir(run)
    assert carnelian("train", "recipe.toml", "--out", "new", "--set", change) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("carnelian: ") and re.search(says, error)
    assert not (run / "new").exists()
