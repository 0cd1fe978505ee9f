"""evaluate, transcribe and tune with --rescore: what tune writes gives evaluate the rate that tune told; faults are one line."""

import json
import re

import pytest
from small_language_model import write_word_model

from carnelian.commands.options import RecognizerOptions
from carnelian.decoding.settings import read_decoding
from carnelian.errors import DecodingError


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    return write_word_model(tmp_path_factory.mktemp("language"))


@pytest.fixture()
def manifest(tmp_path, record):
    lines = []
    for index, text in enumerate(["ab ca", "cab", "a b c", "ca ca ab", "b", "ab"]):
        record(tmp_path / f"{index}.wav", 0.4 + 0.05 * index, seed=index)
        lines.append({"audio_filepath": f"{index}.wav", "duration": 0.4 + 0.05 * index, "text": text})
    (tmp_path / "held_out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "held_out.jsonl"


ARPA = "\\data\\\nngram 1=6\n\n\\1-grams:\n-2\t<unk>\n-99\t<s>\n-1\t</s>\n-0.3\tab\n-1\tb\n-1\tca\n\n\\end\\\n"


def rate(carnelian, *words):
    code, out, err = carnelian("evaluate", *words, "--json-output")
    assert code == 0, err
    return 100 * json.loads(out)["manifests"]["held_out"]["wer"]


@pytest.mark.parametrize("searched", [True, False])
def test_what_tune_found_is_what_evaluate_gets(tiny_model, language_model, manifest, carnelian, tmp_path, searched):
    (tmp_path / "words.arpa").write_text(ARPA)
    search = ["--language-model", tmp_path / "words.arpa", "--beam-width", 8] if searched else []
    out = tmp_path / "sub" / "decoding.toml"
    out.parent.mkdir()
    words = ["tune", tiny_model, manifest, *search, "--rescore", language_model, "--hypotheses", 12, "--out", out]
    code, printed, err = carnelian(*words)
    assert code == 0, err
    rates = dict(re.findall(r"[│|] (.+?) +[│|] +([\d.]+) [│|]", printed))
    rescored = float(next(value for name, value in rates.items() if name.startswith("rescored")))
    lists = float(next(value for name, value in rates.items() if "not rescored" in name))
    oracle = float(next(value for name, value in rates.items() if name.startswith("oracle of 12")))
    assert oracle <= rescored <= lists
    settings = read_decoding(out)
    assert settings.rescoring.hypotheses == 12 and bool(settings.language_model) == searched
    assert rate(carnelian, tiny_model, manifest, "--decoding", out) == pytest.approx(rescored, abs=0.006)
    code, text, err = carnelian("transcribe", tiny_model, tmp_path / "0.wav", "--decoding", out)
    assert code == 0 and re.fullmatch(r"[abc ]*\n", text)


def test_options_without_a_file_of_settings(tiny_model, language_model, manifest, carnelian):
    greedy = rate(carnelian, tiny_model, manifest)
    rates = [
        rate(carnelian, tiny_model, manifest, "--rescore", language_model, "--rescore-weight", weight)
        for weight in (0, 20)
    ]
    assert len({greedy, *rates}) > 1
    code, out, _ = carnelian("transcribe", tiny_model, manifest, "--rescore", language_model, "--format", "jsonl")
    assert code == 0 and len(out.splitlines()) == 6


def test_options_are_merged_and_those_without_effect_are_errors(tmp_path):
    (tmp_path / "decoding.toml").write_text('[rescoring]\nmodel = "a"\nbeta = 3.0\nhypotheses = 7\n')
    found = RecognizerOptions(decoding=tmp_path / "decoding.toml", rescore_weight=0.25).config().rescoring
    assert (found.model, found.beta, found.neural_weight) == (str(tmp_path / "a"), 3.0, 0.25)
    found = (
        RecognizerOptions(decoding=tmp_path / "decoding.toml", rescore=tmp_path / "b", hypotheses=9).config().rescoring
    )
    assert (found.model, found.beta, found.hypotheses) == (str(tmp_path / "b"), 3.0, 9)
    for options, said in (
        ({"rescore_weight": 1.0}, "--rescore-weight: has no effect"),
        ({"hypotheses": 5}, "--hypotheses: has no effect"),
        ({"rescore": tmp_path, "hypotheses": 1}, "hypotheses 1"),
        ({"rescore": tmp_path, "rescore_weight": -1.0}, "neural_weight -1"),
    ):
        with pytest.raises(DecodingError, match=said):
            RecognizerOptions(**options).config()


def test_faults_are_one_line(tiny_model, language_model, manifest, carnelian, tmp_path):
    (tmp_path / "words.arpa").write_text(ARPA)
    out = ["--out", tmp_path / "decoding.toml"]
    for words, said in (
        (["evaluate", tiny_model, manifest, "--rescore", tiny_model], 'task = "acoustic", not a language model'),
        (["evaluate", language_model, manifest], 'task = "language": no recognizer'),
        (["evaluate", tiny_model, manifest, "--rescore", tmp_path / "words.arpa"], "not a checkpoint"),
        (["evaluate", tiny_model, manifest, "--language-model", language_model], "as --rescore"),
        (["transcribe", tiny_model, manifest, "--rescore", tmp_path / "absent"], "absent"),
        (["tune", tiny_model, manifest, "--rescore", tiny_model, *out], "not a language model"),
        (["tune", tiny_model, manifest, "--rescore", language_model, "--hypotheses", 1, *out], "hypotheses 1"),
        (["tune", tiny_model, manifest, *out], "--rescore MODEL"),
    ):
        code, printed, err = carnelian(*words)
        assert code == 2 and printed == "" and said in err and len(err.splitlines()) == 1 and len(err) <= 301, (
            words,
            err,
        )
    assert not (tmp_path / "decoding.toml").exists()
