"""`carnelian pairs`: each utterance is decoded by a model that has not seen its speaker, and only pairs of use are kept."""

import importlib.util
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnelian.data.text.pairs import Pair, iterate_pairs
from carnelian.data.utterance import read_manifest
from carnelian.rescoring.pairs import PairFilter, speaker_folds


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """A manifest of 12 utterances of 6 speakers, and a recipe that a model with dropout is trained by in a blink."""
    path = Path(__file__).parent.parent / "training" / "conftest.py"
    specification = importlib.util.spec_from_file_location("tones", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("pairs")
    manifest = module.write_corpus(folder)
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    manifest.write_text(
        "".join(json.dumps(line | {"speaker": f"s{index // 2}"}) + "\n" for index, line in enumerate(lines))
    )
    (folder / "recipe.toml").write_text(
        """
alphabet = " ab"
seed = 3
[train]
manifests = ["elsewhere.jsonl"]
validation = ["elsewhere.jsonl"]
steps = 2
batch_size = 4
workers = 0
[features]
name = "log_mel"
features = 16
[encoder]
name = "convolutional"
blocks = [{ channels = 8, kernel = 5, stride = 2, dropout = 0.5 }]
[optimizer]
name = "novograd"
[schedule]
name = "constant"
peak = 0.01
"""
    )
    return folder


def test_folds_are_trained_and_decoded(tones, carnelian, tmp_path):
    out = tmp_path / "pairs.jsonl"
    words = [
        "pairs", tones / "train.jsonl", "--recipe", tones / "recipe.toml", "--folds", 3, "--passes", 2, "--out", out,
        "--largest-wer", 1, "--device", "cpu",
    ]  # fmt: skip
    code, printed, err = carnelian(*words)
    assert code == 0, err
    speakers = {each.speaker for each in iterate_pairs(out)}
    assert speakers <= {f"s{index}" for index in range(6)} and "pairs" in printed
    seen: Counter[str] = Counter()
    for fold in (1, 2, 3):
        trained = {each.more["speaker"] for each in read_manifest(tmp_path / "pairs" / f"fold-{fold}" / "train.jsonl")}
        assert len(trained) == 4
        seen.update(trained)
    assert set(seen.values()) == {2}  # each speaker was left out once
    written = out.read_bytes()
    code, _, err = carnelian(*words)
    assert code == 2 and "exists" in err
    code, _, err = carnelian(*words, "--overwrite")  # the trainings are there already
    assert code == 0 and out.read_bytes() == written and "going on from step 2" in err


def test_dropout_makes_passes_differ(tones, carnelian, tmp_path):
    carnelian("train", tones / "recipe.toml", "--set", f"train.manifests=['{tones}/train.jsonl']", "--set", "train.validation=[]",
              "--out", tmp_path / "run")  # fmt: skip
    words = ["pairs", tones / "train.jsonl", "--model", tmp_path / "run", "--largest-wer", 1, "--device", "cpu"]
    counts = {}
    for name, more in (("one", []), ("many", ["--passes", 4]), ("off", ["--passes", 4, "--without-dropout"])):
        code, out, err = carnelian(*words, *more, "--out", tmp_path / f"{name}.jsonl")
        if code:
            assert "no pair is left" in err
        counts[name] = out
    code, _, err = carnelian(
        *words, "--folds", 2, "--model", tmp_path / "run", "--model", tmp_path / "run", "--out", "x.jsonl"
    )
    assert code == 2 and "3 models for 2 folds" in err


def test_from_two_files_of_transcripts(carnelian, tmp_path):
    (tmp_path / "ref.tsv").write_text("1-a\tthe cat sat\n1-b\tthe dog\n2-a\tno\n2-b\t\n3-a\tthe cat sat\n")
    (tmp_path / "hyp.tsv").write_text("1-a\tthe cats at\n1-b\tthe fog\n2-a\tno\n2-b\toh\n3-a\tthe cat sat\n")
    words = ["pairs", "--references", tmp_path / "ref.tsv", "--hypotheses", tmp_path / "hyp.tsv"]
    code, out, _ = carnelian(*words, "--speaker", r"^(\d)-", "--out", tmp_path / "a.jsonl")
    assert code == 0
    assert list(iterate_pairs(tmp_path / "a.jsonl")) == [
        Pair("the fog", "the dog", "1"), Pair("no", "no", "2"), Pair("the cat sat", "the cat sat", "3"),
    ]  # fmt: skip
    assert "word error rate above 50 %" in out and "no reference" in out
    code, _, _ = carnelian(
        *words, "--speaker", r"^\d", "--held-out", tmp_path / "held.jsonl", "--held-out-share", "0.5", "--out",
        tmp_path / "b.jsonl",
    )  # fmt: skip
    parts = [{pair.speaker for pair in iterate_pairs(tmp_path / name)} for name in ("held.jsonl", "b.jsonl")]
    assert code == 0 and all(parts) and not parts[0] & parts[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to decode"),
        (["--references", "a"], "--references and --hypotheses together"),
        (["--references", "a", "--hypotheses", "b", "--speaker", "("], "no regular expression"),
        (["train.jsonl"], "no recognizer. Give --recipe"),
        (["train.jsonl", "--recipe", "recipe.toml", "--folds", "1"], "one fold alone leaves nothing"),
        (["train.jsonl", "--recipe", "recipe.toml", "--model", "x"], "no recognizer"),
        (["none.jsonl", "--recipe", "recipe.toml"], "none.jsonl: "),
    ],
)
def test_what_cannot_be_done_is_one_line(tones, carnelian, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tones)
    code, _, err = carnelian("pairs", *words, "--out", tmp_path / "out.jsonl")
    assert code == 2 and message in err and err.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()


def test_pairs_that_are_of_no_use():
    filtered = PairFilter()
    given_pairs = [
        Pair("a b", "a b"), Pair("a b", "a b", "s"), Pair("a c", "a b"), Pair("x y", "a b"), Pair("", "a"), Pair("a", ""),
        Pair("a x c", "a b c"),
    ]  # fmt: skip
    assert filtered.usable(given_pairs) == [Pair("a b", "a b"), Pair("a c", "a b"), Pair("a x c", "a b c")]
    assert (filtered.kept, filtered.duplicates, filtered.too_wrong, filtered.without_text) == (3, 1, 2, 1)
    assert filtered.errors.total == 2 and filtered.usable([Pair("a b", "a b")]) == []


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b", "c", "d"]), st.floats(0.1, 9)), min_size=1), st.integers(1, 6))
def test_a_speaker_is_in_one_fold(spoken, count):
    speakers, sizes = zip(*spoken)
    folds = speaker_folds(speakers, sizes, count)
    assert len(folds) == len(speakers) and folds.min() >= 0 and folds.max() < count
    for name in set(speakers) - {""}:
        assert len({fold for fold, speaker in zip(folds, speakers) if speaker == name}) == 1
    assert (folds == speaker_folds(speakers, sizes, count)).all()
