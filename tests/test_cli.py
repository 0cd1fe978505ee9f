"""The command line: every verb explains itself, and what a user does wrong is one line and exit code 2."""

import subprocess
import sys

import pytest

from carnelian import cli


def run(*words: str, **given) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "carnelian", *map(str, words)], capture_output=True, text=True, **given
    )


def test_help_names_every_verb():
    printed = run("--help").stdout
    assert all(verb in printed for verb in cli.VERBS)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself(verb, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["carnelian", verb, "--help"])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 0
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, says",
    [
        (["train", "no.toml", "--out", "run"], "no.toml: no such recipe"),
        (["evaluate", "no.safetensors", "no.jsonl"], "no.safetensors: no such checkpoint"),
        (["transcribe", "no.safetensors", "no.wav"], "no.safetensors: no such checkpoint"),
        (["prepare", "nothing", "here", "there"], 'corpus "nothing": not known'),
        (["check", "no.jsonl"], "no.jsonl"),
        (["info", "no.safetensors"], "no.safetensors"),
        (["import", "no.nemo"], "no.nemo"),
    ],
)
def test_a_users_fault_is_one_line(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["carnelian", *words])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    error = capsys.readouterr().err
    assert exit.value.code == 2
    assert error.startswith("carnelian: ") and error.count("\n") == 1 and says in error
    assert not list(tmp_path.iterdir())  # nothing half-written stays


def test_an_unknown_verb_and_option_exit_with_2():
    assert run("fly").returncode == 2
    assert run("train", "a.toml", "--wings").returncode == 2
