"""The verb language-model, from running text to scores."""

import subprocess
import sys
from pathlib import Path

import pytest

from carnelian.commands.language_model import LANGUAGE_MODEL_VERBS, size_in_bytes
from carnelian.errors import CarnelianError

TEXT = "The cat sat on the mat. The dog sat on the log!\nA cat and a dog sat; 2 cats ran on.\n\n" * 3


@pytest.fixture
def prepared(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    LANGUAGE_MODEL_VERBS["prepare"]([tmp_path / "text.txt"], out=tmp_path / "sentences.txt", language="en")
    return tmp_path / "sentences.txt"


@pytest.fixture
def model(prepared, tmp_path):
    LANGUAGE_MODEL_VERBS["build"]([prepared], order=3, arpa=tmp_path / "lm.arpa", binary=tmp_path / "lm.bin")
    return tmp_path / "lm.arpa"


def test_prepare_writes_sentences_and_a_report(prepared, capsys):
    assert prepared.read_text().split("\n")[:4] == [
        "the cat sat on the mat",
        "the dog sat on the log",
        "a cat and a dog sat",
        "two cats ran on",
    ]


def test_build_tells_counts_discounts_and_fallback(capsys, model):
    told = capsys.readouterr()
    assert "Too little or unnatural text" in told.err
    assert "D3+" in told.out and "66 words" in told.out
    assert model.read_text().startswith("\\data\\\nngram 1=")


def test_score_is_the_same_for_both_forms(model, tmp_path, capsys):
    (tmp_path / "asked.txt").write_text("the cat sat\nthe zebra sat\n")
    capsys.readouterr()
    told = []
    for path in (model, model.with_suffix(".bin")):
        LANGUAGE_MODEL_VERBS["score"](path, [tmp_path / "asked.txt"])
        told.append(capsys.readouterr().out.split("\n"))
    first, second = (line.split("\t") for line in told[0][:2])
    assert (first[1:], second[1:]) == (["0", "the cat sat"], ["1", "the zebra sat"])
    assert float(first[0]) > float(second[0])
    assert [float(line.split("\t")[0]) for line in told[1][:2]] == pytest.approx(
        [float(first[0]), float(second[0])], abs=1e-4
    )
    assert "1 (16.67 %)" in "\n".join(told[0])


def test_info(model, capsys):
    capsys.readouterr()
    LANGUAGE_MODEL_VERBS["info"](model)
    told = capsys.readouterr().out
    assert "3-grams" in told and "log10 of <unk>" in told


def test_mix_and_filter(model, tmp_path, capsys):
    (tmp_path / "words.txt").write_text("the cat dog ostrich")
    LANGUAGE_MODEL_VERBS["filter"](model, vocabulary=tmp_path / "words.txt", arpa=tmp_path / "cut.arpa")
    told = capsys.readouterr()
    assert "1 of the 4 words are not in the model" in told.err
    assert "mat" not in (tmp_path / "cut.arpa").read_text()
    (tmp_path / "tune.txt").write_text("the cat sat on the mat\n")
    LANGUAGE_MODEL_VERBS["mix"](
        [model, tmp_path / "cut.arpa"], tune=tmp_path / "tune.txt", binary=tmp_path / "mixed.bin"
    )
    assert "mixed" in capsys.readouterr().out
    assert (tmp_path / "mixed.bin").stat().st_size > 0


@pytest.mark.parametrize(
    "verb, settings, said",
    [
        ("build", {"order": 2}, "nothing to write"),
        ("build", {"order": 2, "arpa": Path("x.arpa"), "prune": "a"}, "--prune a: expected counts"),
        ("build", {"order": 2, "arpa": Path("x.arpa"), "memory": "lots"}, "--memory lots: expected a size"),
        ("build", {"order": 99, "arpa": Path("x.arpa")}, "--order 99"),
        ("build", {"order": 2, "arpa": Path("x.arpa"), "vocabulary": Path("none")}, "none: no such file"),
        ("prepare", {"out": Path("x"), "encoding": "utf-9"}, "no such encoding"),
        ("prepare", {"out": Path("x"), "alphabet": "xyz"}, "no sentence is left"),
        ("mix", {"weights": "1", "arpa": Path("x.arpa")}, "expected two models or more"),
    ],
)
def test_faults_are_one_line_and_leave_no_file(tmp_path, monkeypatch, verb, settings, said):
    (tmp_path / "text.txt").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CarnelianError, match=said) as error:
        LANGUAGE_MODEL_VERBS[verb]([Path("text.txt")], **settings)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


OUTPUTS = {
    "build": ([Path("text.txt")], {"order": 2}),
    "filter": (Path("lm.arpa"), {"vocabulary": Path("text.txt")}),
    "mix": ([Path("lm.arpa"), Path("lm.arpa")], {"weights": "1 1"}),
}


@pytest.mark.parametrize("verb", OUTPUTS)
def test_outputs_are_looked_at_before_any_work(tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the cat sat\n" * 5)
    LANGUAGE_MODEL_VERBS["build"]([Path("text.txt")], order=2, arpa=Path("lm.arpa"))
    (tmp_path / "old.arpa").write_text("mine")
    given, options = OUTPUTS[verb]
    run = LANGUAGE_MODEL_VERBS[verb]
    with monkeypatch.context() as patch:
        patch.setattr("carnelian.commands.language_model.load_language_model", None)
        patch.setattr("carnelian.commands.language_model.estimate", None)
        for out, said in (("old.arpa", "exists"), ("text.txt/lm.arpa", "could not be written"), (".", "a folder")):
            for kind in ("arpa", "binary"):
                with pytest.raises(CarnelianError, match=said):
                    run(given, **options, **{kind: Path(out)})
        with pytest.raises(CarnelianError, match="two files"):
            run(given, **options, arpa=Path("same"), binary=Path("same"))
    assert (tmp_path / "old.arpa").read_text() == "mine"
    run(given, **options, arpa=Path("old.arpa"), overwrite=True)
    assert (tmp_path / "old.arpa").read_text().startswith("\\data\\")


def test_prepare_does_not_replace_a_text(tmp_path, prepared):
    (tmp_path / "text.txt").write_text(TEXT)
    with pytest.raises(CarnelianError, match="exists"):
        LANGUAGE_MODEL_VERBS["prepare"]([tmp_path / "text.txt"], out=prepared)
    LANGUAGE_MODEL_VERBS["prepare"]([tmp_path / "text.txt"], out=prepared, language="en", overwrite=True)


def test_temporary_files_that_cannot_be_written(tmp_path):
    (tmp_path / "text.txt").write_text("the cat sat on the mat\n" * 50_000)
    out = {"arpa": tmp_path / "lm.arpa", "memory": "1K"}
    with pytest.raises(CarnelianError, match="no temporary file can be written") as error:
        LANGUAGE_MODEL_VERBS["build"]([tmp_path / "none"], order=3, temporary=tmp_path / "absent", **out)
    assert "\n" not in str(error.value) and not (tmp_path / "lm.arpa").exists()
    code = """
import resource, sys
import subprocess
import sys
from pathlib import Path
from carnelian.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # stands for a full disk
sys.argv[1:] = ["language-model", "build", sys.argv[1], "--order", "3", "--arpa", sys.argv[2], "--memory", "1K"]
main()
"""
    command = [sys.executable, "-c", code, tmp_path / "text.txt", tmp_path / "lm.arpa"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("carnelian:")]
    assert "no temporary file can be written there (File too large)" in line and "Traceback" not in done.stderr


def test_sizes():
    assert [size_in_bytes(size) for size in ("100", "2K", "1.5M", "4G", "1 GiB")] == [
        100,
        2048,
        3 << 19,
        4 << 30,
        1 << 30,
    ]
