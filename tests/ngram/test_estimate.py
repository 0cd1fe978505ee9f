"""Modified Kneser-Ney models equal lmplz's, sum to one, and do not depend on the memory they are given."""

import codecs
import gzip
import io
import shutil
import subprocess
import sys

import numpy as np
import pytest

from carnelian.errors import LanguageModelError
from carnelian.ngram import arpa_writer, counts
from carnelian.ngram.arpa import read_arpa
from carnelian.ngram.arpa_writer import write_arpa
from carnelian.ngram.estimate import closed_form, estimate, thresholds
from carnelian.ngram.model import EMPTY, score_word

VOCABULARY = ["w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8", "w9", "w10", "w20", "w31"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, made):
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(made.text())
    return path


def written(folder, *arguments, **settings):
    """The ARPA file of an estimate."""
    path = folder / "ours.arpa"
    result = estimate(*arguments, **settings)
    write_arpa(path, result.counts.text, result.sizes, result.blocks)
    return path


@pytest.mark.parametrize(
    "golden, order, settings",
    [
        ("order3", 3, {}),
        ("order5_prune001", 5, {"prune": [0, 0, 1]}),
        ("order4_vocabulary", 4, {"prune": [0, 1], "vocabulary": VOCABULARY}),
    ],
)
def test_equals_lmplz(corpus, tmp_path, golden, order, settings, made):
    others, largest = made.differences(
        written(tmp_path, [corpus], order, **settings), made.golden / f"{golden}.arpa.gz"
    )
    assert not others
    assert largest < 2e-6


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("lmplz"), reason="KenLM's lmplz is not on the path")
@pytest.mark.parametrize("order", range(1, 7))
@pytest.mark.parametrize("prune", [[], [0, 0, 1], [0, 1, 2], [1]])
@pytest.mark.parametrize("name", ["text/en/alice.txt", "text/es/ud_pud.sentences.txt"])
def test_equals_lmplz_on_books(shared, tmp_path, name, order, prune, made):
    theirs = tmp_path / "theirs.arpa"
    options = ["--prune", *map(str, prune[:order])] if prune else []
    command = ["lmplz", "-o", str(order), "-S", "200M", "-T", f"{tmp_path}/", "--discount_fallback", *options]
    text = shared(name).read_bytes().removeprefix(codecs.BOM_UTF8)  # which lmplz takes for a part of the first word
    with theirs.open("wb") as target:
        subprocess.run(command, input=text, stdout=target, stderr=subprocess.DEVNULL, check=True)
    others, largest = made.differences(written(tmp_path, [shared(name)], order, prune=prune[:order]), theirs)
    assert not others
    assert largest < 1e-4


@pytest.mark.parametrize("order, prune", [(1, []), (2, []), (3, [0, 0, 1]), (4, [0, 1]), (10, [])])
def test_every_context_sums_to_one(corpus, order, prune):
    model = estimate([corpus], order, prune=prune).model()
    states = {EMPTY, *range(5), *np.linspace(0, len(model.tables.states) - 1, 20, dtype=int).tolist()}
    for state in states:
        scores = [score_word(model.tables, state, word)[0] for word in range(len(model.words)) if word != model.start]
        assert np.exp(scores).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("order, prune", [(1, []), (3, [0, 0, 1]), (6, [])])
def test_memory_changes_nothing(corpus, tmp_path, order, prune):
    whole = written(tmp_path, [corpus], order, prune=prune).read_bytes()
    result = estimate([corpus], order, prune=prune, memory=1000, directory=tmp_path)
    write_arpa(tmp_path / "spilled.arpa", result.counts.text, result.sizes, result.blocks)
    assert (tmp_path / "spilled.arpa").read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours.arpa", "spilled.arpa"]


def test_many_windows_change_nothing(tmp_path, made):
    """More contexts and n-grams than one window holds."""
    path = tmp_path / "text.txt"
    path.write_text(made.text(3000, 5000))
    whole = written(tmp_path, [path], 4).read_bytes()
    assert written(tmp_path, [path], 4, memory=20_000).read_bytes() == whole


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_change_nothing(tmp_path, made, monkeypatch, threads):
    path = tmp_path / "text.txt"
    path.write_text(made.text(3000, 5000))
    monkeypatch.setattr(counts, "MOST_THREADS", 1)
    whole = written(tmp_path, [path], 4).read_bytes()
    monkeypatch.setattr(counts, "MOST_THREADS", threads)
    monkeypatch.setattr("os.cpu_count", lambda: threads)
    monkeypatch.setattr(arpa_writer, "LINES_AT_ONCE", 1000)
    assert written(tmp_path, [path], 4).read_bytes() == whole


def test_the_model_is_what_the_arpa_file_says(corpus, tmp_path, made):
    result = estimate([corpus], 4, prune=[0, 0, 1])
    write_arpa(tmp_path / "a.arpa", result.counts.text, result.sizes, result.blocks)
    read, built = read_arpa(tmp_path / "a.arpa"), result.model()
    assert read.counts == built.counts == tuple(result.sizes)
    for line in made.text(40, 500, seed=7).split("\n"):
        assert built.score(line) == pytest.approx(read.score(line), abs=2e-5)


def test_files_gzip_and_standard_input_are_one_text(corpus, tmp_path, monkeypatch):
    lines = corpus.read_text().splitlines(keepends=True)
    (tmp_path / "a.txt").write_text("".join(lines[:50]).rstrip("\n"))  # its last line is not ended
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("".join(lines[50:]).encode()))
    whole = written(tmp_path, [corpus], 3).read_bytes()
    assert written(tmp_path, [tmp_path / "a.txt", tmp_path / "b.txt.gz"], 3).read_bytes() == whole
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(corpus.read_bytes()))))
    assert written(tmp_path, ["-"], 3).read_bytes() == whole


def test_a_gzip_arpa_file_is_the_same_file(corpus, tmp_path):
    result = estimate([corpus], 2)
    write_arpa(tmp_path / "a.arpa", result.counts.text, result.sizes, result.blocks)
    write_arpa(tmp_path / "a.arpa.gz", result.counts.text, result.sizes, result.blocks)
    assert gzip.decompress((tmp_path / "a.arpa.gz").read_bytes()) == (tmp_path / "a.arpa").read_bytes()


def test_special_words_in_the_text_are_spaces(corpus, tmp_path):
    marked = tmp_path / "marked.txt"
    marked.write_text("".join(f"<s> {line} </s>\n" for line in corpus.read_text().splitlines()))
    assert estimate([marked], 2).counts.skipped == 320
    assert written(tmp_path, [marked], 3).read_bytes() == written(tmp_path, [corpus], 3).read_bytes()


def test_one_word_takes_the_fallback(tmp_path):
    (tmp_path / "one.txt").write_text("word\n")
    result = estimate([tmp_path / "one.txt"], 3)
    assert result.fallback == [1, 2, 3]
    model = result.model()
    likely = model.score("word")
    assert np.isfinite(likely) and likely > model.score("other")


def test_discounts():
    assert closed_form(np.array([0, 10, 5, 4, 2])) == pytest.approx((0.5, 2 - 3 * 0.5 * 4 / 5, 3 - 4 * 0.5 * 2 / 4))
    assert closed_form(np.array([0, 10, 0, 3, 2])) is None
    assert closed_form(np.array([0, 9, 1, 30, 3])) is None  # below zero


def test_thresholds():
    assert thresholds([], 3) == [0, 0, 0]
    assert thresholds([0, 0, 1], 5) == [0, 0, 1, 1, 1]
    for wrong in ([1, 0], [0, 0, 0, 1], [-1]):
        with pytest.raises(LanguageModelError, match="expected at most 3 counts"):
            thresholds(wrong, 3)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "found no words"),
        (b"\n \n\t\n", "found no words"),
        ("uno\ndos años\n".encode("latin-1"), r'text.txt:2: byte 0xf1 is not UTF-8; as Latin-1 the word reads "años"'),
        (gzip.compress(b"a b c\n" * 100, mtime=0)[:-12], "the gzip file is cut or damaged"),
    ],
)
def test_bad_text_is_one_line(tmp_path, content, said):
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(LanguageModelError, match=said) as error:
        estimate([tmp_path / "text.txt"], 2)
    assert "\n" not in str(error.value)


def test_a_missing_text_and_a_wrong_order_are_one_line(corpus, tmp_path):
    with pytest.raises(LanguageModelError, match=r"none.txt: cannot be read"):
        estimate([tmp_path / "none.txt"], 2)
    with pytest.raises(LanguageModelError, match="--order 0: expected 1 to 20"):
        estimate([corpus], 0)
