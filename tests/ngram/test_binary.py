"""The binary form gives the model back, refuses everything else, and keeps further arrays."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from carnelian.errors import LanguageModelError
from carnelian.ngram.binary import BINARY_MAGIC, read_binary, save_binary
from carnelian.ngram.load import load_language_model


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
    for length in (len(BINARY_MAGIC), len(BINARY_MAGIC) + 5, 100, 1000, len(whole) - 1):
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
    begin = len(BINARY_MAGIC) + 8
    length = int.from_bytes(whole[len(BINARY_MAGIC) : begin], "little")
    header = json.loads(whole[begin : begin + length])
    changed = json.dumps(header | change).encode()
    body = whole[-(-(begin + length) // 64) * 64 :]
    opening = BINARY_MAGIC + len(changed).to_bytes(8, "little") + changed
    (tmp_path / "false.bin").write_bytes(opening.ljust(-(-len(opening) // 64) * 64, b"\0") + body)
    with pytest.raises(LanguageModelError, match=r"false.bin: not a whole language model"):
        load_language_model(tmp_path / "false.bin")


def test_other_files_are_one_line(tmp_path):
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(LanguageModelError, match="not an ARPA file"):
        load_language_model(tmp_path / "noise")
    with pytest.raises(LanguageModelError, match="cannot be read"):
        load_language_model(tmp_path / "none")


def test_loading_reads_hardly_anything(binary):
    """The arrays are mapped: the process that opens the model does not even import torch for it."""
    code = "import sys; from carnelian.ngram.binary import read_binary; read_binary(sys.argv[1]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(binary)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
