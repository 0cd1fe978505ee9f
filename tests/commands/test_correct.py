"""`carnelian correct` and --correct: corrections are applied where they are to be trusted, and what cannot be is one line."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import carnelian as package
from carnelian.checkpoint import load_checkpoint
from carnelian.commands.correct import store_threshold
from carnelian.commands.options import RecognizerOptions
from carnelian.commands.serve import served_model
from carnelian.data.text.pairs import Pair, iterate_pairs, write_pairs
from carnelian.errors import CarnelianError, ManifestError
from carnelian.rescoring.correction import Correction, Corrector
from carnelian.rescoring.threshold import find_threshold, threshold_candidates
from carnelian.scoring.wer import Errors
from carnelian.training.tasks.corrector import train_corrector

pytest.importorskip("tokenizers")
LETTERS = "abc"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]


def misheard_pairs(count: int, seed: int) -> list[Pair]:
    """A recognizer that writes "c" for every "b"; no speaker says "c"."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(["a", "b"], rng.integers(3, 6))) for _ in range(count)]
    return [Pair(text.replace("b", "c"), text, f"{seed}-{index % 20}") for index, text in enumerate(texts)]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run of a corrector that has learnt that "c" is "b", and pairs of other speakers."""
    folder = tmp_path_factory.mktemp("corrector")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    write_pairs(folder / "train.jsonl", misheard_pairs(300, 0))
    write_pairs(folder / "held_out.jsonl", misheard_pairs(40, 1))
    recipe = {
        "task": "corrector", "seed": 1,
        "train": {"pairs": [str(folder / "train.jsonl")], "steps": 150, "batch_tokens": 400, "device": "cpu"},
        "initialize": {"vocabulary": str(folder / "vocab.txt")},
        "corrector": {"channels": 24, "layers": 1, "heads": 2, "feedforward": 48, "positions": 40, "dropout": 0.0},
        "optimizer": {"name": "adam"},
        "schedule": {"name": "polynomial", "peak": 0.01, "warmup": 10, "lowest": 1e-5},
    }  # fmt: skip
    train_corrector(recipe, folder / "run")
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "work")
    return tmp_path / "work"


def test_threshold_is_stored_and_used(folder, carnelian):
    code, _, err = carnelian("correct", "text", folder / "run", folder / "held_out.jsonl")
    assert code == 2 and "carnelian correct threshold" in err and err.count("\n") == 1
    before = load_checkpoint(folder / "run")
    code, out, _ = carnelian("correct", "threshold", folder / "run", folder / "held_out.jsonl")
    assert code == 0 and "20 held-out speakers" in out and "probability above" in out
    after = load_checkpoint(folder / "run")
    stored = after.more["correction"]
    assert 0 <= stored["threshold"] < 1 and stored["held_out_wer_after"] < stored["held_out_wer_before"]
    assert after.weights.keys() == before.weights.keys() and after.step == before.step == 150
    code, out, _ = carnelian(
        "correct", "text", folder / "run", folder / "held_out.jsonl", "--out", folder / "corrected.jsonl"
    )
    assert code == 0 and "texts corrected" in out and "matched pairs" in out
    corrected = list(iterate_pairs(folder / "corrected.jsonl"))
    held_out = list(iterate_pairs(folder / "held_out.jsonl"))
    right = sum(pair.hypothesis == pair.text for pair in corrected)
    assert right > 30 > 15 > sum(pair.hypothesis == pair.text for pair in held_out)
    assert [pair.speaker for pair in corrected] == [pair.speaker for pair in held_out]


def test_lines_of_text(folder, carnelian, monkeypatch, tmp_path):
    (tmp_path / "texts.txt").write_text("a c a\n\nA  c c\nzzz c\n")
    code, out, _ = carnelian("correct", "text", folder / "run", tmp_path / "texts.txt", "--threshold", "0")
    assert code == 0 and out == "a b a\n\nA b b\nzzz c\n"  # z it has never seen: that text stays
    code, out, _ = carnelian("correct", "text", folder / "run", tmp_path / "texts.txt", "--threshold", "1")
    assert out == (tmp_path / "texts.txt").read_text()
    code, _, _ = carnelian(
        "correct", "text", folder / "run", tmp_path / "texts.txt", "--threshold", "0", "--out", tmp_path / "out.txt"
    )
    assert code == 0 and (tmp_path / "out.txt").read_text().startswith("a b a\n")
    code, _, err = carnelian("correct", "text", folder / "run", tmp_path / "none.txt", "--threshold", "0")
    assert code == 2 and "none.txt: cannot be read" in err


def test_texts_of_any_length(folder):
    corrector = Corrector.load(folder / "run", threshold=0.0)
    assert corrector.longest == 5  # of the longest hypothesis that it was trained on
    assert corrector([""]) == [""] and corrector(["c"]) == corrector(["c"])
    long = " ".join(["a c c a"] * 300)
    [found] = corrector([long])
    assert len(found.split()) == 1200 and found.count("c") < 60
    assert corrector(["c" * 500]) == ["c" * 500]  # one word that is longer than the model reads
    assert corrector([]) == []


def test_a_threshold_of_1_corrects_nothing(folder, capsys):
    write_pairs(
        folder / "wrong.jsonl", [Pair(pair.hypothesis, pair.hypothesis, pair.speaker) for pair in misheard_pairs(30, 2)]
    )
    store_threshold(folder / "run", [folder / "wrong.jsonl"])
    assert "no threshold saves errors" in capsys.readouterr().out
    assert load_checkpoint(folder / "run").more["correction"]["threshold"] == 1
    corrector = Corrector.load(folder / "run")
    assert corrector(["a c a"]) == ["a c a"] and "nothing is corrected" in capsys.readouterr().err


def test_too_few_speakers_are_told_of(folder, carnelian):
    write_pairs(
        folder / "few.jsonl",
        [replace(pair, speaker=f"{index % 19}") for index, pair in enumerate(misheard_pairs(40, 1))],
    )
    code, out, _ = carnelian("correct", "threshold", folder / "run", folder / "few.jsonl")
    assert code == 0 and "fewer than 20 speakers show too little: nothing will be corrected" in out
    assert load_checkpoint(folder / "run").more["correction"]["threshold"] == 1


def test_a_recognizer_corrects(folder, tiny_model, record, tmp_path, carnelian):
    corrector = Corrector.load(folder / "run", threshold=0.0)
    plain = package.load(tiny_model, device="cpu")
    both = package.load(tiny_model, device="cpu", correct=corrector)
    audio = str(record(tmp_path / "a.wav"))
    expected = corrector([plain(audio).text])[0]
    found = both(audio)
    assert found.text == expected and [word.text for word in found.words] == expected.split()
    utterances = [package.Utterance(audio, 1.0), package.Utterance(audio, 1.0)]
    assert [each.transcript.text for each in both.recognize(utterances)] == [expected] * 2
    carnelian("correct", "threshold", folder / "run", folder / "held_out.jsonl")
    code, out, _ = carnelian("transcribe", tiny_model, audio, "--correct", folder / "run", "--device", "cpu")
    assert code == 0 and out.strip() == Corrector.load(folder / "run")([plain(audio).text])[0]
    served = served_model(both, RecognizerOptions(), name="tiny")  # the service corrects too
    [answered] = served.recognize([package.load_audio(audio, 16000)], [()])
    assert answered.text == expected
    code, _, err = carnelian("transcribe", tiny_model, "-", "--live", "--correct", folder / "run")
    assert code == 2 and "--correct: has no effect with --live" in err
    code, _, err = carnelian("transcribe", tiny_model, audio, "--correct", tiny_model)
    assert code == 2 and "corrects nothing" in err and err.count("\n") == 1
    code, _, err = carnelian("transcribe", folder / "run", audio)
    assert code == 2 and "give it as --correct" in err


def test_a_corrector_for_another_language(folder):
    corrector = Corrector.load(folder / "run", threshold=0.0)
    corrector.check_alphabet(package.Alphabet(" abc'"), "corrector")
    with pytest.raises(
        CarnelianError, match="for another language: of the recognizer's 5 letters it has never seen 2, such as ñ ü"
    ):
        corrector.check_alphabet(package.Alphabet(" abcñü"), "corrector")
    assert corrector(["ñ c"]) == ["ñ c"]


def hand_made(outcomes, speakers=None):
    """Pairs and corrections with these probabilities, each of which saves (or makes) an error."""
    pairs, corrections = [], []
    for index, (probability, saved) in enumerate(outcomes):
        hypothesis, corrected = {1: ("x b", "a b"), -1: ("a b", "x b"), 0: ("x b", "y b")}[saved]
        pairs.append(Pair(hypothesis, "a b", f"{(speakers or range(1000))[index]}"))
        corrections.append(Correction(corrected, probability) if probability else Correction(hypothesis))
    return pairs, corrections


def test_the_threshold_that_wins():
    """Sure corrections are right and others wrong: the threshold lies between."""
    right, wrong = [(0.6 + index / 100, 1) for index in range(20)], [(0.1 + index / 100, -1) for index in range(20)]
    found = find_threshold(*hand_made(right + wrong))
    assert 0.29 < found.threshold < 0.6
    assert found.before == Errors(60, 20) and found.after == Errors(80, 0) and found.unbounded == Errors(60, 20)
    assert found.corrected == 20 and found.speakers == 40 and found.saved()["held_out_words"] == 80


def test_what_may_be_chance_is_not_trusted():
    few = find_threshold(*hand_made([(0.9, 1)] + [(0.0, 0)] * 30))  # a single win
    assert few.threshold == 1 and few.after == few.before and few.corrected == 0
    # as many wins, but all of one speaker
    one = find_threshold(*hand_made([(0.9, 1)] * 20 + [(0.0, 0)] * 20, [0] * 20 + list(range(1, 21))))
    many = find_threshold(*hand_made([(0.9, 1)] * 20 + [(0.0, 0)] * 20))
    assert one.threshold == 1 and many.threshold == 0
    # a gain for every speaker, but too few of them
    assert find_threshold(*hand_made([(0.9, 1)] * 40, [index % 19 for index in range(40)])).threshold == 1
    assert find_threshold(*hand_made([(0.9, 1)] * 40, [index % 20 for index in range(40)])).threshold == 0
    with pytest.raises(ManifestError, match="no words"):
        find_threshold([], [])


def test_candidates_part_all_probabilities():
    assert threshold_candidates(np.array([0.125, 0.25, 0.25, 0.75])).tolist() == [0.0, 0.1875, 0.5]
    assert threshold_candidates(np.zeros(0)).tolist() == [0.0]
    many = threshold_candidates(np.arange(1, 5000) / 5000)
    assert len(many) == 200 and many[0] == 0.0 and many[-1] == pytest.approx(4998.5 / 5000)


def test_a_threshold_is_a_probability(folder, carnelian):
    code, _, err = carnelian("correct", "text", folder / "run", folder / "held_out.jsonl", "--threshold", "1.5")
    assert code == 2 and "threshold 1.5: no probability" in err


def test_results_with_other_keys_are_kept(folder, tmp_path, carnelian):
    line = {"audio_filepath": "a.wav", "text": "a b a", "hypothesis": "a c a", "speaker": "s", "words": 2}
    (tmp_path / "results.jsonl").write_text(json.dumps(line) + "\n")
    carnelian(
        "correct",
        "text",
        folder / "run",
        tmp_path / "results.jsonl",
        "--threshold",
        "0",
        "--out",
        tmp_path / "out.jsonl",
    )
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {**line, "hypothesis": "a b a"}
