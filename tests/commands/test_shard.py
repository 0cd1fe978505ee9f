"""`carnelian shard`: the same seed gives the same bytes; time_stretches and channels are cut out; foreign shards are listed."""

import json
import tarfile

import numpy as np
import pytest
import soundfile

from carnelian.commands.shard import shard
from carnelian.data.audio import load_audio
from carnelian.data.shards import write_shard
from carnelian.data.utterance import Manifest, Utterance, write_manifest
from carnelian.errors import AudioError, CarnelianError, ManifestError


@pytest.fixture
def manifest(tmp_path):
    """Three utterances of one stereo recording: a stretch, a channel, and all of it."""
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "talk.v2.wav", 0.1 * rng.standard_normal((32000, 2)), 16000)
    talk = str(tmp_path / "talk.v2.wav")
    utterances = [
        Utterance(talk, 0.5, "eins", offset=0.25),
        Utterance(talk, 2.0, "zwei", more={"channel": 1, "speaker": "b"}),
        Utterance(talk, 2.0, "drei ü"),
    ]
    write_manifest(tmp_path / "m.jsonl", utterances)
    return tmp_path / "m.jsonl"


def test_stretches_and_channels_are_cut_out(manifest, tmp_path, capsys):
    shard([str(manifest)], out=tmp_path / "out", shards=2)
    packed = {utterance.text: utterance for utterance in Manifest(tmp_path / "out" / "manifest.jsonl")}
    for utterance in Manifest(manifest):
        twin = packed[utterance.text]
        np.testing.assert_allclose(load_audio(twin, 16000), load_audio(utterance, 16000), atol=4e-5)
        assert twin.offset == 0 and twin.duration == utterance.duration and "channel" not in twin.more
    assert packed["zwei"].more["speaker"] == "b"
    assert packed["drei ü"].audio_filepath.endswith("00000002-talk_v2.wav"), "a whole file is taken as it is"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "manifest.jsonl", "shard_00000.tar", "shard_00001.tar",
    ]  # fmt: skip
    assert "manifest.jsonl" in capsys.readouterr().out


def test_the_layout_is_webdataset_s_and_nemo_s(manifest, tmp_path):
    shard([str(manifest)], out=tmp_path / "out", shards=1)
    lines = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert all(line["audio_filepath"].startswith("shard_00000.tar/") and line["shard_id"] == 0 for line in lines)
    with tarfile.open(tmp_path / "out" / "shard_00000.tar") as tar:
        names = tar.getnames()
        keys = [name.split(".")[0] for name in names]
        assert len(names) == 6 and keys[0::2] == keys[1::2] and names[1].endswith(".json")
        notes = json.load(tar.extractfile(names[1]))
    assert notes["text"] == lines[0]["text"] and names[0] == lines[0]["audio_filepath"].rpartition("/")[2]


def test_the_same_seed_gives_the_same_bytes(manifest, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        shard([str(manifest)], out=tmp_path / name, shards=1, seed=seed)
    a, b, c = ((tmp_path / name / "shard_00000.tar").read_bytes() for name in "abc")
    assert a == b != c


def test_a_manifest_for_shards_that_have_none(tmp_path):
    audio = {}
    for kind in ("wav", "flac"):
        soundfile.write(tmp_path / f"x.{kind}", np.zeros(8000), 16000)
        audio[kind] = (tmp_path / f"x.{kind}").read_bytes()
    write_shard(tmp_path / "a.tar", [("d/u1.wav", audio["wav"]), ("d/u1.txt", b"one\n"), ("d/u2.wav", audio["wav"])])
    write_shard(
        tmp_path / "b.tar",
        [("u3.json", b'{"text": "three", "speaker": 7, "duration": 99}'), ("u3.flac", audio["flac"])],
    )
    shard([str(tmp_path / "a.tar"), str(tmp_path / "b.tar")], out=tmp_path)
    found = list(Manifest(tmp_path / "manifest.jsonl"))
    assert [(u.text, u.duration, u.more) for u in found] == [
        ("one", 0.5, {"shard_id": 0}),
        ("", 0.5, {"shard_id": 0}),
        ("three", 0.5, {"speaker": 7, "shard_id": 1}),
    ]
    assert all(len(load_audio(utterance, 16000)) == 8000 for utterance in found)


def test_what_a_user_may_do_wrong_is_one_line(manifest, tmp_path):
    with pytest.raises(ManifestError, match="--shards 4: give 1 to 3"):
        shard([str(manifest)], out=tmp_path / "out", shards=4)
    shard([str(manifest)], out=tmp_path / "out")
    with pytest.raises(CarnelianError, match=r"manifest\.jsonl: exists. Give another --out"):
        shard([str(manifest)], out=tmp_path / "out")
    write_manifest(tmp_path / "n.jsonl", [Utterance(str(tmp_path / "none.wav"), 1.0)])
    with pytest.raises(AudioError, match=r"none\.wav: no such file"):
        shard([str(tmp_path / "n.jsonl")], out=tmp_path / "broken")
    assert not (tmp_path / "broken").exists() or not list((tmp_path / "broken").iterdir()), (
        "nothing half-written is left"
    )
