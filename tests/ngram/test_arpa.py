"""ARPA files as they are found, and those that are none."""

import gzip
import math

import pytest

from carnelian.errors import LanguageModelError
from carnelian.ngram.arpa import read_arpa
from carnelian.ngram.arpa_writer import write_arpa
from carnelian.ngram.combine import n_grams as blocks
from carnelian.ngram.model import EMPTY, score_word

LN10 = math.log(10)
ARPA = """made by hand

\\data\\
ngram 1=5
ngram 2=4
ngram 3=1

\\1-grams:
-1.0\t<unk>\t0
-99\t<s>\t-0.5
-0.7\t</s>
-0.6\ta\t-0.25
-8e-1\tb\t-2.5E-1

\\2-grams:
-0.3\t<s> a\t-0.125
-0.4\ta b
-0.5\tb a
-0.2\tb </s>

\\3-grams:
-0.1\t<s> a b

\\end\\
"""


@pytest.fixture
def arpa(tmp_path):
    def write(content=ARPA, name="model.arpa"):
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / name

    return write


def log10(model, sentence, **marks):
    return model.score(sentence, **marks) / LN10


@pytest.mark.parametrize(
    "sentence, marks, expected",
    [
        ("a b", {}, -0.3 - 0.1 - 0.2),  # <s> a b | then b </s>
        ("a a", {}, -0.3 + (-0.125 - 0.25 - 0.6) + (-0.25 - 0.7)),
        ("b", {}, (-0.5 - 0.8) - 0.2),
        ("b a b", {"start": False, "end": False}, -0.8 - 0.5 - 0.4),
        ("c", {}, (-0.5 - 1.0) - 0.7),
        ("", {}, -0.5 - 0.7),
    ],
)
def test_scores_by_hand(arpa, sentence, marks, expected):
    assert log10(read_arpa(arpa()), sentence, **marks) == pytest.approx(expected, abs=1e-6)


def test_forms_that_are_found(arpa):
    plain = read_arpa(arpa())
    for found in (
        ARPA.replace("\n", "\r\n"),
        ARPA.replace("\t", " "),
        ARPA.replace("-grams:\n", "-grams:\n\n"),
        gzip.compress(ARPA.encode(), mtime=0),
        ARPA.replace("<unk>", "<UNK>"),
        ARPA.removesuffix("\n"),
    ):
        model = read_arpa(arpa(found))
        assert model.counts == plain.counts == (5, 4, 1)
        for sentence in ("a b", "b b a c", ""):
            assert model.score(sentence) == plain.score(sentence)


def test_a_missing_unknown_word_gets_minus_100(arpa):
    model = read_arpa(arpa(ARPA.replace("-1.0\t<unk>\t0\n", "").replace("ngram 1=5", "ngram 1=4")))
    assert log10(model, "c", start=False, end=False) == pytest.approx(-100)


def test_upper_case_is_folded(arpa):
    upper = ARPA.replace("a", "A").replace("b", "B").replace("dAtA", "data").replace("-grAms", "-grams")
    upper = upper.replace("ngrAm", "ngram").replace("mAde By hAnd", "")
    model = read_arpa(arpa(upper), lower_case=True)
    assert model.score("a b a") == read_arpa(arpa()).score("a b a")
    assert model.words == ["<unk>", "<s>", "</s>", "a", "b"]


def test_words_that_become_one_keep_the_more_probable(arpa):
    both = ARPA.replace("ngram 1=5", "ngram 1=6").replace("-8e-1\tb", "-0.55\tA\t-0.75\n-8e-1\tb")
    model = read_arpa(arpa(both), lower_case=True)
    assert log10(model, "a a", start=False, end=False) == pytest.approx(-0.55 - 0.75 - 0.55, abs=1e-6)


def test_contexts_that_were_pruned_are_put_in(arpa):
    """SRILM may keep "b a b" without "b a"; the context then scores as its back-off says."""
    cut = ARPA.replace("-0.5\tb a\n", "").replace("ngram 2=4", "ngram 2=3").replace("<s> a b\n", "b a b\n")
    model = read_arpa(arpa(cut))
    assert log10(model, "b a b", start=False, end=False) == pytest.approx(-0.8 + (-0.25 - 0.6) - 0.1, abs=1e-6)


@pytest.mark.parametrize("order", [1, 2, 10])
def test_orders(arpa, order):
    sections = "".join(f"\n\\{n}-grams:\n-{n / 10:.1f}\t{' '.join(['a'] * n)}\n" for n in range(2, order + 1))
    counts = "".join(f"ngram {n}=1\n" for n in range(2, order + 1))
    model = read_arpa(arpa(f"\\data\\\nngram 1=3\n{counts}\n\\1-grams:\n-1 <s>\n-1 </s>\n-2 a\n{sections}\n\\end\\\n"))
    assert model.order == order
    state = EMPTY
    for n in range(1, order + 1):
        score, state = score_word(model.tables, state, model.index["a"])
        assert score / LN10 == pytest.approx(-2 if n == 1 else -n / 10)


@pytest.mark.parametrize(
    "wrong, said",
    [
        ("hello\n", r"model.arpa:1: found no \\data\\ line"),
        (ARPA[: ARPA.index("<s> a b")], r"model.arpa:22: the file ends in the middle .*0 of 1 read"),
        (ARPA[: ARPA.index("b </s>")], r"model.arpa:19: the file ends in the middle .*3 of 4 read"),
        (ARPA[: ARPA.index("\\3-grams")], r"expected \\3-grams:, found the file's end"),
        (ARPA.replace("\\end\\\n", ""), r"expected \\end\\, found the file's end"),
        (ARPA.replace("ngram 2=4", "ngram 2=3"), r"more n-grams than the header announces"),
        (ARPA.replace("ngram 2=4", "ngram 2=5"), r"too few or too many words .*4 of 5 read"),
        (ARPA.replace("ngram 2=4", "ngram 3=4"), r'model.arpa:5: expected "ngram 2=..."'),
        (ARPA.replace("ngram 1=5", "ngram 1=500000000"), "counts do not fit the file"),
        (ARPA.replace("a b\n", "a z\n", 1), r"model.arpa:17: found a word that is not among the 1-grams"),
        (ARPA.replace("-0.4\ta", "x\ta"), r"model.arpa:17: found no number"),
        (ARPA.replace("-0.4\ta", "0.4\ta"), r"model.arpa:17: found a log-probability above 0"),
        (ARPA.replace("-0.4\ta b", "-0.4\ta"), r"model.arpa:17: .*too few or too many words"),
        (ARPA.replace("-0.6\ta", "-0.6\tb"), r"model.arpa:13: .*twice"),
        (
            ARPA.replace("\tb\t", "\tñ\t").encode("latin-1"),
            r"model.arpa:13: byte 0xf1 is not UTF-8; it looks like Latin-1",
        ),
        (gzip.compress(ARPA.encode() * 50, mtime=0)[:-20], "Compressed file ended before"),
        (b"", "no .data. line"),
    ],
)
def test_bad_files_are_one_line(arpa, wrong, said):
    with pytest.raises(LanguageModelError, match=said) as error:
        read_arpa(arpa(wrong))
    assert "\n" not in str(error.value)


def test_every_cut_of_a_file_is_an_error(arpa):
    whole = ARPA.encode()
    for length in range(0, whole.rindex(b"\\end\\"), 3):
        with pytest.raises(LanguageModelError):
            read_arpa(arpa(whole[:length]))


def test_what_is_written_is_what_was_read(tmp_path, made):
    golden = made.golden / "order3.arpa.gz"
    model = read_arpa(golden)
    parts = list(blocks(model))
    write_arpa(tmp_path / "again.arpa", model.text, [len(part.words) for part in parts], lambda n: [parts[n - 1]])
    before, after = made.n_grams(golden), made.n_grams(tmp_path / "again.arpa")
    assert before.keys() == after.keys()
    for words, values in before.items():
        assert after[words] == pytest.approx(values, abs=2e-6)


@pytest.mark.parametrize(
    "name, scores",
    [  # KenLM's own: each sentence's log10
        (
            "decoding/kenlm/test.arpa",
            {
                "looking on a little more loin also would consider higher": -21.216572,
                "also would consider higher looking": -17.609459,
                "the cat sat": -41.39769,
                "A B C APRIL ELEVEN ZZZ": -108.4401,
                "": -1.4444662,
            },
        ),
        ("decoding/kenlm/test_nounk.arpa", {"the cat sat": -202.40205, "i would like to": -105.714485}),
        (
            "decoding/lm.arpa",
            {
                "looking on a little more loin also would consider higher": -36.548267,
                "also would consider higher looking": -20.47974,
                "ENTER SIX A THREE": -13.69599,
                "i would like to": -11.983163,
            },
        ),
        (
            "an4/etc/an4.trigramlm",
            {"ENTER SIX A THREE": -6.9945583, "A B C APRIL ELEVEN ZZZ": -116.10745, "": -1.6772068},
        ),
    ],
)
def test_scores_equal_kenlm(shared, name, scores):
    model = read_arpa(shared(name))
    for sentence, expected in scores.items():
        assert log10(model, sentence) == pytest.approx(expected, rel=1e-6, abs=1e-5)
