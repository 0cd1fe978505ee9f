"""`carnelian benchmark`: every verb measures, writes what --against reads, and compares."""

import json
import subprocess

import numpy as np
import pytest

from carnelian.commands.benchmarks.measurement import OWN_OPTIONS, without_options

QUICK = ("--repeats", "2", "--iterations", "1", "--warm-up", "1")


def rows_of_run(path):
    return json.loads(path.read_text())["rows"]


def test_inference_of_a_checkpoint(tiny_model, carnelian, tmp_path):
    out, words = tmp_path / "run.json", tmp_path / "run.md"
    shapes = ("--seconds", "0.5", "--seconds", "1", "--batch", "1", "--batch", "2")
    code, shown, err = carnelian(
        "benchmark", "inference", tiny_model, *shapes, *QUICK, "--out", out, "--markdown", words
    )
    assert code == 0, err
    rows = rows_of_run(out)
    assert [(row["case"]["batch"], row["case"]["seconds"]) for row in rows] == [(1, 0.5), (1, 1), (2, 0.5), (2, 1)]
    assert (
        np.array(rows[0]["timings"]["wall"]).shape == (2, 1)
        and rows[3]["work"]["gflop"] == 4 * rows[0]["work"]["gflop"] > 0
    )
    assert "99 %" in words.read_text() and "utterances/s" in shown
    code, shown, err = carnelian(
        "benchmark", "inference", tiny_model, *shapes, *QUICK, "--against", out, "--json-output"
    )
    assert code == 0 and len(json.loads(shown)["compared"]) == 4, err
    code, _, err = carnelian("benchmark", "inference", tiny_model, "--seconds", "3", *QUICK, "--against", out)
    assert code == 2 and "no case" in err
    assert carnelian("benchmark", "inference", tiny_model, *QUICK, "--out", out)[0] == 2, "it exists"


def test_decoding_of_stored_log_probs_and_of_a_model(tiny_model, record, carnelian, tmp_path):
    rng = np.random.default_rng(0)
    log_probs = np.log(rng.dirichlet(np.ones(5), (3, 20))).astype(np.float32)
    np.savez(tmp_path / "noise.npz", log_probs=log_probs, text=["a b", "c", "a"])
    (tmp_path / "text.txt").write_text("a b c\n" * 3)
    words = tmp_path / "words.arpa"
    assert carnelian("language-model", "build", tmp_path / "text.txt", "--order", "2", "--arpa", words)[0] == 0
    out, search = tmp_path / "run.json", ("--language-model", words, "--beam-width", "4")
    command = ("benchmark", "decoding", tmp_path / "noise.npz", "--alphabet", " abc", *search, *QUICK, "--out", out)
    code, shown, err = carnelian(*command)
    assert code == 0, err
    assert [row["case"]["decoder"] for row in rows_of_run(out)] == ["greedy", "beam search"]
    assert all(row["found"]["WER %"] > 0 for row in rows_of_run(out)) and "processor time" in shown
    record(tmp_path / "a.wav")
    (tmp_path / "m.jsonl").write_text('{"audio_filepath": "a.wav", "duration": 1.0, "text": "a b"}\n')
    code, shown, err = carnelian("benchmark", "decoding", tmp_path / "m.jsonl", "--model", tiny_model, *QUICK)
    assert code == 0 and "greedy" in shown, err
    code, _, err = carnelian("benchmark", "decoding", tmp_path / "noise.npz", *QUICK)
    assert code == 2 and "(3, 20, 5)" in err and "29" in err


def test_data(carnelian, tmp_path):
    out = tmp_path / "run.json"
    code, shown, err = carnelian("benchmark", "data", "--seconds", "8", *QUICK, "--out", out)
    assert code == 0, err
    stages = [row["case"]["stage"] for row in rows_of_run(out)]
    assert stages[:2] == ["decode wav at 16000 Hz", "decode flac at 16000 Hz"] and stages[-1] == "all, from shards"
    assert all(row["work"]["audio_seconds"] >= 8 for row in rows_of_run(out)) and "audio s/s" in shown


def test_training(carnelian, tmp_path):
    out = tmp_path / "run.json"
    small = ("--batch", "2", "--seconds", "1")
    code, shown, err = carnelian("benchmark", "training", "an4/quartznet", *small, *QUICK, "--out", out)
    assert code == 0 and "utterances/s" in shown, err
    [row] = rows_of_run(out)
    assert row["case"]["devices"] == 1 and row["work"]["utterances"] == 2 and row["work"]["gflop"] > 0


@pytest.mark.slow
def test_training_with_two_processes_and_another_commit(carnelian, tmp_path):
    """Two processes by torchrun; and each code of a repository in processes of its own, in turns."""
    out = tmp_path / "run.json"
    small = ("--batch", "2", "--seconds", "1")
    command = ("benchmark", "training", "an4/quartznet", *small, *QUICK, "--devices", "1", "--devices", "2")
    code, _, err = carnelian(*command, "--out", out)
    assert code == 0, err
    assert [(row["case"]["devices"], row["work"]["utterances"]) for row in rows_of_run(out)] == [(1, 2), (2, 4)]
    if subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True).returncode == 0:
        code, shown, err = carnelian(
            "benchmark", "data", "--seconds", "8", *QUICK, "--against", "HEAD", "--json-output"
        )
        assert code == 0, err
        found = json.loads(shown)
        assert len(found["compared"]) == len(found["rows"]) > 10
        assert np.array(found["rows"][0]["timings"]["wall"]).shape == (2, 1)
        listed = subprocess.run(["git", "worktree", "list"], capture_output=True, text=True).stdout
        assert "/tmp" not in listed.replace(str(tmp_path), ""), "the other code is taken away"


def test_what_is_wrong_is_one_line(tiny_model, carnelian, tmp_path):
    for words, expected in [
        (("inference", tiny_model, "--batch", "0"), "--batch"),
        (("inference", tiny_model, "--repeats", "0"), "--repeats"),
        (("inference", tiny_model, "--clock", "sun"), "Known: wall, processor"),
        (("training", "an4/quartznet", "--precision", "fp8"), "Known: fp32"),
        (("data", "--seconds", "0"), "--seconds"),
        (("data", "--against", "no-such-commit", *QUICK), "neither a run's file nor a commit"),
        (("decoding", tmp_path, *QUICK), "no .npz file"),
    ]:
        code, _, err = carnelian("benchmark", *words)
        assert code == 2 and expected in err and len(err.strip().splitlines()) == 1, words


def test_options_of_the_command_alone_are_not_handed_on():
    words = [
        "benchmark",
        "data",
        "--out",
        "a",
        "--seconds",
        "3",
        "--against=HEAD",
        "--overwrite",
        "--repeats",
        "5",
        "-x",
    ]
    assert without_options(words, OWN_OPTIONS) == ["benchmark", "data", "--seconds", "3", "-x"]
