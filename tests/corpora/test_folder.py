"""One's own recordings: trees and lists in their many dialects."""

import os

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


def listed(tmp_path, content, encoding="utf-8", name="train.csv", **found):
    """(file name, text, offset, duration, channel) of each utterance of a list."""
    touch(*(tmp_path / each for each in ("a.wav", "b.wav")))
    (tmp_path / name).write_bytes(content.encode(encoding))
    return [
        (os.path.basename(each.audio_filepath), each.text, each.offset, each.duration, each.more.get("channel"))
        for each in folder(tmp_path / name)[name.partition(".")[0]]
    ]


@pytest.mark.parametrize(
    "content, texts",
    [
        ("path,text\na.wav,yes, please do\nb.wav,no\n", ["yes, please do", "no"]),
        ("text,path\nyes, please do,a.wav\nno,b.wav\n", ["yes, please do", "no"]),
        ("path,text,speaker\na.wav,one, two, three,x\nb.wav,no,y\n", ["one, two, three", "no"]),
        ("path;text\na.wav;yes; please\nb.wav;no\n", ["yes; please", "no"]),
        ('path,text\na.wav,"yes\nb.wav,no\n', ['"yes', "no"]),
        ('path,text\na.wav,"yes, please\nb.wav,no\n', ['"yes, please', "no"]),
        ('path,text\na.wav,"yes\nplease"\nb.wav,no\n', ["yes\nplease", "no"]),
        ('path,text\na.wav,say "hi" now\nb.wav,no\n', ['say "hi" now', "no"]),
        ("path,text,note\na.wav,yes,,\nb.wav,no\n", ["yes", "no"]),
        ("path,text\na.wav,one\u2028two\x85three\nb.wav,no\n", ["one\u2028two\x85three", "no"]),
        (f"path,text\na.wav,{'x' * 200_000}\nb.wav,no\n", ["x" * 200_000, "no"]),
    ],
)
def test_no_row_is_cut_or_swallowed(tmp_path, content, texts):
    assert [text for _, text, *_ in listed(tmp_path, content)] == texts


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "cp1252", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_in_other_encodings(tmp_path, encoding, end, capsys):
    content = end.join(["path,text", "a.wav,où est l'été – non", "b.wav,ça", ""])
    content = content.replace("–", "-") if encoding == "latin-1" else content
    expected = [line.partition(",")[2] for line in content.split(end)[1:3]]
    assert [text for _, text, *_ in listed(tmp_path, content, encoding)] == expected
    assert ("read as cp1252" in capsys.readouterr().err) == (encoding in ("cp1252", "latin-1"))


@pytest.mark.parametrize(
    "header, rows, segments",
    [
        ("offset,duration", ["0.0,0.5", "0.5,1.0"], [(0.0, 0.5), (0.5, 1.0)]),
        ("start,end", ["0.0,0.5", "0.5,1.5"], [(0.0, 0.5), (0.5, 1.0)]),
        ("start_time,end_time", ["0:00:01.5,0:00:02", "1:00,2:00.25"], [(1.5, 0.5), (60, 60.25)]),
    ],
)
def test_segments_of_lists(tmp_path, header, rows, segments):
    content = "\n".join([f"path,{header},text", *(f"a.wav,{row},one" for row in rows)])
    assert [each[2:4] for each in listed(tmp_path, content)] == segments


@pytest.mark.parametrize("names, channels", [("01", [0, 1]), ("12", [0, 1]), ("AB", [0, 1]), ("ba", [1, 0])])
def test_channels_of_lists(tmp_path, names, channels):
    content = "path,channel,text\n" + "".join(f"a.wav,{name},one\n" for name in names)
    assert [each[4] for each in listed(tmp_path, content)] == channels


@pytest.mark.parametrize("cell", ["x", "-1", "nan", "1e400", "9" * 5000, "1:x"])
def test_a_segment_that_is_none_is_named_with_its_line(tmp_path, cell):
    with pytest.raises(ManifestError, match=r"train\.csv:2: offset") as error:
        listed(tmp_path, f"path,offset,text\na.wav,{cell},one\n")
    assert len(str(error.value)) <= 300


def test_a_segment_that_ends_before_it_begins(tmp_path):
    with pytest.raises(ManifestError, match=r"train\.csv:2: it ends at 1 s, before it begins at 2 s"):
        listed(tmp_path, "path,start,end,text\na.wav,2,1,one\n")


def test_common_voice_s_other_lists_are_skipped(cases, capsys):
    subsets = folder(cases("common_voice_folder") / "es")
    assert {"train", "dev", "test", "validated"} <= subsets.keys() and "clip_durations" not in subsets
    assert all([utterance.text for utterance in utterances] == ["hola"] for utterances in subsets.values())
    assert "clip_durations.tsv" in capsys.readouterr().err


def test_a_tree_s_odd_files_are_used_or_counted(tmp_path, capsys):
    touch(*(tmp_path / "in" / name for name in ("one.caf", "TWO.WAV", "x.mov", "y.xyz", "z.mp3")))
    touch(tmp_path / "far" / "linked.flac")
    (tmp_path / "in" / "anna").symlink_to(tmp_path / "far")
    for path in ("in/one.txt", "in/TWO.TXT", "in/x.txt", "in/y.txt", "far/linked.txt"):
        (tmp_path / path).write_text("text")
    found = {os.path.basename(each.audio_filepath): each.more for each in folder(tmp_path / "in")["all"]}
    assert found == {"one.caf": {}, "TWO.WAV": {}, "linked.flac": {"speaker": "anna"}}
    told = capsys.readouterr().err
    assert "1 recordings have no .txt" in told and "1 .mov" in told and "1 .xyz" in told


def test_recordings_outside_the_subsets_are_counted(tmp_path, capsys):
    touch(tmp_path / "train" / "a.wav", tmp_path / "more" / "b.wav", tmp_path / "c.wav")
    (tmp_path / "train" / "a.txt").write_text("text")
    assert list(folder(tmp_path)) == ["train"]
    assert "2 recordings are in none of train" in capsys.readouterr().err


def test_two_lists_of_one_name_are_two_subsets(tmp_path):
    for name in ("train.csv", "train.tsv"):
        (tmp_path / name).write_text("path,text\na.wav,yes\n".replace(",", "\t" if name.endswith("tsv") else ","))
    assert sorted(folder(tmp_path)) == ["train-csv", "train-tsv"]
