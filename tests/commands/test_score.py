"""`carnelian score` on files of every origin."""

import json
import shutil

import pytest

from carnelian.commands.sclite_options import ScliteOptions
from carnelian.commands.score import score
from carnelian.commands.scoring_options import ScoringOptions
from carnelian.errors import CarnelianError, ScoringError

REFERENCES = {"s1-a": "the cat sat", "s1-b": "on a mat", "s2-a": "hello"}
HYPOTHESES = {"s1-a": "the hat sat", "s1-b": "on mat", "s2-a": "hello there"}


def lines(kind, texts, hypothesis=False):
    if kind == "trn":
        return "".join(f"{text} ({name})\n" for name, text in texts.items())
    if kind in ("tsv", "kaldi"):
        return "".join(f"{name}{chr(9) if kind == 'tsv' else ' '}{text}\n" for name, text in texts.items())
    if kind == "jsonl":
        key = "pred_text" if hypothesis else "text"
        return "".join(
            json.dumps({"audio_filepath": f"/x/{name}.wav", key: text}) + "\n" for name, text in texts.items()
        )
    return "".join(f"{text}\n" for text in texts.values())


def scored(capsys, *given, **settings):
    score(*given, json_output=True, **settings)
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kind", ["trn", "tsv", "kaldi", "jsonl", "txt"])
def test_every_format_gives_the_same_counts(tmp_path, capsys, kind):
    name = "text" if kind == "kaldi" else f"file.{kind}"
    for side, texts in (("ref", REFERENCES), ("hyp", HYPOTHESES)):
        (tmp_path / side).mkdir()
        (tmp_path / side / name).write_text(lines(kind, texts, side == "hyp"))
    found = scored(capsys, tmp_path / "ref" / name, tmp_path / "hyp" / name)
    assert (found["substitutions"], found["deletions"], found["insertions"], found["words"]) == (1, 1, 1, 7)
    if kind == "trn":
        assert {name: each["errors"] for name, each in found["speakers"].items()} == {"s1": 2, "s2": 1}


def test_formats_may_differ_and_names_decide(tmp_path, capsys):
    (tmp_path / "ref.jsonl").write_text(lines("jsonl", REFERENCES))
    backwards = dict(reversed(HYPOTHESES.items()))
    (tmp_path / "hyp.tsv").write_text(lines("tsv", backwards))
    assert scored(capsys, tmp_path / "ref.jsonl", tmp_path / "hyp.tsv")["wer"] == pytest.approx(3 / 7)
    (tmp_path / "hyp.tsv").write_text(lines("tsv", {"s1-b": "on mat"}))
    score(tmp_path / "ref.jsonl", tmp_path / "hyp.tsv")
    told = capsys.readouterr()
    assert "2 of 3 references have no hypothesis; all their words count as deleted" in told.err
    (tmp_path / "hyp.tsv").write_text(lines("tsv", {"s1-b": "on mat", "s9": "more"}))
    with pytest.raises(ScoringError, match=r'1 utterances have no reference .* the first is "s9"'):
        score(tmp_path / "ref.jsonl", tmp_path / "hyp.tsv")


def test_one_file_may_hold_both(tmp_path, capsys):
    rows = [
        {"text": REFERENCES[name], "hypothesis": HYPOTHESES[name], "speaker": name[:2], "id": name}
        for name in REFERENCES
    ]
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = scored(capsys, path)
    assert found["wer"] == pytest.approx(3 / 7) and found["normalization"] == "none"
    assert found["speakers"]["s2"]["errors"] == 1
    path.write_text(json.dumps(rows))
    assert scored(capsys, path)["wer"] == pytest.approx(3 / 7)


def test_hypotheses_must_be_somewhere(tmp_path):
    (tmp_path / "a.txt").write_text("one two\n")
    with pytest.raises(ScoringError, match="no hypotheses"):
        score(tmp_path / "a.txt")
    (tmp_path / "a.jsonl").write_text('{"text": "one two"}\n')
    with pytest.raises(ScoringError, match='"pred_text"'):
        score(tmp_path / "a.jsonl")


def test_normalisation_is_named(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("Open the window, Mr. Smith.\n\nIt's 5 p.m.\n")
    (tmp_path / "b.txt").write_text("open the window mister smith\n\nit's five p m\n")
    files = tmp_path / "a.txt", tmp_path / "b.txt"
    assert scored(capsys, *files)["wer"] > 0.5
    found = scored(capsys, *files, scoring=ScoringOptions(normalize="en"))
    assert (found["wer"], found["normalization"]) == (0, "en 1")
    (tmp_path / "b.txt").write_text("open the window mister smith\n\nits five p m\n")
    assert scored(capsys, *files, scoring=ScoringOptions(normalize="en"))["substitutions"] == 1
    score(*files, scoring=ScoringOptions(normalize="en", merge_compounds=True))
    assert "normalisation: en 1, compounds merged" in capsys.readouterr().out.replace("\n", " ")
    with pytest.raises(CarnelianError, match="no such normalisation"):
        ScoringOptions(normalize="english")


def test_what_a_normalisation_would_give_is_said(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("Open the window.\nIt's 5 p.m., Mr. Smith.\n")
    (tmp_path / "b.txt").write_text("open the window\nit's five p m mister smith\n")
    score(tmp_path / "a.txt", tmp_path / "b.txt")
    assert "with --normalize en the word error rate would be 0.00 %" in capsys.readouterr().err
    (tmp_path / "a.txt").write_text("open the window\nit's five p m mister smith\n")
    score(tmp_path / "a.txt", tmp_path / "b.txt")
    assert "--normalize" not in capsys.readouterr().err


def test_names_at_the_start_of_lines_are_no_words(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("u1 one two\nu2 three\n")
    (tmp_path / "b.txt").write_text("u2 three\nu1 one too\n")
    files = tmp_path / "a.txt", tmp_path / "b.txt"
    found = scored(capsys, *files)
    assert (found["words"], found["substitutions"]) == (3, 1)
    assert scored(capsys, *files, reference_format="text", hypothesis_format="text")["words"] == 5


def test_names_may_differ_in_folders_endings_and_capitals(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text(lines("jsonl", {"S1-A": "one two"}))
    (tmp_path / "b.trn").write_text("one too (S1-a)\n")
    assert scored(capsys, tmp_path / "a.jsonl", tmp_path / "b.trn")["substitutions"] == 1


def test_alternates_are_read_once_where_texts_are_normalised(tmp_path, capsys):
    (tmp_path / "a.trn").write_text("{ He is / He's } (uh) here. (s1-1)\n")
    (tmp_path / "b.trn").write_text("he is uh here (s1-1)\n")
    found = scored(capsys, tmp_path / "a.trn", tmp_path / "b.trn", scoring=ScoringOptions(normalize="en"))
    assert (found["wer"], found["words"]) == (0, 4)


def test_rules_of_sclite(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("{ he is / he's } (uh) here wo- UM\n")
    (tmp_path / "b.txt").write_text("he's here word uh\n")
    (tmp_path / "x.glm").write_text(';; x\n* case_sensitive = "F"\nUH => %H / [ ] __ [ ]\nUM => %H / [ ] __ [ ]\n')
    files = tmp_path / "a.txt", tmp_path / "b.txt"
    options = ScliteOptions(glm=tmp_path / "x.glm", deletable=True, fragments=True)
    found = scored(capsys, *files, options=options)
    assert found["wer"] == 0 and found["normalization"] == "sclite -D -F GLM x.glm"
    assert scored(capsys, *files, options=ScliteOptions(sclite=True))["wer"] > 0
    (tmp_path / "x.glm").write_bytes(";; x\nÜH => %H / [ ] __ [ ]\n".encode("latin-1"))
    options = ScliteOptions(glm=tmp_path / "x.glm")
    with pytest.raises(ScoringError, match="Give --encoding"):
        score(*files, options=options)
    assert scored(capsys, *files, options=options, encoding="latin-1")["wer"] > 0
    with pytest.raises(ScoringError, match="do not go with"):
        score(*files, options=options, scoring=ScoringOptions(normalize="en"))
    with pytest.raises(ScoringError, match=r"--case maybe: not known\. Take one of fold, ascii, keep"):
        score(*files, options=ScliteOptions(case="maybe"))


def test_characters_are_joined_by_a_list(tmp_path, capsys):
    (tmp_path / "a.trn").write_text("日本 語 (s1-1)\n")
    (tmp_path / "b.trn").write_text("日 本語 (s1-1)\n")
    (tmp_path / "words").write_text("日本\n")
    files = tmp_path / "a.trn", tmp_path / "b.trn"
    assert scored(capsys, *files)["wer"] == 1
    found = scored(capsys, *files, options=ScliteOptions(lexicon=tmp_path / "words"))
    assert found["wer"] == 0 and "lexicon" in found["normalization"]
    (tmp_path / "words").write_text("\n")
    with pytest.raises(ScoringError, match="no words"):
        score(*files, options=ScliteOptions(lexicon=tmp_path / "words"))
    with pytest.raises(ScoringError, match="--segment middle: not known"):
        score(*files, options=ScliteOptions(segment="middle"))


ARPA = (
    "\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-1 <unk>\n-0.30103 a -0.1\n-0.60206 b\n-9 </s>\n\n"
    "\\2-grams:\n-0.90309 a b\n\n\\end\\\n"
)


def test_words_may_be_weighted(tmp_path, capsys):
    (tmp_path / "a.trn").write_text("a b (s1-1)\n")
    (tmp_path / "b.trn").write_text("a (s1-1)\n")
    (tmp_path / "list").write_text(";; Default missing weight '7'\na 3\n")
    files = tmp_path / "a.trn", tmp_path / "b.trn"
    assert scored(capsys, *files, options=ScliteOptions(word_weights=tmp_path / "list"))["weighted_wer"] == 0.7
    (tmp_path / "model.arpa").write_text(ARPA)  # a has 1 bit, b after a has 3
    options = ScliteOptions(word_weights=tmp_path / "model.arpa")
    assert scored(capsys, *files, options=options)["weighted_wer"] == pytest.approx(3 / 4, abs=1e-6)
    score(*files, options=options)
    assert "by the words' weights: WER 75.00 %" in capsys.readouterr().out
    (tmp_path / "b.trn").write_text("a b zebra (s1-1)\n")
    assert scored(capsys, *files, options=options)["weighted_wer"] == pytest.approx(20 / 4, abs=1e-6)
    (tmp_path / "list").write_text("a much\n")
    with pytest.raises(ScoringError, match=r':1: "a much" gives no weight'):
        score(*files, options=ScliteOptions(word_weights=tmp_path / "list"))
    with pytest.raises(ScoringError, match="--word-weights does not go with"):
        score(*files, options=ScliteOptions(word_weights=tmp_path / "list", characters="all"))
    with pytest.raises(ScoringError, match="no such file"):
        score(*files, options=ScliteOptions(word_weights=tmp_path / "none"))


@pytest.mark.skipif(not shutil.which("diff"), reason="GNU diff is not installed")
def test_text_beside_segments(tmp_path, capsys, monkeypatch):
    (tmp_path / "a.stm").write_text("r 1 s1 0 1 <o> the { cat / dog } sat\nr 1 s2 1 2 <o> on a mat\n")
    (tmp_path / "b.txt").write_text("well the cat sat\nat a mat please\n")
    files = tmp_path / "a.stm", tmp_path / "b.txt"
    found = scored(capsys, *files, options=ScliteOptions(sclite=True))
    assert (found["words"], found["substitutions"], found["insertions"]) == (6, 1, 2)
    assert {name: each["errors"] for name, each in found["speakers"].items()} == {"s1": 1, "s2": 2}
    with pytest.raises(ScoringError, match="aligned with STM by GNU diff, which knows no such rules"):
        score(*files, options=ScliteOptions(sclite=True, fragments=True))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ScoringError, match="GNU diff, which is not installed"):
        score(*files, options=ScliteOptions(sclite=True))


def test_segments_and_subsets(shared, tmp_path, capsys):
    folder = shared("scoring/sctk") / "sclite_testdata"
    out = tmp_path / "lines.jsonl"
    found = scored(capsys, folder / "lvc_ref.stm", folder / "lvc_hyp.ctm", out=out)
    assert (found["words"], found["hits"], found["insertions"]) == (1779, 1013, 171)
    assert set(found["subsets"]) == {"Overall", "With Alt", "NO Alt"}
    assert len(out.read_text().splitlines()) == 61
    with pytest.raises(CarnelianError, match="exists"):
        score(folder / "lvc_ref.stm", folder / "lvc_hyp.ctm", out=out)


@pytest.mark.parametrize(
    "first, second, told",
    [
        ("one\ntwo\n", "one\n", "1 lines, .* has 2"),
        ("\n\n", "one\n", "a: it has no words"),
        ('{"a": 1}\n', "x\n", "no text. Expected one of the keys"),
        ('{"text": \n', "x\n", ":1: not JSON"),
        ("a\tone\na\ttwo\n", "a\tone\n", '"a" is there twice'),
    ],
)
def test_files_that_cannot_be_scored(tmp_path, first, second, told):
    (tmp_path / "a").write_text(first)
    (tmp_path / "b").write_text(second)
    with pytest.raises(ScoringError, match=told):
        score(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ScoringError, match="cannot be read"):
        score(tmp_path / "a", tmp_path / "none")
    with pytest.raises(ScoringError, match='format "xls": not known'):
        score(tmp_path / "a", tmp_path / "b", reference_format="xls")


def test_a_file_may_be_scored_against_itself(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("she said\nwhat\n")
    score(tmp_path / "a.txt", tmp_path / "a.txt", json_output=True)
    assert json.loads(capsys.readouterr().out)["wer"] == 0
