"""What a word is: the same in building, scoring, mixing and filtering, and the same as for KenLM."""

import gzip
import math

import numpy as np
import pytest

from carnelian.commands.language_model import LANGUAGE_MODEL_VERBS
from carnelian.data.text.text_files import split_words
from carnelian.errors import LanguageModelError
from carnelian.ngram.arpa import read_arpa
from carnelian.ngram.words import WordTable

ODD = [
    "deep\u00a0blue",
    "a\x1bb",
    "line\u2028end",
    "next\x85line",
    "vt\x0bword",
    "ff\x0cword",
    "\x1cfs",
    "em\u2003space",
]


@pytest.mark.parametrize("separator", [" ", "\t", "\r", "\0", "  ", "\r\n"])
def test_separators_are_kenlm_s(separator):
    text = separator.join(["red", *ODD, "blue"])
    assert split_words(text) == ["red", *ODD, "blue"]
    words = WordTable()
    words.tokenize(text.encode() + b"\n")
    assert words.text().tobytes().decode().split("\n")[3:] == ["red", *ODD, "blue"]


@pytest.fixture
def built(tmp_path):
    (tmp_path / "text.txt").write_bytes(b"\xef\xbb\xbf" + "\n".join([*ODD, " ".join(ODD), "the cat"] * 2).encode())
    LANGUAGE_MODEL_VERBS["build"](
        [tmp_path / "text.txt"], order=3, arpa=tmp_path / "lm.arpa", binary=tmp_path / "lm.bin"
    )
    return tmp_path


def test_a_text_has_no_unknown_words_for_its_own_model(built, capsys):
    for model in ("lm.arpa", "lm.bin"):
        LANGUAGE_MODEL_VERBS["score"](built / model, [built / "text.txt"])
        printed = capsys.readouterr().out
        assert all(line.split("\t")[1] == "0" for line in printed.split("\n") if line[:1] == "-")
    model = read_arpa(built / "lm.arpa")
    assert set(model.words) == {"<unk>", "<s>", "</s>", "the", "cat", *ODD}


def test_a_vocabulary_keeps_such_words(built):
    (built / "words.txt").write_text("\ufeffdeep\u00a0blue a\x1bb\n", encoding="utf-8")
    for verb, given in (("filter", built / "lm.arpa"), ("build", [built / "text.txt"])):
        options = {"order": 2} if verb == "build" else {}
        out = built / f"{verb}.arpa"
        LANGUAGE_MODEL_VERBS[verb](given, vocabulary=built / "words.txt", arpa=out, **options)
        assert set(read_arpa(out).words) == {"<unk>", "<s>", "</s>", "deep\u00a0blue", "a\x1bb"}


def test_a_literal_unknown_word_in_capitals_is_a_word(tmp_path):
    (tmp_path / "text.txt").write_text("the <UNK> cat\nthe dog <UNK>\n" * 3)
    LANGUAGE_MODEL_VERBS["build"]([tmp_path / "text.txt"], order=2, arpa=tmp_path / "lm.arpa")
    line = next(line for line in (tmp_path / "lm.arpa").read_text().split("\n") if "\t<unk>" in line)
    model = read_arpa(tmp_path / "lm.arpa")
    assert model.tables.unigrams[model.unknown] / math.log(10) == pytest.approx(float(line.split()[0]), abs=1e-5)
    (tmp_path / "words.txt").write_text("the cat <UNK>")
    LANGUAGE_MODEL_VERBS["filter"](tmp_path / "lm.arpa", vocabulary=tmp_path / "words.txt", arpa=tmp_path / "cut.arpa")
    cut = read_arpa(tmp_path / "cut.arpa")
    assert sorted(cut.words) == sorted(["<unk>", "<s>", "</s>", "the", "cat", "<UNK>"])
    assert read_arpa(tmp_path / "lm.arpa", lower_case=True).score("the cat") == model.score("the cat")


def test_cases_of_build(shared, tmp_path, capsys):
    folder = shared("../cases/ngram_and_decoding/build")
    LANGUAGE_MODEL_VERBS["build"]([folder / "nbsp.txt"], order=3, arpa=tmp_path / "nbsp.arpa")
    LANGUAGE_MODEL_VERBS["score"](tmp_path / "nbsp.arpa", [folder / "nbsp.txt"], summary=True)
    assert "0 (0.00 %)" in capsys.readouterr().out
    LANGUAGE_MODEL_VERBS["build"](
        [folder / "nbsp.txt"], order=3, arpa=tmp_path / "cut.arpa", vocabulary=folder / "vocab_nbsp.txt"
    )
    assert "deep\u00a0blue" in read_arpa(tmp_path / "cut.arpa").words
    LANGUAGE_MODEL_VERBS["build"]([folder / "bom.txt"], order=1, arpa=tmp_path / "bom.arpa")
    assert set(read_arpa(tmp_path / "bom.arpa").words) == {"<unk>", "<s>", "</s>", "the", "cat", "sat", "dog"}


@pytest.mark.parametrize(
    ("name", "sentence", "log10"),
    [
        ("base", "red green blue", -1.1),
        ("many_digits", "red", -0.3 - 0.1 - 0.25 - 0.9 - 0.1),
        ("unk_in_bigram_not_in_unigrams", "red green blue", -1.1),
        ("vt_word", "red green deep\x0bblue", -1.1),
        ("zero_trigrams", "red green blue", -0.4 - 0.1 - 0.6 - 0.12 - 0.5 - 0.05 - 0.3),
        ("crlf", "red green blue", -1.1),
        ("gz_two_members", "red green blue", -1.1),
        ("scientific", "red green blue", -1.1),
    ],
)
def test_cases_of_arpa_files(shared, name, sentence, log10):
    folder = shared("../cases/ngram_and_decoding/arpa")
    model = read_arpa(next(folder.glob(f"{name}.arpa*")))
    if name == "many_digits":
        assert model.score("red", start=False, end=False) / math.log(10) == pytest.approx(-7 / 9, abs=1e-6)
    else:
        assert model.score(sentence) / math.log(10) == pytest.approx(log10, abs=1e-5)


def test_a_new_longest_length_keeps_its_back_offs(shared, tmp_path):
    """Of three words "red green blue" is left without 3-grams, but "<s> red" still has its back-off."""
    (tmp_path / "words.txt").write_text("red blue")
    base = shared("../cases/ngram_and_decoding/arpa") / "base.arpa"
    before = read_arpa(base)
    LANGUAGE_MODEL_VERBS["filter"](base, vocabulary=tmp_path / "words.txt", arpa=tmp_path / "cut.arpa")
    after = read_arpa(tmp_path / "cut.arpa")
    for model in (before, after):
        scores = model.word_scores(["red", "blue"], end=False)
        assert scores[1] / math.log(10) == pytest.approx(-0.1 - 0.25 - 1.1, abs=1e-5)


@pytest.mark.parametrize("number", ["nan", "-nan", "inf", "-inf", "-1e999", "-" + "9" * 400, "-1e30", "1e-400x"])
@pytest.mark.parametrize("value", ["-0.4", "-0.1"])
def test_what_is_no_logarithm_is_refused(tmp_path, number, value):
    text = "\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-1 <unk>\n-99 <s>\n-1 </s>\n-0.4 red -0.1\n\n"
    text += "\\2-grams:\n-1 red red\n\n\\end\\\n"
    (tmp_path / "lm.arpa").write_text(text.replace(value, number))
    with pytest.raises(LanguageModelError, match=r"lm.arpa:9: found no number"):
        read_arpa(tmp_path / "lm.arpa")


def test_numbers_are_read_as_python_reads_them(tmp_path):
    random = np.random.default_rng(0)
    values = [-float(f"{value:.{random.integers(1, 25)}e}") for value in 10 ** random.uniform(-30, 3, 200)]
    written = [*map(repr, values), *(f"{value:.{random.integers(1, 40)}f}" for value in values)]
    written += ["-0." + "0" * 400 + "7", "-1e-400", "-0e9999", "-" + "0" * 400 + "1.5", "-1." + "0" * 400]
    lines = "".join(f"{number}\tw{index}\n" for index, number in enumerate(written))
    text = f"\\data\\\nngram 1={len(written) + 3}\n\n\\1-grams:\n-1 <unk>\n-99 <s>\n-1 </s>\n{lines}\n\\end\\\n"
    (tmp_path / "lm.arpa").write_text(text)
    found = read_arpa(tmp_path / "lm.arpa").tables.unigrams[3:]
    expected = (np.array([float(number) for number in written]) * math.log(10)).astype(np.float32)
    np.testing.assert_allclose(found, expected, rtol=3e-7)


def test_gzip_that_is_damaged_or_expands_without_end(tmp_path, shared):
    (tmp_path / "bomb.arpa.gz").write_bytes(gzip.compress(b"\\data\\\n" + b"\0" * (100 << 20)))
    with pytest.raises(LanguageModelError, match="expand to more than"):
        read_arpa(tmp_path / "bomb.arpa.gz")
    for path in shared("../cases/damaged_files").glob("*arpa*"):
        try:
            assert np.isfinite(read_arpa(path).score("a a b"))
        except LanguageModelError as error:
            assert len(str(error)) <= 300 and str(error).isprintable()
