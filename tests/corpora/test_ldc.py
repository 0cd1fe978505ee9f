"""WSJ, Hub5'00, Switchboard-1 and Fisher from small trees in the discs' layouts, with the transcripts' real oddities."""

import json

import numpy as np
import pytest
import torch
from shorten import encoded, sphere

from carnelian.checkpoint import Checkpoint, save_checkpoint
from carnelian.corpora.ldc.fisher import fisher, spell_fisher
from carnelian.corpora.ldc.hub5 import hub5, hub5_references, spell_hub5
from carnelian.corpora.ldc.switchboard import spell_ms98, switchboard
from carnelian.corpora.ldc.wsj import spell_wsj, wsj
from carnelian.data.alphabet import Alphabet
from carnelian.data.audio import load_audio
from carnelian.data.utterance import read_manifest
from carnelian.errors import ManifestError
from carnelian.models.registry import build_model

WSJ = {  # disc: the recordings on it
    "11-1.1": ["wsj0/si_tr_s/01i/01ia010b"],
    "11-2.1": ["wsj0/si_tr_s/401/401c0201", "wsj0/si_tr_s/406/406c0202"],
    "11-14.1": ["wsj0/si_et_20/440/440c0401", "wsj0/si_et_05/441/441c0201"],
    "13-1.1": ["wsj1/si_tr_s/46c/46cc0301"],
    "13-16.1": ["wsj1/si_dt_20/4k0/4k0c0301", "wsj1/si_dt_05/050/050c0501"],
    "13-33.1": ["wsj1/si_et_20/4oa/4oac0201", "wsj1/si_et_05/4n0/4n0c0201"],
}
INDICES = {
    "11-13.1/wsj0/doc/indices/train/tr_s_wv1.ndx": "11_1_1: wsj0/si_tr_s/01i/01ia010b.wv1\n"
    "11_2_1: wsj0/si_tr_s/401/401c0201.wv1\n11_2_1: wsj0/si_tr_s/406/406c0202.wv1\n",
    "11-13.1/wsj0/doc/indices/test/nvp/si_et_20.ndx": "11_14_1:wsj0/si_et_20/440/440c0401\n",
    "11-13.1/wsj0/doc/indices/test/nvp/si_et_05.ndx": "11_14_1:wsj0/si_et_05/441/441c0201\n",
    "13-34.1/wsj1/doc/indices/si_tr_s.ndx": "13_1_1:wsj1/si_tr_s/46c/46cc0301.wv1\n",
    "13-34.1/wsj1/doc/indices/h1_p0.ndx": "13_16_1:wsj1/si_dt_20/4k0/4k0c0301.wv1\n",
    "13-34.1/wsj1/doc/indices/h2_p0.ndx": "13_16_1:wsj1/si_dt_05/050/050c0501.wv1\n",
    "13-32.1/wsj1/doc/indices/wsj1/eval/h1_p0.ndx": "13_32_1:wsj1/si_et_20/4oa/4oac0201.wv1\n",  # the wrong disc
    "13-32.1/wsj1/doc/indices/wsj1/eval/h2_p0.ndx": "13_32_1:wsj1/si_et_05/4n0/4n0c0201.wv1\n",
}
COMMENT = ";; all indices begin with lines like this one\n;;\n"


def build_wsj(root, wv1, change=lambda path: path):
    for disc, recordings in WSJ.items():
        for name in recordings:
            stem = name.split("/")[-1]
            wv1(root / change(f"{disc}/{name}.wv1"), stem[-4:])
            (root / change(f"{disc}/{name}.wv2")).write_bytes(b"the far microphone")
            dot = root / change(f"{disc}/{name[:-2]}00.dot")
            dot.write_text(
                f'\\"DOUBLE\\-QUOTE The number [<door_slam] is %PERCENT [door_slam>] four .POINT two ({stem})\n'
            )
    for name, lines in INDICES.items():
        path = root / change(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(COMMENT + lines)


def discs_a(path):
    return path


def discs_b(path):  # underscores instead of dashes
    disc, _, rest = path.partition("/")
    return f"LDC/{disc.replace('-', '_')}/{rest}"


def copied_in_capitals(path):  # as an ISO 9660 disc may come out
    disc, _, rest = path.partition("/")
    return f"{disc}/{rest.upper()}"


def merged(path):  # all discs copied over each other, below a folder that is itself called wsj0
    return "wsj0/all/" + path.partition("/")[2]


@pytest.mark.parametrize("edition", [discs_a, discs_b, copied_in_capitals, merged])
def test_wsj_s_subsets_by_its_index_files(tmp_path, wv1, edition):
    build_wsj(tmp_path, wv1, edition)
    subsets = {name: list(utterances) for name, utterances in wsj(tmp_path).items()}
    names = {subset: [each.more["id"] for each in utterances] for subset, utterances in subsets.items()}
    assert names == {
        "si84": ["01ia010b", "406c0202"],  # without speaker 401
        "si284": ["01ia010b", "406c0202", "46cc0301"],
        "dev93": ["4k0c0301"],
        "dev93_5k": ["050c0501"],
        "eval92": ["440c0401"],
        "eval92_5k": ["441c0201"],
        "eval93": ["4oac0201"],
        "eval93_5k": ["4n0c0201"],
    }
    (first,) = subsets["eval92"]
    assert first.text == "doublequote the number is percent four point two" and first.more["speaker"] == "440"
    audio = load_audio(first, 16000)
    assert len(audio) > 4000 and np.abs(audio).max() > 0.01


@pytest.mark.parametrize(
    ("dot", "words"),
    [
        ("The female produces a litter of two to four young in November and December", None),
        ("Mister Dooley added ,COMMA it 's so -HYPHEN called", "mister dooley added comma it 's so hyphen called"),
        ("[tongue_click] SALES ROSE ~ [/paper_rustle] SIX [paper_rustle/]", "sales rose six"),
        ("the <FOR->  for *example* !now Ja:pan --DASH the `quote'", "the for for example now japan dash the 'quote'"),
        (r"A\. C\. Nielsen Corp; . ~~ rose", "a c nielsen corp rose"),
        ("(IN-PARENTHESIS so it goes )CLOSE-PAREN", "inparentheses so it goes closeparen"),
    ],
)  # fmt: skip
def test_wsj_s_spelling(dot, words):
    assert spell_wsj(dot) == (dot.lower() if words is None else words)


def test_wsj_s_missing_discs_and_transcripts_are_named(tmp_path, wv1, capsys):
    build_wsj(tmp_path, wv1)
    for path in (tmp_path / "11-2.1").rglob("*.wv1"):
        path.unlink()
    (tmp_path / "13-16.1/wsj1/si_dt_20/4k0/4k0c0300.dot").unlink()
    (tmp_path / "13-34.1/wsj1/doc/indices/h2_p0.ndx").unlink()
    subsets = wsj(tmp_path)
    assert "dev93_5k" not in subsets and not list(subsets["dev93"])
    assert [each.more["id"] for each in subsets["si84"]] == ["01ia010b"]
    said = capsys.readouterr().err
    assert "dev93_5k (wsj1/doc/indices/h2_p0.ndx)" in said
    assert "si84: 1 recordings of disc 11-2.1 are not there" in said
    assert "dev93: 1 recordings have no line in a .dot file and are left out: 4k0c0301" in said


def test_wsj_by_command(tmp_path, wv1, run):
    build_wsj(tmp_path / "discs", wv1)
    code, printed = run("prepare", "wsj", tmp_path / "discs", tmp_path / "out")
    assert code == 0 and "si284: 3 utterances, published are 37,416, 37,413 are missing" in printed.err
    assert len(list(read_manifest(tmp_path / "out" / "si284.jsonl"))) == 3


STM = """;; CATEGORY "0" "" ""
;; LABEL "O" "Overall" "Overall"
;; LABEL "EN" "CallHome" "CallHome"
sw_4390 A sw_4390_A 0.50 1.50 <O,en,M,sw-M> (%HESITATION) I { GONNA / GOING TO } go-
sw_4390 A sw_4390_A 1.60 2.40 <O,en,M,sw-M> ((UH-HUH) <B_ASIDE> YES <E_ASIDE>
sw_4390 B sw_4390_B 2.00 3.00 <O,en,F,sw-F> IGNORE_TIME_SEGMENT_IN_SCORING
sw_4390 B sw_4390_B 3.00 3.50 <O,en,F,sw-F> IT'S {@ / NOT} FINE
en_4156 A en_4156_A 0.10 1.00 <O,en,F,en-F> HE IS A POLICE OFFICER
"""


@pytest.fixture
def hub5_discs(tmp_path, call):
    english = tmp_path / "LDC2002S09" / "hub5e_00" / "english"
    call(english / "sw_4390.sph")
    call(english / "en_4156.sph")
    pem = "".join(
        " ".join([*line.split()[:2], "unknown_speaker", *line.split()[3:5]]) + "\n" for line in STM.splitlines()[3:]
    )
    (english / "hub5e_00.pem").write_text(";; segments\n" + pem)
    reference = tmp_path / "LDC2002T43" / "2000_hub5_eng_eval_tr" / "reference"
    reference.mkdir(parents=True)
    (reference / "hub5e00.english.000405.stm").write_text(STM)
    (reference / "en20000405_hub5.glm").write_text(";; GLM\nUH => %HESITATION\n")
    return tmp_path


def test_hub5_s_segments_sides_and_subsets(hub5_discs, capsys):
    subsets = {name: list(utterances) for name, utterances in hub5(hub5_discs).items()}
    assert {name: len(utterances) for name, utterances in subsets.items()} == {"eval2000": 4, "swbd": 3, "callhome": 1}
    first, second, other = subsets["swbd"]
    assert first.text == "uh i gonna go" and second.text == "uh huh yes" and other.text == "it's fine"
    assert first.more == {"id": "sw_4390-A_000050-000150", "speaker": "sw_4390-A", "channel": 0}
    assert (first.offset, first.offset + first.duration) == pytest.approx((0.4, 1.55))  # the gap to the next is shared
    assert second.offset == pytest.approx(1.55) and other.more["channel"] == 1
    assert np.abs(load_audio(other, 8000)).max() > 0.01
    assert not capsys.readouterr().err


def test_hub5_s_references_are_mended_and_written(hub5_discs, tmp_path, run):
    files = hub5_references(hub5_discs)
    assert (
        "ASIDE" not in files["eval2000.stm"]
        and "((" not in files["eval2000.stm"]
        and ';; LABEL "EN"' in files["eval2000.stm"]
    )
    out = tmp_path / "out"
    code, printed = run("prepare", "hub5", hub5_discs, out)
    assert code == 0 and "swbd: 3 utterances, published are 1,831" in printed.err
    assert {path.name for path in out.iterdir()} == {
        *("eval2000.jsonl", "swbd.jsonl", "callhome.jsonl"),
        *("eval2000.stm", "eval2000.glm"),
    }


def test_hub5_says_what_does_not_fit(hub5_discs, capsys):
    (hub5_discs / "LDC2002S09/hub5e_00/english/en_4156.sph").unlink()
    pem = hub5_discs / "LDC2002S09/hub5e_00/english/hub5e_00.pem"
    pem.write_text(pem.read_text() + "sw_4390 B unknown_speaker 3.60 3.90\n")
    hub5(hub5_discs)
    said = capsys.readouterr().err
    assert "1 recordings of the transcripts are not there: en_4156" in said
    assert "1 segments are not in the STM, 0 of the STM not here" in said


def test_hub5_s_spelling():
    assert spell_hub5("(%HESITATION) { THEM / 'EM } (%AH) MM-HMM (I-) T. V.") == "uh them ah mm hmm i t v"


def test_hub5_from_discs_to_a_score(hub5_discs, tmp_path, run):
    """A CTM that `transcribe` writes of the manifest is scored by the STM and GLM that `prepare` wrote."""
    torch.manual_seed(0)
    letters = Alphabet(" abcdefghijklmnopqrstuvwxyz'")
    blocks = [{"channels": 16, "kernel": 11, "stride": 2}]
    features = {"name": "log_mel", "sample_rate": 8000}
    recipe = {"features": features, "encoder": {"name": "convolutional", "blocks": blocks}}
    weights = build_model(recipe, letters).state_dict()
    save_checkpoint(
        tmp_path / "nonsense.safetensors", Checkpoint(weights, letters, {"task": "acoustic", **recipe}, 0, {})
    )
    out = tmp_path / "out"
    run("prepare", "hub5", hub5_discs, out)
    words = [tmp_path / "nonsense.safetensors", out / "eval2000.jsonl", "--format", "ctm", "--out", out / "found.ctm"]
    code, printed = run("transcribe", *words)
    assert code == 0, printed.err
    rows = [line.split() for line in (out / "found.ctm").read_text().splitlines()]
    assert {(row[0], row[1]) for row in rows} <= {("sw_4390", "A"), ("sw_4390", "B"), ("en_4156", "A")} and rows
    assert all(0 <= float(row[2]) < 4 for row in rows)
    glm = ["--glm", out / "eval2000.glm", "--split-hyphens", "--deletable", "--fragments"]
    code, printed = run("score", out / "eval2000.stm", out / "found.ctm", *glm, "--json-output")
    assert code == 0, printed.err
    figures = json.loads(printed.out)
    assert (figures["utterances"], figures["words"]) == (4, 14)
    assert set(figures["speakers"]) == {"sw_4390_a", "sw_4390_b", "en_4156_a"}


MS98 = """sw2001A-ms98-a-0001 0.000000 0.500000 [silence]
sw2001A-ms98-a-0002 0.500000 1.500000 hi um yeah i'd like [laughter-to] talk <b_aside> about uh-huh <e_aside>
sw2001A-ms98-a-0003 1.500000 2.000000 [noise]
sw2001A-ms98-a-0004 2.000000 3.000000 [it'n/isn't] -[an]y ab[solute]- {yuppiedom} them_1 ammu[n]ition
"""


def test_switchboard_s_sides(tmp_path, call, capsys):
    call(tmp_path / "LDC97S62/swb1_d1/data/sw02001.sph")
    call(tmp_path / "LDC97S62/swb1_d1/data/sw02005.sph")
    for side, lines in (("A", MS98), ("B", MS98.replace("A-ms98-a", "B-ms98-a"))):
        path = tmp_path / f"swb_ms98_transcriptions/20/2001/sw2001{side}-ms98-a-trans.text"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lines)
    (tmp_path / "swb_ms98_transcriptions/20/2001/sw2001A-ms98-a-word.text").write_text("word alignments")
    utterances = list(switchboard(tmp_path)["train"])
    assert [each.text for each in utterances[:2]] == [
        "hi um yeah i'd like to talk about uh huh",
        "it'n y ab yuppiedom them ammu ition",
    ]
    assert [each.more["channel"] for each in utterances] == [0, 0, 1, 1]
    assert utterances[0].more["id"] == "sw02001-A_000050-000150" and utterances[0].offset == 0.5
    said = capsys.readouterr().err
    assert "2 recordings, expected 2,435 or 2,438" in said and "1 recordings have no transcripts: sw02005" in said


@pytest.mark.parametrize(
    ("ms98", "words"),
    [
        ("[laughter-yeah] [laughter-wh-]", "yeah wh"),
        ("[lem[guini]-/linguini] ex[specially]-/especially]", "lem ex"),
        ("[vocalized-noise] [laughter] okay", "okay"),
        ("th[ey]- them_1's", "th them's"),
    ],
)
def test_switchboard_s_spelling(ms98, words):
    assert spell_ms98(ms98) == words


FISHER = """# fe_03_00001.sph
# Transcribed at the LDC

0.50 1.50 A: an- so the topic is [laugh]
1.60 2.00 B: (( i don't )) know
2.10 3.00 B: on t._v. [breath] uh-huh
3.00 3.40 A: [noise]
"""


def test_fisher_s_sides(tmp_path, call, capsys):
    call(tmp_path / "fe_03_p1_sph1/audio/000/fe_03_00001.sph")
    call(tmp_path / "fisher_eng_tr_sp_d1/audio/058/fe_03_05851.sph")
    tran = tmp_path / "fe_03_p1_tran"
    (tran / "data/trans/000").mkdir(parents=True)
    (tran / "data/trans/000/fe_03_00001.txt").write_text(FISHER)
    (tran / "data/trans/000/fe_03_00002.txt").write_text(FISHER)
    (tran / "doc").mkdir()
    (tran / "doc/fe_03_p1_calldata.tbl").write_text(
        "CALL_ID,DATE_TIME,TOPICID,SIG_GRADE,CNV_GRADE,APIN,ASX.DL,APHNUM,APHSET,APHTYP,BPIN\n00001,20021212,ENG01,3,3,2602,F.N,z,1,2,1790\n"
    )
    (tran / "doc/readme.txt").write_text("no transcript")
    utterances = list(fisher(tmp_path)["train"])
    assert [(each.text, each.more["speaker"], each.more["channel"]) for each in utterances] == [
        ("an so the topic is", "2602", 0),
        ("on tv uh huh", "1790", 1),
    ]
    said = capsys.readouterr().err
    assert "1 recordings of part 1, expected 5,850" in said and "1 recordings of part 2, expected 5,849" in said
    assert "1 segments with uncertain words" in said
    assert "transcribed recordings are not there: fe_03_00002" in said
    assert "recordings have no transcripts: fe_03_05851" in said


def test_fisher_s_spelling():
    assert spell_fisher("[[skip]] well [lipsmack] i- i'm [mn] a._b._c.'s fan") == "well i i'm abc's fan"


@pytest.mark.parametrize("corpus", [wsj, hub5, switchboard, fisher])
def test_a_wrong_root_is_one_line(corpus, tmp_path):
    for root, says in ((tmp_path, "found"), (tmp_path / "none", "no such folder")):
        with pytest.raises(ManifestError, match=says) as error:
            corpus(root)
        assert "\n" not in str(error.value) and str(root) in str(error.value)


@pytest.mark.parametrize(
    ("corpus", "name", "line"),
    [
        (switchboard, "sw2001A-ms98-a-trans.text", "sw2001A-ms98-a-0001 zero words"),
        (fisher, "fe_03_00001.txt", "from here to there"),
    ],
)
def test_a_line_that_is_no_transcript(tmp_path, call, corpus, name, line):
    call(tmp_path / ("sw02001.sph" if corpus is switchboard else "fe_03_00001.sph"))
    (tmp_path / name).write_text(line + "\n")
    with pytest.raises(ManifestError, match="expected"):
        list(corpus(tmp_path)["train"])


def test_compressed_calls_are_converted_once(tmp_path, say, run):
    """The same samples from FLAC; calls of one name in two folders stay two."""
    sides = np.stack([np.resize(say(text), 6000) for text in ("hello how are you", "fine")], axis=1)
    content = sphere(encoded(sides, 2), len(sides), 2)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "call.sph").write_bytes(content)
    (tmp_path / "calls.csv").write_text(
        "path,text,channel\none/call.sph,hello,A\none/call.sph,fine,B\ntwo/call.sph,hello,A\n"
    )
    for words in ([], ["--convert"], ["--convert", "--overwrite"]):
        out = tmp_path / ("flac" if words else "plain")
        assert run("prepare", "folder", tmp_path / "calls.csv", out, *words)[0] == 0
    plain, converted = (list(read_manifest(tmp_path / name / "calls.jsonl")) for name in ("plain", "flac"))
    assert {each.audio_filepath[-5:] for each in converted} == {".flac"}
    assert len({each.audio_filepath for each in converted}) == len(list((tmp_path / "flac" / "audio").iterdir())) == 2
    for before, after in zip(plain, converted, strict=True):
        np.testing.assert_array_equal(load_audio(before, 8000), load_audio(after, 8000))
