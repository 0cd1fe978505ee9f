"""The command line: every verb explains itself, and what a user does wrong is one line and exit code 2."""

import importlib
import inspect
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import carnelian
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


def test_the_version_names_the_program():
    assert run("--version").stdout == f"carnelian {carnelian.__version__}\n"


@pytest.mark.parametrize("words", [[], ["recipes"], ["language-model"], ["launch"], ["export"]])
def test_groups_and_the_program_have_an_example(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["carnelian", *words, "-h"])
    with pytest.raises(SystemExit):
        cli.main()
    example = capsys.readouterr().out.partition("Example: ")[2].split()
    assert example[0] == "carnelian" and example[1 : 1 + len(words)] == words and len(example) > 1 + len(words)


def test_help_in_a_narrow_terminal_shows_whole_options(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "argv", ["carnelian", "prepare", "--help"])
    monkeypatch.setattr(
        sys.modules["__main__"], "__package__", ""
    )  # else the program's name is that of the test runner
    with pytest.raises(SystemExit):
        cli.main()
    shown = capsys.readouterr().out
    assert "--speaker-pattern <str>" in shown and "--hold-out-share <float>" in shown and "…" not in shown
    assert max(map(len, shown.splitlines())) <= 40


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_an_example(verb, monkeypatch, capsys):
    """And its options exist."""
    monkeypatch.setenv("COLUMNS", "200")
    command = importlib.import_module(f"carnelian.commands.{cli.VERBS[verb][0]}")
    verbs = getattr(command, f"{cli.VERBS[verb][0].upper()}_VERBS", {"": getattr(command, cli.VERBS[verb][0], None)})
    for name, function in verbs.items():
        example = inspect.getdoc(function).partition("\n\nExample: ")[2]
        words = shlex.split(" ".join(example.split()))
        assert words[: 2 + bool(name)] == ["carnelian", verb, *filter(None, [name])], f"{verb} {name}: {example!r}"
        monkeypatch.setattr(sys, "argv", ["carnelian", verb, *filter(None, [name]), "-h"])
        with pytest.raises(SystemExit):
            cli.main()
        shown = capsys.readouterr().out
        assert all(word.partition("=")[0] in shown for word in words if word.startswith("--")), f"{verb} {name}"


def test_shells_complete_options_of_the_verb_that_is_typed():
    typed = {"_CARNELIAN_COMPLETE": "complete_bash", "COMP_WORDS": "carnelian train --dry", "COMP_CWORD": "2"}
    program = Path(sys.executable).parent / "carnelian"
    done = subprocess.run([program], capture_output=True, text=True, env={**os.environ, **typed})
    assert done.stdout.split() == ["--dry-run"]


def test_a_broken_pipe_is_not_success(tmp_path):
    """As for other programs: the exit code of SIGPIPE, and not a word."""
    lines = "".join(f'{{"text": "a {number}", "hypothesis": "b {number}"}}\n' for number in range(300))
    (tmp_path / "a.jsonl").write_text(lines)
    for words in ("recipes list", f"compare {tmp_path}/a.jsonl {tmp_path}/a.jsonl"):
        program = f"import sys; from carnelian.cli import main; sys.argv = ['carnelian', *{words.split()!r}]; main()"
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run([sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, text=True)
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, "")
