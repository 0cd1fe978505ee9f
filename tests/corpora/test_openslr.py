"""LibriSpeech and its language models from a server: resumed, checked, unpacked, counted; and refused, with nothing left."""

import gzip
import hashlib
import io
import tarfile

import numpy as np
import pytest
from hostile_server import serving

from carnelian.corpora import librispeech, openslr
from carnelian.corpora.openslr import Resource
from carnelian.data import download
from carnelian.data.recording import encode_audio
from carnelian.data.utterance import read_manifest

PARTS = {"dev-clean": 3, "test-other": 2}


def archive_of(part: str, count: int) -> bytes:
    """A part of LibriSpeech in its published layout, as OpenSLR packs it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(f"LibriSpeech/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        add("README.TXT", b"LibriSpeech")
        noise = np.random.default_rng(count).normal(0, 0.1, (count, 16000)).astype(np.float32)
        for number in range(count):
            add(f"{part}/84/121123/84-121123-{number:04d}.flac", encode_audio(noise[number], 16000, "flac"))
        lines = "".join(f"84-121123-{number:04d} WORD NUMBER {number}\n" for number in range(count))
        add(f"{part}/84/121123/84-121123.trans.txt", lines.encode())
    return packed.getvalue()


@pytest.fixture
def server(monkeypatch):
    """Serves two small parts, which the tables describe instead of the real ones."""
    monkeypatch.setattr(download, "PAUSE", 0.001)
    with serving() as one:
        for part, count in PARTS.items():
            content = archive_of(part, count)
            one.files[f"{part}.tar.gz"] = content
            resource = Resource(f"{part}.tar.gz", len(content), hashlib.md5(content).hexdigest(), count)
            monkeypatch.setitem(openslr.LIBRISPEECH, part, resource)
            monkeypatch.setitem(librispeech.LIBRISPEECH_COUNTS, part, (count,))
        one.mirror = one.url.removesuffix("/file")
        yield one


def test_parts_are_downloaded_unpacked_and_listed(server, run, tmp_path):
    server.cut = 20_000
    ask = ["prepare", "librispeech", tmp_path / "corpus", tmp_path / "out", "--mirror", server.mirror, "--overwrite"]
    code, printed = run(*ask, "--download", "dev-clean,test-other")
    assert code == 0, printed.err
    assert "to download" in printed.err and "of disk in" in printed.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"dev-clean.jsonl", "test-other.jsonl"}
    first, *others = read_manifest(tmp_path / "out" / "dev-clean.jsonl")
    assert (first.text, first.duration, len(others)) == ("word number 0", 1.0, 2)
    assert {path.name for path in (tmp_path / "corpus").iterdir()} == {"LibriSpeech"}  # the archives are gone
    server.asked = []
    code, printed = run(*ask, "--download", "dev-clean")
    assert code == 0 and not server.asked  # what is there and whole is not fetched again


def test_a_part_that_is_not_whole_is_fetched_again(server, run, tmp_path):
    ask = ["prepare", "librispeech", tmp_path / "corpus", tmp_path / "out", "--mirror", server.mirror, "--overwrite"]
    run(*ask, "--download", "dev-clean")
    (tmp_path / "corpus/LibriSpeech/dev-clean/84/121123/84-121123-0001.flac").unlink()
    code, printed = run(*ask)
    assert code == 0 and "dev-clean: 2 utterances, published are 3, 1 are missing" in printed.err
    run(*ask, "--download", "dev-clean")
    assert len(list(read_manifest(tmp_path / "out" / "dev-clean.jsonl"))) == 3


@pytest.mark.parametrize(
    ("wrong", "words", "says"),
    [
        (b"x", ["--download", "dev-clean"], "another file"),
        (None, ["--download", "dev-fine"], 'no part "dev-fine"'),
        (None, ["--download", "dev-clean", "--mirror", "file:///tmp"], "not followed"),
        (None, ["--allow-pipes"], "--allow-pipes: not for librispeech, only for kaldi"),
    ],
)
def test_what_is_refused_leaves_nothing(server, run, tmp_path, wrong, words, says):
    if wrong:
        server.files["dev-clean.tar.gz"] += wrong
    mirror = [] if "--mirror" in words else ["--mirror", server.mirror, "--overwrite"]
    code, printed = run("prepare", "librispeech", tmp_path / "corpus", tmp_path / "out", *words, *mirror)
    assert code == 2 and says in printed.err and printed.err.splitlines()[-1].startswith("carnelian: ")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "corpus").exists() or not list((tmp_path / "corpus").iterdir())


def test_no_room_is_said_before_a_byte_is_asked(server, run, tmp_path, monkeypatch):
    monkeypatch.setitem(openslr.LIBRISPEECH, "dev-clean", Resource("dev-clean.tar.gz", 1 << 60, "0" * 32, 1))
    code, printed = run(
        "prepare", "librispeech", tmp_path / "c", tmp_path / "out", "--download", "dev-clean", "--mirror", server.mirror
    )
    assert code == 2 and "Make room" in printed.err and not server.asked


ARPA = "\\data\\\nngram 1=3\n\n\\1-grams:\n-1.0\t<UNK>\n-1.5\tHELLO\t-0.3\n-2.0\t</s>\n\n\\end\\\n"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("3-gram.pruned.3e-7", ARPA, ARPA.lower()),
        ("lexicon", "ABLE\tEY1 B AH0 L\nA'S  EY1 Z\n", "able\tEY1 B AH0 L\na's  EY1 Z\n"),
        ("vocabulary", "A'BODY\nA'COURT\n", "a'body\na'court\n"),
        ("text", "ONE LINE\nANOTHER\n", "one line\nanother\n"),
    ],
)
def test_language_models_come_folded(server, run, tmp_path, monkeypatch, name, content, expected):
    file = openslr.LANGUAGE_MODELS[name].file
    packed = gzip.compress(content.encode()) if file.endswith(".gz") else content.encode()
    monkeypatch.setitem(openslr.LANGUAGE_MODELS, name, Resource(file, len(packed), hashlib.md5(packed).hexdigest()))
    server.files[file] = packed
    code, printed = run("language-model", "download", "openslr-11", name, "--out", tmp_path, "--mirror", server.mirror)
    assert code == 0 and printed.out.strip() == str(tmp_path / file)
    written = (tmp_path / file).read_bytes()
    assert (gzip.decompress(written) if file.endswith(".gz") else written).decode() == expected
    assert [path.name for path in tmp_path.iterdir()] == [file]


def test_an_unknown_language_model(run, tmp_path):
    code, printed = run("language-model", "download", "openslr-11", "5-gram", "--out", tmp_path)
    assert code == 2 and 'openslr-11 has no "5-gram"' in printed.err
