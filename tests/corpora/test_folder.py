"""One's own recordings: trees and lists in their many dialects."""

import pytest

from carnelian.corpora.folder import folder
from carnelian.errors import ManifestError


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_tree(tmp_path, capsys):
    touch(tmp_path / "b" / "two.FLAC", tmp_path / "one.wav", tmp_path / "alone.wav", tmp_path / "notes.md")
    (tmp_path / "b" / "two.txt").write_text("second\n text\n")
    (tmp_path / "one.txt").write_bytes("año".encode("latin-1"))
    utterances = list(folder(tmp_path)["all"])
    assert [(u.audio_filepath, u.text) for u in utterances] == [
        (str(tmp_path / "one.wav"), "año"),
        (str(tmp_path / "b" / "two.FLAC"), "second text"),
    ]
    assert "1 recordings have no .txt" in capsys.readouterr().err


def test_subsets_of_a_tree(tmp_path):
    for name in ("train", "test"):
        touch(tmp_path / name / "a.wav")
        (tmp_path / name / "a.txt").write_text(name)
    assert {name: next(each).text for name, each in folder(tmp_path).items()} == {"train": "train", "test": "test"}


def test_tree_without_text(tmp_path):
    touch(tmp_path / "one.wav")
    with pytest.raises(ManifestError, match="1 recordings and no text"):
        list(folder(tmp_path)["all"])


@pytest.mark.parametrize(
    "name, content",
    [
        ("train.csv", 'wav_filename,wav_filesize,transcript\na.wav,10,"yes, ""sir"""\n'),
        ("train.csv", 'path;sentence\na.wav;yes, "sir"\n'),
        ("train.csv", '\ufeff"file_name","text"\r\n"a.wav","yes, ""sir"""\r\n'),
        ("train.tsv", 'client_id\tpath\tsentence\tup_votes\nx1\ta.wav\tyes, "sir"\t2\n'),
    ],
)
@pytest.mark.parametrize("place", [".", "clips"])
def test_lists(tmp_path, name, content, place):
    touch(tmp_path / place / "a.wav")
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    for source in (tmp_path, tmp_path / name):
        (utterance,) = folder(source)["train"]
        assert utterance.text == 'yes, "sir"'
        assert utterance.audio_filepath == str(tmp_path / place / "a.wav")
        assert utterance.more == ({"speaker": "x1"} if name.endswith("tsv") else {})


@pytest.mark.parametrize(
    "content, finding",
    [
        ("file,words\na.wav,yes\n", "its columns are file, words"),
        ("path,text\na.wav,yes\nb.wav\n", r"csv:3: 2 columns"),
    ],
)
def test_lists_with_faults(tmp_path, content, finding):
    (tmp_path / "train.csv").write_text(content)
    with pytest.raises(ManifestError, match=finding):
        list(folder(tmp_path)["train"])


def test_nothing_there(tmp_path):
    with pytest.raises(ManifestError, match="no such folder"):
        folder(tmp_path / "nowhere")
