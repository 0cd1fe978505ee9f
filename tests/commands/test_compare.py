"""Two files of hypotheses beside each other."""

import json

import pytest

from carnelian.commands.compare import compare
from carnelian.commands.scoring_options import ScoringOptions
from carnelian.errors import CarnelianError, CheckpointError, ManifestError


def write(path, hypotheses, text="one two three four"):
    path.write_text("".join(json.dumps({"text": text, "hypothesis": each}) + "\n" for each in hypotheses))
    return path


def test_a_clear_difference(tmp_path, capsys):
    good = write(tmp_path / "good.jsonl", ["one two three four"] * 20)
    bad = write(tmp_path / "bad.jsonl", ["one too three four", "one two tree four"] * 9 + ["one two three four"] * 2)
    compare([good, bad])
    shown = capsys.readouterr().out
    assert "better in 100.0 %" in shown and "18 segments" in shown


def test_tests_by_utterance_and_by_speaker(tmp_path, capsys):
    rows = [{"text": "one two three", "speaker": f"s{n % 8}"} for n in range(24)]
    for name, wrong in (("a.jsonl", 0), ("b.jsonl", 16)):
        lines = [row | {"hypothesis": "one two" if n < wrong else "one two three"} for n, row in enumerate(rows)]
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    compare([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    shown = capsys.readouterr().out
    assert "McNemar: the first is worse 0 times, better 16 times, probability by chance 3.05e-05" in shown
    assert "sign: the first is worse 0 times, better 8 times, probability by chance 0.00781" in shown
    assert "signed rank: the first is worse 0 times, better 8 times" in shown


def test_both_sides_may_be_normalised(tmp_path, capsys):
    one = write(tmp_path / "one.jsonl", ["One, two!"] * 3, text="one two")
    compare([one, one], scoring=ScoringOptions(normalize="basic"))
    shown = capsys.readouterr().out
    assert "normalisation: basic 1" in shown and "0.00" in shown


def test_the_same_is_chance(tmp_path, capsys):
    one = write(tmp_path / "one.jsonl", ["one two", "one two three four"])
    compare([one, one])
    assert "by chance 1\n" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{", '{"text": "a"}\n', '{"text": 1, "hypothesis": "a"}\n', "[1]\n"])
def test_no_hypotheses(tmp_path, content):
    one = write(tmp_path / "one.jsonl", ["one"])
    (tmp_path / "two.jsonl").write_text(content)
    with pytest.raises(ManifestError, match=r"two\.jsonl: no hypotheses"):
        compare([one, tmp_path / "two.jsonl"])


def test_other_utterances(tmp_path):
    with pytest.raises(ManifestError, match="not the utterances of"):
        compare([write(tmp_path / "one.jsonl", ["one"]), write(tmp_path / "two.jsonl", ["one"], text="other")])


def run_folder(folder, peak):
    """The folder of a run of ten steps, with a pause of an hour after the fifth."""
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"seed": 1, "schedule": {"name": "cosine", "peak": peak}}))
    lines = [
        {
            "step": step,
            "time": 100.0 + 6 * step + 3600 * (step > 5),
            "loss": 10.0 / step,
            "rate": peak,
            "audio_seconds_per_second": 30.0,
        }
        for step in range(1, 11)
    ]
    lines += [
        {"step": 10, "time": 3761.0, "validation_wer": peak, "examples": []},
        {"step": 10, "time": 3762.0, "loss": "nan"},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_runs_are_compared_by_their_curves(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    runs = [run_folder(tmp_path / "a", 0.5), run_folder(tmp_path / "b", 0.25)]
    compare(runs, out=tmp_path / "curves.html")
    shown = capsys.readouterr().out
    assert "50.00" in shown and "25.00" in shown and "schedule.peak" in shown and "seed" not in shown
    page = (tmp_path / "curves.html").read_text()
    found = json.loads(page.partition('id="payload">')[2].partition("</script>")[0])
    assert [run["steps"] for run in found["runs"]] == [10, 10]
    assert found["runs"][0]["hours"] == pytest.approx(8 * 6 / 3600, rel=0.01), "the pause does not count"
    assert found["settings"] == [["schedule.peak", "0.5", "0.25"]]
    pytest.importorskip("matplotlib")
    compare(runs, out=tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(CarnelianError, match=r"curves\.png"):
        compare(runs, out=tmp_path / "curves.png")


def test_what_is_no_run_is_one_line(tmp_path):
    with pytest.raises(CheckpointError, match=r"no log\.jsonl"):
        compare([tmp_path, tmp_path], out=tmp_path / "curves.html")
    (run_folder(tmp_path / "a", 0.5) / "log.jsonl").write_text("{")
    with pytest.raises(CheckpointError, match=r"log\.jsonl"):
        compare([tmp_path / "a"], out=tmp_path / "curves.html")
