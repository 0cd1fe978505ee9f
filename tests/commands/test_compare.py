"""Two files of hypotheses beside each other."""

import json

import pytest

from carnelian.commands.compare import compare
from carnelian.errors import ManifestError


def write(path, hypotheses, text="one two three four"):
    path.write_text("".join(json.dumps({"text": text, "hypothesis": each}) + "\n" for each in hypotheses))
    return path


def test_a_clear_difference(tmp_path, capsys):
    good = write(tmp_path / "good.jsonl", ["one two three four"] * 20)
    bad = write(tmp_path / "bad.jsonl", ["one too three four", "one two tree four"] * 9 + ["one two three four"] * 2)
    compare(good, bad)
    shown = capsys.readouterr().out
    assert "better in 100.0 %" in shown and "18 segments" in shown


def test_the_same_is_chance(tmp_path, capsys):
    one = write(tmp_path / "one.jsonl", ["one two", "one two three four"])
    compare(one, one)
    assert "by chance 1\n" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{", '{"text": "a"}\n', '{"text": 1, "hypothesis": "a"}\n', "[1]\n"])
def test_no_hypotheses(tmp_path, content):
    one = write(tmp_path / "one.jsonl", ["one"])
    (tmp_path / "two.jsonl").write_text(content)
    with pytest.raises(ManifestError, match=r"two\.jsonl: no hypotheses"):
        compare(one, tmp_path / "two.jsonl")


def test_other_utterances(tmp_path):
    with pytest.raises(ManifestError, match="not the utterances of"):
        compare(write(tmp_path / "one.jsonl", ["one"]), write(tmp_path / "two.jsonl", ["one"], text="other"))
