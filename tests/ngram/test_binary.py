"""The binary form gives the model back, refuses everything else, and keeps further arrays."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.decoding.beam import BeamSearch
from carnelian.errors import CarnelianError, LanguageModelError
from carnelian.ngram.binary import BINARY_MAGIC, read_binary, save_binary
from carnelian.ngram.load import load_language_model
from carnelian.ngram.model import FREE


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
        with pytest.raises(LanguageModelError, match=r"cut.bin: cannot be read as a language model"):
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
    with pytest.raises(LanguageModelError, match=r"false.bin: cannot be read as a language model"):
        load_language_model(tmp_path / "false.bin")


def test_other_files_are_one_line(tmp_path):
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(LanguageModelError, match="not an ARPA file"):
        load_language_model(tmp_path / "noise")
    with pytest.raises(LanguageModelError, match="no such file"):
        load_language_model(tmp_path / "none")


def values_of(path):
    """The file's bytes, and of each array its type and where it begins."""
    whole = bytearray(path.read_bytes())
    begin = len(BINARY_MAGIC) + 8
    length = int.from_bytes(whole[len(BINARY_MAGIC) : begin], "little")
    body = -(-(begin + length) // 64) * 64
    header = json.loads(whole[begin : begin + length])
    return whole, {
        name: np.frombuffer(
            whole,
            [tuple(part) for part in kind] if isinstance(kind, list) else kind,
            int(np.prod(shape)),
            body + place,
        )
        for name, kind, shape, place in header["arrays"]
    }


def set_all_keys(arrays):
    keys = arrays["arcs"]["key"]
    keys[keys == FREE] = keys[keys != FREE][0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda arrays: arrays["unigrams"].__setitem__(3, np.nan),
        lambda arrays: arrays["unigrams"].__setitem__(3, np.inf),
        lambda arrays: arrays["unigrams"].__setitem__(3, -np.inf),
        lambda arrays: arrays["unigrams"].__setitem__(3, 5.0),
        lambda arrays: arrays["states"]["backoff"].__setitem__(-1, np.nan),
        lambda arrays: arrays["states"]["backoff"].__setitem__(-1, 1e6),
        lambda arrays: arrays["states"]["shorter"].__setitem__(-1, len(arrays["states"]) - 1),
        lambda arrays: arrays["states"]["shorter"].__setitem__(-1, 1 << 30),
        lambda arrays: arrays["states"]["shorter"].__setitem__(-1, -7),
        lambda arrays: arrays["states"]["shorter"].__setitem__(2, 1),
        lambda arrays: arrays["arcs"]["target"].__setitem__(used(arrays), 1 << 30),
        lambda arrays: arrays["arcs"]["target"].__setitem__(used(arrays), -2),
        lambda arrays: arrays["arcs"]["probability"].__setitem__(used(arrays), np.nan),
        lambda arrays: arrays["arcs"]["probability"].__setitem__(used(arrays), np.inf),
        lambda arrays: arrays["arcs"]["key"].__setitem__(used(arrays), np.uint64(1 << 62)),
        lambda arrays: arrays["arcs"]["key"].__setitem__(used(arrays), np.uint64(0xFFFFFFF0)),
        set_all_keys,
        lambda arrays: arrays["text"].__setitem__(slice(None), 10),
        lambda arrays: arrays["text"].__setitem__(1, 0xFF),
    ],
)
def test_false_values_are_one_line(binary, tmp_path, damage):
    """Each kind of value that compiled code would follow out of the arrays, in a circle, or into NaN."""
    whole, arrays = values_of(binary)
    damage(arrays)
    (tmp_path / "false.bin").write_bytes(whole)
    with pytest.raises(LanguageModelError, match=r"false.bin: cannot be read as a language model") as error:
        load_language_model(tmp_path / "false.bin")
    assert len(str(error.value)) <= 300


def used(arrays):
    return int(np.flatnonzero(arrays["arcs"]["key"] != FREE)[5])


def test_any_damaged_byte_gives_a_value_or_one_line(binary, tmp_path):
    """A model that loads in spite of a wrong byte answers every question with a number."""
    whole = binary.read_bytes()
    random, refused = np.random.default_rng(0), 0
    for place in random.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << random.integers(8)
        (tmp_path / "damaged.bin").write_bytes(damaged)
        try:
            loaded = load_language_model(tmp_path / "damaged.bin")
        except LanguageModelError as error:
            assert len(str(error)) <= 300 and str(error).isprintable()
            refused += 1
            continue
        assert np.isfinite(loaded.word_scores(["w1", "w2", "w1", "w3", "w1"])).all()
        search = BeamSearch(Alphabet(" w0123456789"), loaded)
        assert np.isfinite(search(np.log(np.full((20, 13), 1 / 13, np.float32)))[0].score)
    assert refused


def test_damaged_models_found_by_mutation(shared):
    """Segmentation faults, endless loops and NaN before values were checked."""
    files = sorted(shared("../cases/damaged_files").glob("*.bin"))
    assert files
    for path in files:
        try:
            model = load_language_model(path)
            found = BeamSearch(Alphabet(ENGLISH), model)(np.log(np.full((30, 29), 1 / 29, np.float32)))
            assert np.isfinite(found[0].score)
        except CarnelianError as error:
            assert len(str(error)) <= 300 and "\n" not in str(error)


def test_loading_reads_hardly_anything(binary):
    """The process that opens the model does not even import torch for it."""
    code = "import sys; from carnelian.ngram.binary import read_binary; read_binary(sys.argv[1]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(binary)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
