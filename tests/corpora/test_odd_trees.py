"""Small trees of every corpus with something wrong: one line says what, and nothing half-written stays."""

import gzip
import json
import random
import shutil

import numpy as np
import pytest
import soundfile

from carnelian.commands.prepare import CORPORA, prepare
from carnelian.errors import CarnelianError

LONGEST = 300  # characters of a line


def tone(path, seconds=0.4, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.sin(np.arange(int(8000 * seconds)) / 3)
    kind = {".sph": "NIST", ".wv1": "NIST", ".flac": "FLAC"}.get(path.suffix, "WAV")
    soundfile.write(path, np.stack([samples] * channels, axis=1), 8000, format=kind, subtype="PCM_16")


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def an4(root):
    for subset in ("train", "test"):
        text(root / f"etc/an4_{subset}.fileids", f"an4_clstk/fash/an1-{subset}\nan4_clstk/fash/an2-{subset}\n")
        text(root / f"etc/an4_{subset}.transcription", f"<s> YES </s> (an1-{subset})\n<s> GO ON </s> (an2-{subset})\n")
        for number in (1, 2):
            tone(root / f"wav/an4_clstk/fash/an{number}-{subset}.sph")


def librispeech(root):
    for chapter in ("1-2", "3-4"):
        folder = root / "dev-clean" / chapter.replace("-", "/")
        text(folder / f"{chapter}.trans.txt", f"{chapter}-0000 HELLO\n{chapter}-0001 YOU THERE\n")
        for number in range(2):
            tone(folder / f"{chapter}-{number:04d}.flac")


def wsj(root):
    text(root / "11-13.1/wsj0/doc/indices/test/nvp/si_et_20.ndx", "; five\n11_13_1: wsj0/si_et_20/440/440c0401\n")
    text(root / "11-13.1/wsj0/si_et_20/440/440c0400.dot", "The sale [noise] of hotels (440C0401)\n")
    tone(root / "11-13.1/wsj0/si_et_20/440/440c0401.wv1")


def hub5(root):
    names = ("sw_4390", "en_4156")
    lines = [f"{name} {side} {name}_{side} 0.05 0.35 <O,en> UH YES" for name in names for side in "AB"]
    text(root / "reference/hub5e00.english.000405.stm", ";; comment\n" + "\n".join(lines) + "\n")
    pem = "\n".join(f"{name} {side} {name}_{side} 0.05 0.35" for name in names for side in "AB")
    text(root / "hub5e_00.pem", ";; comment\n" + pem + "\n")
    text(root / "reference/en20000405_hub5.glm", ";; comment\nUH => %HESITATION / [ ] __ [ ]\n")
    for name in names:
        tone(root / f"english/{name}.sph", channels=2)


def switchboard(root):
    for side in "AB":
        lines = f"sw2001{side}-ms98-a-0001 0.0 0.2 hi [laughter-um]\nsw2001{side}-ms98-a-0002 0.2 0.4 yeah\n"
        text(root / f"swb_ms98_transcriptions/20/2001/sw2001{side}-ms98-a-trans.text", lines)
    tone(root / "swb1/sw02001.sph", channels=2)


def fisher(root):
    text(
        root / "fe_03_p1_tran/data/trans/000/fe_03_00001.txt",
        "# fe_03\n\n0.01 0.20 A: hello\n0.20 0.40 B: hi [noise]\n",
    )
    text(root / "fe_03_p1_tran/doc/fe_03_p1_calldata.tbl", "CALL_ID,TOPICID,APIN,BPIN\n00001,ENG01,100,200\n")
    tone(root / "fe_03_p1_sph1/audio/000/fe_03_00001.sph", channels=2)


def common_voice(root):
    for name in ("train", "test"):
        text(
            root / f"{name}.tsv",
            f"client_id\tpath\tsentence\tup_votes\nab\t{name}1.wav\tHello.\t2\nac\t{name}2.wav\tYou.\t1\n",
        )
        for number in (1, 2):
            tone(root / f"clips/{name}{number}.wav")


def mls(root):
    text(root / "train/transcripts.txt", "1_2_000000\thello\n1_2_000001\tyou\n")
    text(root / "train/limited_supervision/9hr/handles.txt", "1_2_000001\n")
    for number in range(2):
        tone(root / f"train/audio/1/2/1_2_{number:06d}.flac")


def voxforge(root):
    text(root / "Anna-20080504-qvg/etc/PROMPTS", "Anna-20080504-qvg/mfc/a0001 HELLO\nAnna-20080504-qvg/mfc/a0002 YOU\n")
    for number in (1, 2):
        tone(root / f"Anna-20080504-qvg/wav/a{number:04d}.wav")


def tedlium(root):
    text(
        root / "train/stm/Talk_2010.stm",
        "Talk_2010 1 Talk 0.0 0.2 <o,f0,male> hello you\nTalk_2010 1 Talk 0.2 0.4 <o> 's\n",
    )
    tone(root / "train/sph/Talk_2010.sph")


def kaldi(root):
    text(root / "train/wav.scp", f"r1 {root}/a.wav\nr2 {root}/b.wav\n")
    text(root / "train/segments", "s-1 r1 0.0 0.2\ns-2 r2 0.1 0.4\n")
    text(root / "train/text", "s-1 hello\ns-2 you there\n")
    text(root / "train/utt2spk", "s-1 s\ns-2 s\n")
    text(root / "train/reco2file_and_channel", "r1 a A\nr2 b A\n")
    for name in "ab":
        tone(root / f"{name}.wav")


def lhotse(root):
    tone(root / "a.wav")
    source = {"type": "file", "channels": [0], "source": f"{root}/a.wav"}
    recording = {"id": "a", "sources": [source], "sampling_rate": 8000, "num_samples": 3200, "duration": 0.4}
    supervision = {"id": "a-1", "recording_id": "a", "start": 0.0, "duration": 0.4, "channel": 0, "text": "hello"}
    cut = {
        "id": "c",
        "start": 0.0,
        "duration": 0.4,
        "channel": 0,
        "supervisions": [supervision],
        "recording": recording,
    }
    (root / "cuts.jsonl.gz").write_bytes(gzip.compress((json.dumps(cut | {"type": "MonoCut"}) + "\n").encode()))
    text(root / "x_recordings.jsonl", json.dumps(recording) + "\n")
    text(root / "x_supervisions.jsonl", json.dumps(supervision) + "\n")


def hugging_face(root):
    text(root / "train/metadata.csv", "file_name,transcription\na.wav,hello\nb.wav,you\n")
    rows = [{"file_name": "a.wav", "text": "hello"}, {"file_name": "b.wav", "text": "you"}]
    text(root / "test/metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    for folder in ("train", "test"):
        for name in "ab":
            tone(root / folder / f"{name}.wav")


def folder(root):
    for name in "ab":
        tone(root / f"anna/{name}.wav")
        text(root / f"anna/{name}.txt", f"hello {name}\n")


BUILDERS = {
    **{
        each.__name__.replace("_", "-"): each
        for each in (an4, librispeech, wsj, hub5, switchboard, fisher, common_voice)
    },
    **{each.__name__.replace("_", "-"): each for each in (mls, voxforge, tedlium, kaldi, lhotse, hugging_face, folder)},
}
TOKENS = [
    b"nan",
    b"inf",
    b"-1",
    b"1e999",
    b"1.2.3",
    b"0",
    b"",
    b"../../../etc/passwd",
    b"/dev/zero",
    b"a\0b",
    b"\xff",
    b"x" * 5000,
]
TOKENS += [
    b"\xe2\x80\xa8",
    b"\x1b[31m",
    b"{",
    b"[[[[",
    b"null",
    b"9" * 400,
    b"A",
    b"|",
    b"touch hacked |",
    b"\r",
    b"\xef\xbb\xbf",
]


def test_every_corpus_has_a_tree():
    assert set(BUILDERS) == set(CORPORA)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A whole tree of each corpus."""
    root = tmp_path_factory.mktemp("trees")
    for name, build in BUILDERS.items():
        (root / name).mkdir()
        build(root / name)
    return root


@pytest.mark.parametrize("corpus", BUILDERS)
def test_a_whole_tree_is_read(trees, tmp_path, corpus):
    prepare(corpus, trees / corpus, tmp_path / "out")
    assert any(path.stat().st_size for path in (tmp_path / "out").glob("*.jsonl"))


def harm(path, rng):
    """Damages a file: gone, empty, a folder, a loop, cut, noise, or with another word, line or byte in it."""
    content = path.read_bytes()
    kind = rng.choice(
        ["gone", "empty", "folder", "loop", "cut", "noise", "word", "word", "word", "word", "line", "byte"]
    )
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind != "gone":
        path.write_bytes(harmed(content, kind, rng))
    return kind


def harmed(content, kind, rng):
    words = content.split(b" ")
    lines = content.split(b"\n")
    place = rng.randrange(len(content) + 1)
    return {
        "empty": lambda: b"",
        "cut": lambda: content[:place],
        "noise": lambda: rng.randbytes(200),
        "word": lambda: b" ".join([*words[: (n := rng.randrange(len(words)))], rng.choice(TOKENS), *words[n + 1 :]]),
        "line": lambda: b"\n".join([*lines, rng.choice([*lines, *TOKENS])]),
        "byte": lambda: content[:place] + rng.choice(TOKENS) + content[place + 1 :],
    }[kind]()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("corpus", BUILDERS)
def test_a_damaged_tree_is_read_or_refused_in_one_line(trees, tmp_path, monkeypatch, corpus, seed):
    rng = random.Random(f"{corpus} {seed}")
    monkeypatch.chdir(tmp_path)
    root, out = tmp_path / "tree", tmp_path / "out"
    shutil.copytree(trees / corpus, root)
    for path in rng.choices(sorted(path for path in root.rglob("*") if path.is_file()), k=rng.choice([1, 1, 2])):
        if path.is_file():
            harm(path, rng)
    try:
        prepare(corpus, root, out)
        assert list(out.glob("*.jsonl"))
    except CarnelianError as error:
        assert len(str(error).replace(str(tmp_path), "")) <= LONGEST and str(error).isprintable()
        assert not out.exists() or not [path for path in out.rglob("*") if path.is_file()]
    assert not list(tmp_path.rglob("*hacked*"))
