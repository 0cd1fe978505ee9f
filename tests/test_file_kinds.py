"""A file given in the place of another is named as what it is, by every reader: all pairs."""

import gzip
import io
import json
import tarfile

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from carnelian.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from carnelian.commands.check import read_manifest_lines
from carnelian.data.alphabet import Alphabet
from carnelian.data.audio import audio_info
from carnelian.data.utterance import Manifest
from carnelian.decoding.settings import DecodingConfig, read_decoding, write_decoding
from carnelian.errors import CarnelianError
from carnelian.file_kinds import KINDS, file_kind, misplaced
from carnelian.formats.detect import import_model
from carnelian.ngram.load import load_language_model
from carnelian.recipe import RECIPES, load_recipe

ARPA = "\\data\\\nngram 1=3\n\n\\1-grams:\n-1 <unk>\n-1 <s>\n-1 </s>\n\n\\end\\\n"
READERS = {
    "a checkpoint of this package": load_checkpoint,
    "another toolkit's checkpoint": lambda path: import_model(path, path.with_name("imported")),
    "a language model": load_language_model,
    "a manifest": Manifest,
    "a manifest to check": lambda path: list(read_manifest_lines(path)),
    "a recipe": load_recipe,
    "decoding settings": read_decoding,
    "a recording": audio_info,
}


def tar_of(path, member):
    with tarfile.open(path, "w") as archive:
        information = tarfile.TarInfo(member)
        information.size = 3
        archive.addfile(information, io.BytesIO(b"abc"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of each kind, some in several forms: name -> its kind."""
    folder = tmp_path_factory.mktemp("kinds")
    noise = np.random.default_rng(0).standard_normal(1600) / 10
    found = {}

    def add(name, kind, content=None):
        if content is not None:
            (folder / name).write_bytes(content)
        found[folder / name] = kind

    add("lm.arpa", "a language model", ARPA.encode())
    add("lm.arpa.gz", "a language model", gzip.compress(ARPA.encode()))
    add("commented.arpa", "a language model", b"made today\n" + ARPA.encode())
    add("kenlm.binary", "a language model", b"mmap lm http://kheafield.com/code format version 5\n\0" + bytes(64))
    save_checkpoint(
        folder / "ours.safetensors", Checkpoint({"a": torch.zeros(1)}, Alphabet("ab"), {"alphabet": "ab"}, 1, {})
    )
    add("ours.safetensors", "a checkpoint")
    save_file({"a": torch.zeros(1)}, folder / "theirs.safetensors")
    add("theirs.safetensors", "a checkpoint")
    tar_of(folder / "model.nemo", "model_config.yaml")
    add("model.nemo", "a .nemo archive")
    tar_of(folder / "shard.tar", "a.wav")
    add("shard.tar", "a tar archive")
    for name, new in (("new.pt", True), ("old.pt", False), ("lightning.ckpt", True)):
        torch.save({"state": torch.zeros(1)}, folder / name, _use_new_zipfile_serialization=new)
        add(name, "a checkpoint of another toolkit")
    add("model.onnx", "an exported model (ONNX)", b"\x08\x08\x12\x07pytorch")
    line = json.dumps({"audio_filepath": "a.wav", "duration": 1.0, "text": "a"}).encode()
    add("m.jsonl", "a manifest", line)
    add("m.json", "a manifest", line)
    add("recipe.toml", "a recipe", (RECIPES / "an4" / "quartznet.toml").read_bytes())
    write_decoding(folder / "decoding.toml", DecodingConfig())
    add("decoding.toml", "decoding settings")
    for suffix in ("wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "w64"):
        soundfile.write(folder / f"a.{suffix}", noise, 16_000)
        add(f"a.{suffix}", "a recording")
    add("pieces.model", "word pieces", b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02")
    add("list.csv", "a table of recordings", b"path,text\na.wav,hello\n")
    add("page.html", "a web page", b"<!DOCTYPE html><html>not found</html>")
    add("big.bin", "a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    add("text.txt", "a text", "Grüße\n".encode())
    add("empty", "an empty file", b"")
    add("b.zip", "a zip archive", b"PK\3\4" + bytes(60))
    return found


def test_every_kind_is_known(files):
    assert {str(path): file_kind(path) for path in files} == {str(path): kind for path, kind in files.items()}
    assert set(files.values()) == set(KINDS)


@pytest.mark.parametrize("wanted", READERS)
def test_all_pairs(files, wanted):
    wrong = [path for path in files if misplaced(path, wanted)]
    assert len(wrong) > len(files) / 2
    for path in wrong:
        with pytest.raises(CarnelianError) as raised:
            READERS[wanted](path)
        message = str(raised.value)
        assert message.startswith(f"{path}: {files[path]}, not {wanted.removesuffix(' to check')}")
        assert message.endswith(KINDS[files[path]].use) and len(message.removeprefix(str(path))) < 250


def test_what_may_be_read_is_never_called_misplaced(files):
    own = {
        "a checkpoint of this package": "a checkpoint",
        "another toolkit's checkpoint": "a .nemo archive",
        "a language model": "a language model",
        "a manifest": "a manifest",
        "a recipe": "a recipe",
        "decoding settings": "decoding settings",
        "a recording": "a recording",
    }
    for wanted, kind in own.items():
        assert not any(misplaced(path, wanted) for path, known in files.items() if known == kind)
    assert not any(misplaced(path, "a recipe") for path in RECIPES.glob("*/*.toml"))


def test_no_file_and_unknown_bytes(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(256)))
    for path in (tmp_path / "a", tmp_path, tmp_path / "none", "a\0b", "https://example.org/m.jsonl"):
        assert file_kind(path) == ""
