"""The binary form gives the model back, refuses everything else, and keeps further arrays."""

import dataclasses
import gzip
import json
import subprocess
import sys
import types

import numpy as np
import pytest

from carnelian.decoding.binary import MAGIC, read_binary, save_binary
from carnelian.decoding.kenlm import MAGIC as MAGIC_OF_KENLM
from carnelian.decoding.language_model import load_language_model, load_scorer
from carnelian.errors import LanguageModelError, MissingExtraError


@pytest.fixture(scope="module")
def model(made):
    return load_language_model(made.golden / "order3.arpa.gz")


@pytest.fixture
def binary(model, tmp_path):
    save_binary(model, tmp_path / "model.bin")
    return tmp_path / "model.bin"


def test_scores_words_and_counts_come_back(model, binary, made):
    loaded = load_language_model(binary)
    assert (loaded.words, loaded.counts, loaded.unknown, loaded.start, loaded.end) == (
        model.words,
        model.counts,
        model.unknown,
        model.start,
        model.end,
    )
    for line in made.text(20, 500, seed=5).split("\n"):
        assert loaded.score(line) == model.score(line)


def test_further_arrays_are_kept(model, tmp_path):
    extra = {"tree.mask": np.arange(7, dtype=np.uint64), "tree.best": np.ones((3, 2), np.float32)}
    save_binary(dataclasses.replace(model, extra=extra), tmp_path / "model.bin")
    loaded = read_binary(tmp_path / "model.bin")
    assert loaded.extra.keys() == extra.keys()
    for name, array in extra.items():
        np.testing.assert_array_equal(loaded.extra[name], array)
    loaded.extra["tree.best"][0] = 5  # a copy in memory; the file stays
    assert (read_binary(tmp_path / "model.bin").extra["tree.best"] == 1).all()


def test_the_same_model_is_the_same_file(model, tmp_path):
    for name in ("a", "b"):
        save_binary(model, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_cut_files_are_one_line(binary, tmp_path):
    whole = binary.read_bytes()
    for length in (len(MAGIC), len(MAGIC) + 5, 100, 1000, len(whole) - 1):
        (tmp_path / "cut.bin").write_bytes(whole[:length])
        with pytest.raises(LanguageModelError, match=r"cut.bin: not a whole language model"):
            load_language_model(tmp_path / "cut.bin")


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 10**6},
        {"arrays": []},
        {"size": 5},
        {"counts": [1]},
        {"arrays": [["unigrams", "|O", [3], 0]]},
        {"arrays": [["unigrams", "<f4", [-3], 0]]},
        {"arrays": [["unigrams", "<f4", [3], 1 << 50]]},
    ],
)
def test_false_headers_are_one_line(binary, tmp_path, change):
    whole = binary.read_bytes()
    begin = len(MAGIC) + 8
    length = int.from_bytes(whole[len(MAGIC) : begin], "little")
    header = json.loads(whole[begin : begin + length])
    changed = json.dumps(header | change).encode()
    body = whole[-(-(begin + length) // 64) * 64 :]
    opening = MAGIC + len(changed).to_bytes(8, "little") + changed
    (tmp_path / "false.bin").write_bytes(opening.ljust(-(-len(opening) // 64) * 64, b"\0") + body)
    with pytest.raises(LanguageModelError, match=r"false.bin: not a whole language model"):
        load_language_model(tmp_path / "false.bin")


def test_other_files_are_one_line(tmp_path):
    (tmp_path / "kenlm.bin").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0" + bytes(500))
    with pytest.raises(LanguageModelError, match="KenLM binary"):
        load_language_model(tmp_path / "kenlm.bin")
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(LanguageModelError, match="not an ARPA file"):
        load_language_model(tmp_path / "noise")
    with pytest.raises(LanguageModelError, match="cannot be read"):
        load_language_model(tmp_path / "none")


def test_loading_reads_hardly_anything(binary):
    """The arrays are mapped: the process that opens the model does not even import torch for it."""
    code = "import sys; from carnelian.decoding.binary import read_binary; read_binary(sys.argv[1]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(binary)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_kenlm_binaries_are_scored_by_kenlm(made, tmp_path, monkeypatch):
    """Its package is optional; here a stand-in shows what is asked of it, and that scores become natural."""

    class Model:
        order = 3

        def __init__(self, path):
            if "bad" in path:
                raise RuntimeError("Binary file has\nwrong version")

        def full_scores(self, sentence, bos, eos):
            assert (sentence, bos, eos) == ("a b", True, True)
            return [(-1.0, 1, False), (-2.0, 1, True), (-0.5, 1, False)]

        def __contains__(self, word):
            return word == "a"

    for name in ("lm.bin", "bad.bin"):
        (tmp_path / name).write_bytes(MAGIC_OF_KENLM + bytes(100))
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(MissingExtraError, match=r'needs the package "kenlm".*carnelian\[kenlm\]'):
        load_scorer(tmp_path / "lm.bin")
    monkeypatch.setitem(sys.modules, "kenlm", types.SimpleNamespace(Model=Model))
    model = load_scorer(tmp_path / "lm.bin")
    np.testing.assert_allclose(model.word_scores(["a", "b"]), np.array([-1, -2, -0.5]) * np.log(10), rtol=1e-6)
    assert model.known(["a", "b"]).tolist() == [True, False]
    with pytest.raises(LanguageModelError, match=r"bad.bin: KenLM cannot read it \(Binary file has wrong version\)"):
        load_scorer(tmp_path / "bad.bin")


def test_kenlm_itself_agrees(made, tmp_path):
    """Where KenLM's package is installed, it reads the ARPA file we write and scores it as we do."""
    kenlm = pytest.importorskip("kenlm")
    golden = tmp_path / "golden.arpa"
    golden.write_bytes(gzip.decompress((made.golden / "order5_prune001.arpa.gz").read_bytes()))
    ours, theirs = load_language_model(golden), kenlm.Model(str(golden))
    for line in made.text(50, 600, seed=3).split("\n"):
        assert ours.score(line) / np.log(10) == pytest.approx(theirs.score(line), abs=1e-5, rel=1e-6)
