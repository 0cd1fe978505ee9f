"""Lhotse's cuts and Hugging Face's folders, as those packages write them."""

import gzip
import json

import numpy as np
import pytest
import soundfile

from carnelian.corpora.hugging_face import datasets_folder
from carnelian.corpora.lhotse import lhotse
from carnelian.data.utterance import read_manifest
from carnelian.errors import ManifestError


def record(path, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (16000, channels)), 8000)
    return path


def recording(path, channels=1, **more):
    source = {"type": "file", "channels": list(range(channels)), "source": str(path)}
    facts = {"id": "rec", "sources": [source], "sampling_rate": 8000, "num_samples": 16000, "duration": 2.0}
    return facts | {"channel_ids": list(range(channels))} | more


def supervision(start, duration, text, channel=0):
    times = {"id": f"sup-{start}", "recording_id": "rec", "start": start, "duration": duration, "channel": channel}
    return times | {"text": text, "speaker": "s1", "language": "English"}


def write_lines(path, objects):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(each) + "\n" for each in objects)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def test_lhotse_s_cuts(tmp_path, capsys):
    whole = recording(record(tmp_path / "a.wav"))
    stereo = recording(record(tmp_path / "b.wav", 2), 2)
    faster = recording(tmp_path / "a.wav", transforms=[{"name": "Speed", "kwargs": {"factor": 1.1}}])
    cut = {"id": "cut", "start": 0.5, "duration": 1.0, "channel": 0, "type": "MonoCut"}
    cuts = [
        cut | {"recording": whole, "supervisions": [supervision(0.0, 0.4, "one"), supervision(0.5, 0.5, "two")]},
        cut | {"recording": stereo, "supervisions": [supervision(0.0, 0.4, "three", 1)]},
        cut | {"recording": faster, "supervisions": [supervision(0.0, 0.4, "four")]},
        {"id": "mixed", "type": "MixedCut", "tracks": []},
    ]
    for name in ("libri_cuts_dev.jsonl.gz", "cuts.jsonl"):
        write_lines(tmp_path / "manifests" / name, cuts)
    subsets = lhotse(tmp_path / "manifests")
    assert subsets.keys() == {"libri_dev", "all"}
    one, two, three = subsets["libri_dev"]
    assert [(each.text, each.offset, each.duration) for each in (one, two)] == [("one", 0.5, 0.4), ("two", 1.0, 0.5)]
    assert one.more == {"id": "sup-0.0", "speaker": "s1", "language": "English"} and three.more["channel"] == 1
    said = capsys.readouterr().err
    assert "1 with transformed recordings" in said and "1 mixed or without a recording" in said


def test_a_supervision_in_several_cuts_of_lhotse_s_is_read_once(tmp_path, capsys):
    slower = [{"name": "Resample", "kwargs": {"source_sampling_rate": 8000, "target_sampling_rate": 4000}}]
    cut = {"duration": 0.7, "channel": 0, "type": "MonoCut"}
    cut["recording"] = recording(record(tmp_path / "a.wav"), transforms=slower)
    windows = [cut | {"start": start, "supervisions": [supervision(0.5 - start, 1.0, "one") | {"id": "s"}]}
               for start in (0.0, 0.7, 1.4)]  # fmt: skip
    write_lines(tmp_path / "cuts.jsonl", windows)
    (one,) = lhotse(tmp_path)["all"]
    assert (one.offset, one.duration, one.text) == (0.5, 1.0, "one")
    assert "2 supervisions that an earlier cut had are left out" in capsys.readouterr().err


def test_lhotse_s_recordings_and_supervisions(tmp_path, run):
    write_lines(tmp_path / "m/dev_recordings.jsonl.gz", [recording(record(tmp_path / "a.wav"))])
    lost = supervision(0.0, 1.0, "lost") | {"recording_id": "none"}
    write_lines(tmp_path / "m/dev_supervisions.jsonl.gz", [supervision(0.25, 1.0, "one"), lost])
    code, printed = run("prepare", "lhotse", tmp_path / "m", tmp_path / "out")
    assert code == 0 and "1 of recordings that are not there" in printed.err
    (one,) = read_manifest(tmp_path / "out/dev.jsonl")
    assert (one.offset, one.duration) == (0.25, 1.0)


@pytest.mark.parametrize(
    "content",
    [
        b"[1]\n",
        b"{\n",
        b'{"recording": {"sources": ["a.wav"]}}\n',
        b'{"type": "MonoCut", "recording": {"sources": [{"type": "file"}]}, "supervisions": [{}]}\n',
    ],
)
def test_no_cuts_of_lhotse_s(tmp_path, content):
    (tmp_path / "cuts.jsonl").write_bytes(content)
    with pytest.raises(ManifestError, match="Lhotse"):
        list(lhotse(tmp_path)["all"])


def test_an_audio_folder(tmp_path):
    for split in ("train", "test"):
        record(tmp_path / split / "a.wav")
    (tmp_path / "train/metadata.csv").write_text('file_name,transcription,speaker_id\na.wav,"Yes, sir",7\n')
    (tmp_path / "test/metadata.jsonl").write_text('{"file_name": "a.wav", "text": "no"}\n')
    subsets = {name: list(utterances) for name, utterances in datasets_folder(tmp_path, out=tmp_path / "out").items()}
    assert [(each.text, each.more) for each in subsets["train"]] == [("Yes, sir", {"speaker": "7"})]
    assert subsets["test"][0].audio_filepath == str(tmp_path / "test/a.wav")


@pytest.mark.parametrize("layout", ["hub", "saved"])
def test_tables_with_audio_inside(tmp_path, layout, run):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    content = record(tmp_path / "a.wav").read_bytes()
    rows = {
        "audio": [{"bytes": content, "path": "../a b.wav"}, {"bytes": content, "path": None}],
        "sentence": ["yes", "no"],
        "client_id": ["s", "t"],
    }
    table = pyarrow.table(rows)
    home = tmp_path / "dataset"
    if layout == "hub":
        (home / "data").mkdir(parents=True)
        parquet.write_table(table, home / "data/test-00000-of-00001.parquet")
    else:
        (home / "test").mkdir(parents=True)
        (home / "dataset_dict.json").write_text('{"splits": ["test"]}')
        path = str(home / "test/data-00000-of-00001.arrow")
        with pyarrow.OSFile(path, "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    code, printed = run("prepare", "hugging-face", home, tmp_path / "out")
    assert code == 0, printed.err
    utterances = list(read_manifest(tmp_path / "out/test.jsonl"))
    assert [(each.text, each.duration, each.more) for each in utterances] == [
        ("yes", 2.0, {"speaker": "s"}),
        ("no", 2.0, {"speaker": "t"}),
    ]
    assert {path.name for path in (tmp_path / "out/audio/test").iterdir()} == {"00000000-a_b.wav", "00000001-00000001"}


def test_two_languages_keep_their_splits_apart(tmp_path):
    for language in ("en", "es"):
        record(tmp_path / language / "train" / "a.wav")
        (tmp_path / language / "train" / "metadata.csv").write_text(f"file_name,text\na.wav,{language}\n")
    subsets = {name: list(those) for name, those in datasets_folder(tmp_path, out=tmp_path / "out").items()}
    assert {name: those[0].text for name, those in subsets.items()} == {"en_train": "en", "es_train": "es"}
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "metadata.jsonl").write_text('["a.wav", "text"]\n')
    with pytest.raises(ManifestError, match="is no JSON object"):
        list(datasets_folder(tmp_path / "one", out=tmp_path / "out")["train"])


def test_no_dataset(tmp_path):
    for content, says in ((None, "no metadata.csv"), (b"PAR1 broken", "not a table")):
        if content:
            pytest.importorskip("pyarrow")
            (tmp_path / "x.parquet").write_bytes(content)
        with pytest.raises(ManifestError, match=says):
            for utterances in datasets_folder(tmp_path, out=tmp_path).values():
                list(utterances)
