"""One list on many machines: shards, and a Ray of two workers of which one is killed. No utterance is lost, none is there twice."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from carnelian.commands.transcription import ListShard, Transcription, parse_shard
from carnelian.data.utterance import Utterance, write_manifest
from carnelian.errors import CarnelianError


@pytest.fixture()
def manifest(tmp_path, record):
    """Twelve recordings, of every third two segments."""
    paths = [record(tmp_path / "in" / f"{number}.wav", 0.6, seed=number) for number in range(12)]
    listed = [
        Utterance(str(path), 0.3, "", offset)
        for index, path in enumerate(paths)
        for offset in ((0.0,) if index % 3 else (0.0, 0.3))
    ]
    write_manifest(tmp_path / "m.jsonl", listed)
    return tmp_path / "m.jsonl"


def test_shards_are_parts_of_the_whole():
    listed = [Utterance(f"{number // 3}.wav", 1.0, "", number % 3) for number in range(31)]
    for count in (1, 2, 7, 40):
        for whole in (False, True):
            parts = [ListShard(index, count).select(listed, whole) for index in range(1, count + 1)]
            assert sorted(repr(each) for part in parts for each in part) == sorted(map(repr, listed))
            sizes = [len(part) for part in parts]
            assert max(sizes) - min(sizes) <= (3 if whole else 1)
            names = [{each.audio_filepath for each in part} for part in parts]
            assert not whole or sum(map(len, names)) == len(set.union(*names))
    assert str(parse_shard("3/8")) == "3/8"
    for wrong in ("0/8", "9/8", "3", "a/b", "-1/2", "1/0", "1/2/3"):
        with pytest.raises(CarnelianError, match="expected i/n"):
            parse_shard(wrong)


@pytest.mark.parametrize("format", ["text", "jsonl", "ctm", "srt"])
def test_all_shards_give_what_one_call_gives(tiny_model, manifest, carnelian, tmp_path, format):
    call = ("transcribe", tiny_model, manifest, "--format", format)
    assert carnelian(*call, "--out", tmp_path / "whole")[0] == 0
    for index in (3, 1, 2):
        code, _, err = carnelian(*call, "--out", tmp_path / "out", "--shard", f"{index}/3")
        assert code == 0, err
    if format == "srt":
        files = [{path.name: path.read_text() for path in (tmp_path / name).glob("*.srt")} for name in ("whole", "out")]
        assert files[0] == files[1] and len(files[0]) == 12
    else:
        lines = "".join(path.read_text() for path in sorted((tmp_path / "out").glob("*-of-00003.*"))).splitlines()
        assert sorted(lines) == sorted((tmp_path / "whole").read_text().splitlines()) and len(lines) >= 16
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert carnelian(*call, "--out", tmp_path / "out", "--shard", "2/3")[0] == 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}


def test_what_shards_refuse(tiny_model, manifest, carnelian, tmp_path):
    call = ("transcribe", tiny_model, manifest)
    out = ("--out", tmp_path / "out")
    assert carnelian(*call, *out, "--shard", "1/2")[0] == 0
    (tmp_path / "file").write_text("")
    for words, message in [
        ([*out, "--shard", "1/3"], "begun with shards 2, not 3"),
        ([*out, "--shard", "1/2", "--hot-word", "a"], "begun with --hot-word"),
        (["--shard", "1/2"], "need a folder. Give --out FOLDER"),
        (["--out", tmp_path / "file", "--shard", "1/2"], "need a folder"),
        ([*out, "--shard", "1/2", "--overwrite"], "without --overwrite"),
        ([*out, "--shard", "1/2", "--engine", "ray"], "one of them"),
        ([*out, "--engine", "spark"], "not known. Known: ray"),
        ([*out, "--shard", "5/2"], "expected i/n"),
    ]:
        code, _, err = carnelian(*call, *words)
        assert code == 2 and message in err and err.count("\n") == 1
    manifest.write_text(manifest.read_text() + manifest.read_text().splitlines()[0] + "\n")
    assert "begun with list" in carnelian(*call, *out, "--shard", "1/2")[2]


def test_unreadable_recordings_cost_no_other(tiny_model, manifest, carnelian, tmp_path):
    (tmp_path / "in" / "4.wav").write_bytes(b"no sound")
    codes = [
        carnelian("transcribe", tiny_model, manifest, "--out", tmp_path / "out", "--shard", f"{index}/2")[0]
        for index in (1, 2)
    ]
    assert sorted(codes) == [0, 2]
    assert sum(path.read_text().count("\n") for path in (tmp_path / "out").glob("*.txt")) == 15


def test_a_list_has_shards_for_many_workers(tmp_path):
    def shards(utterances, each=1, format="jsonl"):
        from carnelian.commands.transcript_output import OutputOptions

        listed = [Utterance(f"{number // each}.wav", 1.0) for number in range(utterances)]
        call = Transcription(Path("m"), (), OutputOptions(format, tmp_path), "mix", 300.0, None)
        return call.shard_count(listed)

    assert shards(0) == 1 and shards(5) == 5 and shards(1000) == 64 and shards(100_000) == 391
    assert shards(1000, each=100, format="srt") == 10


#: what every process of the test's Ray does at its start: results come one by one and slowly, so that a kill finds shards half done
SLOW = """
try:
    import carnelian.commands.transcription as transcription
except ImportError:
    pass
else:
    import time
    transcription.WINDOW, transcription.FEWEST_SHARDS = 1, 6
    original = transcription.recognize_groups
    def slowly(*given, **settings):
        for results in original(*given, **settings):
            time.sleep(0.1)
            yield results
    transcription.recognize_groups = slowly
"""


def holder_of(path: Path) -> int:
    """The process that has a file open, if it is a worker of Ray; 0 for none."""
    for process in Path("/proc").iterdir():
        try:
            worker = process.name.isdigit() and (process / "cmdline").read_bytes().startswith(b"ray::")
            if worker and any(os.readlink(each) == str(path) for each in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return 0


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_worker_of_ray_loses_nothing(tiny_model, record, carnelian, tmp_path):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: make test-ray")
    paths = [record(tmp_path / "in" / f"{number}.wav", 0.4, seed=number) for number in range(60)]
    write_manifest(tmp_path / "m.jsonl", [Utterance(str(path), 0.4) for path in paths])
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(SLOW)
    call = ["transcribe", tiny_model, tmp_path / "m.jsonl", "--format", "jsonl", "--out", tmp_path / "out"]
    words = [sys.executable, "-m", "carnelian", *map(str, call), "--engine", "ray", "--workers", "2"]
    root = str(Path(__file__).parent.parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "slow"), root]), "RAY_ADDRESS": "local"}
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as running:
        killed, end = 0, time.monotonic() + 300
        while not killed and running.poll() is None and time.monotonic() < end:
            for journal in (tmp_path / "out").glob("*.partial.done"):
                if journal.exists() and 3 <= journal.read_bytes().count(b"\n") <= 6 and not killed:
                    killed = holder_of(journal)
                    if killed:
                        os.kill(killed, signal.SIGKILL)
            time.sleep(0.02)
        _, err = running.communicate(timeout=300)
    assert killed and running.returncode == 0, err
    found = [json.loads(line) for path in (tmp_path / "out").glob("*-of-*.jsonl") for line in path.open()]
    assert (
        carnelian("transcribe", tiny_model, tmp_path / "m.jsonl", "--format", "jsonl", "--out", tmp_path / "whole")[0]
        == 0
    )
    expected = [json.loads(line) for line in (tmp_path / "whole").open()]
    assert len(found) == 60 and not list((tmp_path / "out").glob("*.partial*"))
    assert sorted(found, key=repr) == sorted(expected, key=repr)


def test_without_ray_one_line_says_what_to_install(tiny_model, manifest, carnelian, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = carnelian("transcribe", tiny_model, manifest, "--out", tmp_path / "out", "--engine", "ray")
    assert code == 2 and 'pip install "carnelian[ray]"' in err and err.count("\n") == 1
