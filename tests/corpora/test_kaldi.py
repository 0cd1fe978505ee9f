"""Kaldi data directories both ways: what is written passes the rules of validate_data_dir.sh, what is read is complete."""

import re
import subprocess

import numpy as np
import pytest
import soundfile

from carnelian.corpora.kaldi import kaldi, read_features, write_directory, write_features
from carnelian.data.audio import load_audio
from carnelian.data.utterance import Utterance, read_manifest, write_manifest
from carnelian.errors import ManifestError


def record(path, channels=1, seconds=2.0, **given):
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = np.random.default_rng(channels).uniform(-0.5, 0.5, (int(8000 * seconds), channels))
    soundfile.write(path, audio, 8000, **given)
    return path


def directory(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text(text)
    return folder


def test_a_directory_without_segments(tmp_path, monkeypatch):
    record(tmp_path / "corpus/a.wav")
    folder = directory(
        tmp_path / "egs/data/train",
        wav_scp=f"spk1-a {tmp_path}/corpus/a.wav\nspk2-b corpus/a.wav\n",
        text="spk1-a HELLO  WORLD\nspk2-b YES\n",
        utt2spk="spk1-a spk1\nspk2-b spk2\n",
    )
    (tmp_path / "egs/corpus").symlink_to(tmp_path / "corpus")  # relative paths start where Kaldi ran
    for where, name in ((folder, "train"), (folder.parent, "train")):
        utterances = list(kaldi(where)[name])
        assert [each.text for each in utterances] == ["HELLO  WORLD", "YES"]
        assert utterances[1].more == {"id": "spk2-b", "speaker": "spk2"}
        assert all(len(load_audio(each, 8000)) == 16000 for each in utterances)


def test_segments_and_sides(tmp_path, capsys):
    record(tmp_path / "call.wav", 2)
    folder = directory(
        tmp_path / "data",
        wav_scp=f"call-A {tmp_path}/call.wav\ncall-B {tmp_path}/call.wav\n",
        segments="call-A_000050-000100 call-A 0.50 1.00\ncall-B_000100-000200 call-B 1.00 -1\ncall-B_x call-B 0 1\n",
        reco2file_and_channel="call-A call A\ncall-B call B\n",
        text="call-A_000050-000100 hi\ncall-B_000100-000200 fine\ncall-C_0 lost\n",
    )
    first, second = kaldi(folder)["data"]
    assert (first.offset, first.duration, first.more["channel"]) == (0.5, 0.5, 0)
    assert (second.offset, second.duration, second.more["channel"]) == (1.0, 0.0, 1)
    noted = capsys.readouterr().err
    assert (
        "1 utterances have no line in text" in noted
        and "1 lines of text have no utterance; the first is call-C_0" in noted
    )


@pytest.mark.parametrize(("start", "end"), [("nan", "1"), ("-1", "1"), ("0", "inf"), ("0", "1e300"), ("1.9", "99")])
def test_times_that_are_none_are_left_out(tmp_path, run, start, end):
    record(tmp_path / "a.wav")
    times = f"good a 0 1\nodd a {start} {end}\n"
    directory(tmp_path / "data", wav_scp=f"a {tmp_path}/a.wav\n", segments=times, text="good yes\nodd no\n")
    code, printed = run("prepare", "kaldi", tmp_path / "data", tmp_path / "out")
    assert code == 0 and "1 recordings cannot be read" in printed.err
    assert [each.text for each in read_manifest(tmp_path / "out" / "data.jsonl")] == ["yes"]


def test_pipes_are_refused_and_run_when_trusted(tmp_path, run):
    record(tmp_path / "a.wav")
    folder = directory(
        tmp_path / "data", wav_scp=f"a touch {tmp_path}/touched; cat {tmp_path}/a.wav |\n", text="a yes\n"
    )
    code, printed = run("prepare", "kaldi", folder, tmp_path / "out")
    assert code == 2 and "--allow-pipes" in printed.err and not (tmp_path / "touched").exists()
    assert not (tmp_path / "out").exists()
    code, printed = run("prepare", "kaldi", folder, tmp_path / "out", "--allow-pipes")
    assert code == 0, printed.err
    (one,) = read_manifest(tmp_path / "out/data.jsonl")
    assert (tmp_path / "touched").exists() and one.duration == 2.0
    assert one.audio_filepath == str(tmp_path / "out/audio/a.wav")


@pytest.mark.parametrize(
    ("command", "channel"),
    [
        ("sph2pipe -f wav -p -c 2 {} |", 1),
        ("/opt/kaldi/tools/sph2pipe_v2.5/sph2pipe -f wav {} |", None),
        ("flac -c -d -s {} |", None),
        ("cat {} |", None),
        ("sox {} -t wav - remix 2 |", 1),
        ("ffmpeg -v 8 -i {} -f wav -acodec pcm_s16le - |", None),
    ],
)
def test_what_known_programs_would_convert_is_read_itself(tmp_path, command, channel):
    path = record(tmp_path / "a call (1).sph", 2, format="NIST", subtype="ULAW")
    folder = directory(tmp_path / "data", wav_scp=f"a {command.format(repr(str(path)))}\n")
    (one,) = kaldi(folder, allow_pipes=True, out=tmp_path / "out")["data"]
    assert one.audio_filepath == str(path) and one.more.get("channel") == channel
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"wav_scp": "a /a.wav\na /b.wav\n"}, "a is there twice"),
        ({"wav_scp": "a /a.wav\n", "segments": "u a 1.0\n"}, "expected UTTERANCE RECORDING START END"),
        ({"wav_scp": "a /a.wav\n", "segments": "u b 1.0 2.0\n"}, "wav.scp does not have"),
        ({"wav_scp": "a /a.wav\n", "segments": "u a 2.0 1.0\n"}, "before its start"),
        ({"wav_scp": "a foo.ark:1234\n"}, "lies in an archive"),
        ({"wav_scp": "a false |\n"}, "the command of a failed"),
        ({}, r"no wav\.scp in it"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, files, says):
    folder = directory(tmp_path / "data", **files)
    with pytest.raises(ManifestError, match=says) as error:
        list(kaldi(folder, allow_pipes=True, out=tmp_path / "out")["data"])
    assert "\n" not in str(error.value)


def table(path):
    """A file's lines as (key, value); the rules that hold for all of Kaldi's tables."""
    text = path.read_bytes()
    assert text.endswith(b"\n") and b"\t" not in text
    rows = [line.split(b" ", 1) for line in text.splitlines()]
    assert all(len(row) == 2 and row[1].strip() for row in rows), path
    keys = [row[0] for row in rows]
    assert keys == sorted(set(keys)), f"{path} is not sorted or has duplicates"
    return [(key, value) for key, value in rows]


def validate(folder):
    """The rules of Kaldi's validate_data_dir.sh (--no-feats)."""
    utterances = [key for key, _ in table(folder / "utt2spk")]
    by_speaker = sorted(
        (folder / "utt2spk").read_bytes().splitlines(), key=lambda line: line.split(b" ", 1)[1] + b" " + line
    )
    assert by_speaker == (folder / "utt2spk").read_bytes().splitlines(), "not sorted when sorted first on the speaker"
    inverse = {(u, s) for s, those in table(folder / "spk2utt") for u in those.split()}
    assert inverse == set(table(folder / "utt2spk"))
    if (folder / "text").exists():
        assert [key for key, _ in table(folder / "text")] == utterances
        assert all(letter.isprintable() or letter == "\n" for letter in (folder / "text").read_text())
        assert not re.search(rb"(?<!\w)(<s>|</s>|#0)(?!\w)", (folder / "text").read_bytes())  # grep -w, in any line
    assert [key for key, _ in table(folder / "utt2dur")] == utterances
    recordings = [key for key, _ in table(folder / "wav.scp")]
    assert not any(value.startswith(b"~") for _, value in table(folder / "wav.scp"))
    if (folder / "segments").exists():
        segments = [(key, *value.split()) for key, value in table(folder / "segments")]
        assert [key for key, *_ in segments] == utterances
        assert all(float(end) > float(start) for _, _, start, end in segments)
        assert sorted({recording for _, recording, *_ in segments}) == recordings
        channels = table(folder / "reco2file_and_channel")
        assert [key for key, _ in channels] == recordings and {value.split()[1] for _, value in channels} <= {
            b"A",
            b"B",
        }
    else:
        assert recordings == utterances


NAMES = [("a", "x-1"), ("a-b", "x-1"), ("a", "b-x"), ("a+", "1"), ("Ünal", "ü 1"), ("z", "a")]


@pytest.mark.parametrize("segmented", [False, True])
def test_what_is_written_passes_kaldi_s_rules(tmp_path, segmented):
    """Speakers that are prefixes of each other, names that are there twice, white space, letters beyond ASCII."""
    utterances = []
    for number, (speaker, name) in enumerate(NAMES):
        path = record(tmp_path / f"folder {number}" / "same name.flac")
        offset = 0.5 if segmented else 0.0
        utterances.append(
            Utterance(str(path), 1.0, " two\u00a0 wo\x07rds\u200b ", offset, {"speaker": speaker, "id": name})
        )
    utterances.append(Utterance(str(path), 1.0, "", 0.0, {}))
    left_out = write_directory(tmp_path / "data", utterances).left_out
    validate(tmp_path / "data")
    assert sum(left_out.values()) == 1 and len(table(tmp_path / "data/utt2spk")) == len(NAMES)
    again = list(kaldi(tmp_path / "data", allow_pipes=True, out=tmp_path / "out")["data"])
    assert sorted(each.audio_filepath for each in again) == sorted(each.audio_filepath for each in utterances[:-1])
    assert {(each.text, each.offset) for each in again} == {("two words", offset)}


def test_what_kaldi_keeps_for_itself_is_left_out_or_renamed(tmp_path):
    path = str(record(tmp_path / "a.wav", 2))
    texts = ["yes", "<s>", "a (</s>)", "#0-", "x<s>y", "<S>"]
    utterances = [
        Utterance(path, 0.5, text, 0.5 * n, {"id": f"u{n}", "channel": 1}) for n, text in enumerate(texts[:4])
    ]
    utterances += [Utterance(path, 0.5, text, 0.25, {"id": f"<s>-{text}", "speaker": "#0"}) for text in texts[4:]]
    utterances.append(Utterance(path, 0.0004, "too short", 0.0, {"id": "short"}))
    written = write_directory(tmp_path / "data", utterances)
    validate(tmp_path / "data")
    assert sum(written.left_out.values()) == 4
    assert sorted(each.text for each in kaldi(tmp_path / "data", allow_pipes=True)["data"]) == ["<S>", "x<s>y", "yes"]


def test_the_way_there_and_back_keeps_names(tmp_path, run):
    path = record(tmp_path / "sw02001.sph", 2, format="NIST", subtype="ULAW")
    utterances = [
        Utterance(str(path), 0.5, "hi", 0.5, {"id": "sw02001-A_000050-000100", "speaker": "sw02001-A", "channel": 0}),
        Utterance(str(path), 0.5, "fine", 1.0, {"id": "sw02001-B_000100-000150", "speaker": "sw02001-B", "channel": 1}),
    ]
    write_manifest(tmp_path / "in.jsonl", utterances)
    code, printed = run("export", "kaldi", tmp_path / "in.jsonl", tmp_path / "kaldi/train")
    assert code == 0, printed.err
    validate(tmp_path / "kaldi/train")
    assert (
        dict(table(tmp_path / "kaldi/train/wav.scp"))[b"sw02001-B"]
        == b"sph2pipe -f wav -p -c 2 " + str(path).encode() + b" |"
    )
    assert list(kaldi(tmp_path / "kaldi/train", allow_pipes=True)["train"]) == utterances
    code, printed = run("export", "kaldi", tmp_path / "in.jsonl", tmp_path / "kaldi/train")
    assert code == 2 and "--overwrite" in printed.err


def test_feature_archives(tmp_path):
    kaldiio = pytest.importorskip("kaldiio")
    rng = np.random.default_rng(0)
    features = {
        name: rng.normal(size=(frames, 4)).astype(np.float32) for name, frames in (("a", 3), ("b", 1), ("c", 70))
    }
    assert write_features(tmp_path, features.items()) == 3
    for source in (tmp_path / "feats.scp", tmp_path / "feats.ark"):
        found = dict(read_features(source))
        assert found.keys() == features.keys()
        assert all(np.array_equal(found[name], features[name]) for name in features)
    kaldiio.save_ark(str(tmp_path / "packed.ark"), features, compression_method=2)  # as Kaldi's copy-feats --compress
    assert all(
        np.allclose(matrix, features[name], atol=0.05) for name, matrix in read_features(tmp_path / "packed.ark")
    )
    (tmp_path / "bad.ark").write_bytes(b"a \0BXX junk")
    with pytest.raises(ManifestError, match="not a feature archive"):
        list(read_features(tmp_path / "bad.ark"))


def test_kaldi_s_own_sort_agrees(tmp_path):
    """LC_ALL=C sort, as Kaldi's scripts call it, finds the files sorted."""
    paths = [record(tmp_path / f"{name}.wav") for name in ("a-1", "a_1", "B", "é", "a.1")]
    write_directory(tmp_path / "data", [Utterance(str(path), 2.0, "yes", 0.0, {}) for path in paths])
    for file in (tmp_path / "data").iterdir():
        subprocess.run(["sort", "-c", str(file)], env={"LC_ALL": "C"}, check=True)
