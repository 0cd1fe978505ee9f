"""Manifests of whole corpora, with what cannot be read counted and named."""

import wave

import pytest

from carnelian.commands.prepare import prepare
from carnelian.data.utterance import read_manifest
from carnelian.errors import ManifestError


def record(path, seconds):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(2 * round(8000 * seconds)))


def test_durations_and_what_is_left_out(tmp_path, capsys):
    record(tmp_path / "a.wav", 1.5)
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    record(tmp_path / "hollow.wav", 0)
    (tmp_path / "all.csv").write_text("path,text\na.wav,Yes\nb.wav,no\nmissing.wav,no\nhollow.wav,no\n")
    prepare("folder", tmp_path, tmp_path / "out")
    (utterance,) = read_manifest(tmp_path / "out" / "all.jsonl")
    assert (utterance.duration, utterance.text) == (1.5, "Yes")
    captured = capsys.readouterr()
    assert "3 recordings cannot be read" in captured.err and "b.wav" in captured.err
    assert "all.jsonl" in captured.out


def test_nothing_readable_writes_nothing(tmp_path):
    (tmp_path / "all.csv").write_text("path,text\nmissing.wav,no\n")
    with pytest.raises(ManifestError, match="none of 1 recordings can be read"):
        prepare("folder", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_subset_of_which_nothing_is_there_is_left_out(tmp_path, capsys):
    for subset in ("train", "test"):
        (tmp_path / "tree" / subset).mkdir(parents=True)
        (tmp_path / "tree" / subset / "a.txt").write_text("hello")
    record(tmp_path / "tree" / "train" / "a.wav", 0.5)
    (tmp_path / "tree" / "test" / "a.wav").write_bytes(b"RIFF")
    prepare("folder", tmp_path / "tree", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["train.jsonl"]
    assert "test: none of 1 recordings can be read; first: " in capsys.readouterr().err


def test_unknown_corpus(tmp_path):
    with pytest.raises(ManifestError, match="an4, librispeech, wsj"):
        prepare("timit", tmp_path, tmp_path)


def test_real_an4(shared, tmp_path):
    prepare("an4", shared("an4"), tmp_path)
    minutes = {
        name: sum(u.duration for u in read_manifest(tmp_path / f"{name}.jsonl")) / 60 for name in ("train", "test")
    }
    assert minutes == {"train": pytest.approx(36.9, abs=0.1), "test": pytest.approx(5.5, abs=0.1)}


def test_speakers_held_out(tmp_path):
    """Nobody is heard on both sides, nothing is lost, and the same are drawn each time."""
    (tmp_path / "all.csv").write_text(
        "path,text,speaker\n" + "".join(f"{n}.wav,yes,{'abcde'[n % 5]}\n" for n in range(10))
    )
    for number in range(10):
        record(tmp_path / f"{number}.wav", 0.5)
    sides = []
    for out in ("one", "other"):
        prepare("folder", tmp_path, tmp_path / out, hold_out=2)
        sides.append([list(read_manifest(tmp_path / out / f"{name}.jsonl")) for name in ("train", "dev")])
    train, dev = sides[0]
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"train.jsonl", "dev.jsonl"}
    assert sides[0] == sides[1] and (len(train), len(dev)) == (6, 4)
    assert not {u.more["speaker"] for u in train} & {u.more["speaker"] for u in dev}


@pytest.mark.parametrize(
    ("rows", "count", "finding"),
    [
        ("path,text\na.wav,yes\n", 1, "no speakers are known"),
        ("path,text,speaker\na.wav,yes,s\n", 1, "there are 1 speakers"),
        ("path,text,speaker\na.wav,yes,s\n", -1, "there are 1 speakers"),
    ],
)
def test_too_few_speakers_to_hold_out(tmp_path, rows, count, finding):
    record(tmp_path / "a.wav", 0.5)
    (tmp_path / "train.csv").write_text(rows)
    with pytest.raises(ManifestError, match=finding):
        prepare("folder", tmp_path, tmp_path / "out", hold_out=count)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", [("clips", "more"), ("train", "dev")])
def test_nothing_to_hold_out_of(tmp_path, names):
    record(tmp_path / "a.wav", 0.5)
    for name in names:
        (tmp_path / f"{name}.csv").write_text("path,text,speaker\na.wav,yes,s\n")
    with pytest.raises(ManifestError, match=f"folder has {', '.join(sorted(names))} here"):
        prepare("folder", tmp_path, tmp_path / "out", hold_out=1)


def names_in(manifest):
    return {utterance.more.get("speaker"): utterance.audio_filepath for utterance in read_manifest(manifest)}


@pytest.mark.parametrize("pattern", ["([^_/]+)_[0-9]", "(?P<who>[a-z]+)_", "[a-d][a-z]{3}"])
def test_speakers_found_in_the_names_of_recordings(tmp_path, pattern):
    """In a tree without folders, and in a list of any name; the pattern also replaces what the tree's folders say."""
    tree = tmp_path / "tree"
    (tree / "session").mkdir(parents=True)
    for speaker in ("anna", "bert", "carl"):
        for number in range(2):
            name = f"session/{speaker}_{number}" if number else f"{speaker}_{number}"
            record(tree / f"{name}.wav", 0.5)
            (tree / f"{name}.txt").write_text("yes")
    prepare("folder", tree, tmp_path / "a", speaker_pattern=pattern, hold_out=1)
    train, dev = (names_in(tmp_path / "a" / f"{name}.jsonl") for name in ("train", "dev"))
    assert len(dev) == 1 and len(train) == 2 and set(train) | set(dev) == {"anna", "bert", "carl"}
    lines = "".join(f"tree/{speaker}_0.wav,yes\n" for speaker in ("anna", "bert", "carl"))
    (tmp_path / "clips.csv").write_text(f"path,text\n{lines}")
    prepare("folder", tmp_path / "clips.csv", tmp_path / "b", speaker_pattern="tree/([a-z]+)", hold_out=2)
    assert len(names_in(tmp_path / "b" / "train.jsonl")) == 1 and len(names_in(tmp_path / "b" / "dev.jsonl")) == 2


@pytest.mark.parametrize(
    ("pattern", "finding"), [("(", "not a regular expression"), ("^([0-9]+)", "finds no speaker in a.wav")]
)
def test_patterns_that_find_no_speaker(tmp_path, pattern, finding):
    record(tmp_path / "a.wav", 0.5)
    (tmp_path / "all.csv").write_text("path,text\na.wav,yes\n")
    with pytest.raises(ManifestError, match=finding):
        prepare("folder", tmp_path, tmp_path / "out", speaker_pattern=pattern)
    with pytest.raises(ManifestError, match="--speaker-pattern: not for an4, only for folder"):
        prepare("an4", tmp_path, tmp_path / "out", speaker_pattern=pattern)


def test_a_share_held_out_at_random(tmp_path, capsys):
    """Recordings, not their segments; the same each time; speakers on both sides are counted; existing manifests stay."""
    rows = [f"{n}.wav,{start},0.2,yes,{'ab'[n % 2]}" for n in range(10) for start in (0, 0.25)]
    (tmp_path / "all.csv").write_text("path,start,duration,text,speaker\n" + "\n".join(rows) + "\n")
    for number in range(10):
        record(tmp_path / f"{number}.wav", 0.5)
    for out in ("one", "other"):
        prepare("folder", tmp_path, tmp_path / out, hold_out_share=0.3)
    train, dev = (list(read_manifest(tmp_path / "one" / f"{name}.jsonl")) for name in ("train", "dev"))
    assert dev == list(read_manifest(tmp_path / "other" / "dev.jsonl"))
    assert (len(train), len(dev)) == (14, 6) and not {u.audio_filepath for u in train} & {u.audio_filepath for u in dev}
    assert "2 speakers are in train and in dev" in capsys.readouterr().err
    with pytest.raises(ManifestError, match="exists"):
        prepare("folder", tmp_path, tmp_path / "one", hold_out_share=0.3)
    for share in (1.0, -0.5, 0.01, 0.99):
        with pytest.raises(ManifestError, match="expected a share between 0 and 1"):
            prepare("folder", tmp_path, tmp_path / "third", hold_out_share=share)
    with pytest.raises(ManifestError, match="give one of them"):
        prepare("folder", tmp_path, tmp_path / "third", hold_out_share=0.3, hold_out=1)
    assert not (tmp_path / "third").exists()


def test_texts_are_normalised_and_existing_manifests_kept(tmp_path, capsys):
    for name in "ab":
        record(tmp_path / f"{name}.wav", 0.5)
    (tmp_path / "all.csv").write_text('path,text\na.wav,"Open the window, at 5."\nb.wav,...\n')
    prepare("folder", tmp_path, tmp_path / "out", normalize="en")
    (one,) = read_manifest(tmp_path / "out" / "all.jsonl")
    assert one.text == "open the window at five" and one.more["normalization"].startswith("en ")
    assert "normalised as en" in capsys.readouterr().err
    with pytest.raises(ManifestError, match="--overwrite"):
        prepare("folder", tmp_path, tmp_path / "out")
    prepare("folder", tmp_path, tmp_path / "out", overwrite=True)
    assert len(list(read_manifest(tmp_path / "out" / "all.jsonl"))) == 2
