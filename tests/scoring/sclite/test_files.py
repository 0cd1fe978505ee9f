"""STM, CTM, TRN and GLM files: read, written, refused."""

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnelian.errors import ScoringError
from carnelian.scoring.sclite.ctm import CtmWord, read_ctm, write_ctm
from carnelian.scoring.sclite.glm import map_ctm, map_stm, read_glm
from carnelian.scoring.sclite.stm import StmSegment, read_stm, write_stm
from carnelian.scoring.sclite.trn import read_trn, speaker_of, write_trn

GLM = """;; rules of the test
* name "test.glm"
* format = 'NIST1'
* case_sensitive = 'F'
UH      =>  %HESITATION     / [ ] __ [ ] ;; hesitation
UM      =>  %HESITATION     / [ ] __ [ ]
UH-HUH  =>  %BCACK     / [ ] __ [ ]
CANCELLED => CANCELED ;; spelling
MR      => MISTER / [ ] __ [ ]
GONNA   => GOING TO
BINYAMIN => BENJAMIN / __ [ NETANYAHU]
;; INPUT_DEPENDENT_APPLICATION = "ctm"
[HE'S] => [{HE IS / HE HAS}] / [ ] __ [ ]
"""
LINES = [
    "uh Uh um he's gone",
    "uh-huh mr cancelled uh",
    "binyamin netanyahu binyamin (uh huh) a-b -frag frag- mid-day",
    "gonna",
]


@pytest.fixture
def glm(tmp_path):
    path = tmp_path / "test.glm"
    path.write_text(GLM)
    return path


def test_rules_by_hand(glm):
    reference = read_glm(glm, ("stm", "ref"))
    assert reference.name == "test.glm"
    assert reference.transcript(LINES[0]) == "%HESITATION %HESITATION %HESITATION HE'S GONE"
    assert reference.transcript(LINES[2]) == ("BENJAMIN NETANYAHU BINYAMIN (%HESITATION) (HUH) A-B -FRAG FRAG- MID-DAY")
    assert reference.transcript("mid-day frag- -frag", split_hyphens=True) == "MID DAY FRAG- -FRAG"
    words = [CtmWord("r", "1", 1.0, 0.5, "he's", 0.9), CtmWord("r", "1", 2.0, 0.5, "gonna")]
    mapped = map_ctm(words, read_glm(glm, ("ctm", "hyp")))
    assert [word.word for word in mapped] == (
        ["<ALT_BEGIN>", "HE", "IS", "<ALT>", "HE", "HAS", "<ALT_END>", "GOING", "TO"]
    )
    assert [(word.start, word.duration) for word in mapped if not word.mark][-2:] == [(2.0, 0.25), (2.25, 0.25)]


@pytest.mark.skipif(not shutil.which("sctk"), reason="NIST's csrfilt is not installed (Debian: apt-get install sctk)")
@pytest.mark.parametrize("hyphens", [False, True])
def test_rules_beside_the_program(glm, tmp_path, hyphens):
    (tmp_path / "r.stm").write_text("".join(f"r 1 s {n} {n + 1} <o> {text}\n" for n, text in enumerate(LINES)))
    words = [word for text in LINES for word in text.split() if not set(word) & set("()")]
    (tmp_path / "r.ctm").write_text("".join(f"r 1 {n} 0.55 {word} 0.5\n" for n, word in enumerate(words)))
    for kind, purpose in (("stm", "ref"), ("ctm", "hyp")):
        command = ["sctk", "csrfilt.sh", *(["-dh"] if hyphens else []), "-i", kind, "-t", purpose, str(glm)]
        with (tmp_path / f"r.{kind}").open() as given_lines, (tmp_path / f"out.{kind}").open("w") as out:
            subprocess.run(command, stdin=given_lines, stdout=out, check=True)
    mapped = map_stm(read_stm(tmp_path / "r.stm"), read_glm(glm, ("stm", "ref")), split_hyphens=hyphens)
    told = [" ".join(each.text.split()) for each in read_stm(tmp_path / "out.stm").segments]
    assert [each.text for each in mapped.segments] == told
    found = map_ctm(read_ctm(tmp_path / "r.ctm"), read_glm(glm, ("ctm", "hyp")), split_hyphens=hyphens)
    assert [(w.start, w.duration, w.word) for w in found] == [
        (w.start, w.duration, w.word) for w in read_ctm(tmp_path / "out.ctm")
    ]


NAMES = st.text(alphabet="abcAB_09-", min_size=1, max_size=6)
TIMES = st.integers(0, 10_000_000).map(lambda number: number / 1000)
TEXTS = st.lists(st.text(alphabet="abcé'{}()/", min_size=1, max_size=5), max_size=5).map(" ".join)


@given(st.lists(st.builds(StmSegment, NAMES, NAMES, NAMES, TIMES, TIMES, TEXTS, st.sampled_from([(), ("o", "m")]))))
@settings(deadline=None)
def test_segments_written_are_those_read(tmp_path_factory, segments):
    path = tmp_path_factory.mktemp("stm") / "a.stm"
    segments = sorted(segments, key=lambda each: (each.recording, each.channel, each.start))
    write_stm(path, segments)
    assert list(read_stm(path).segments) == segments


@given(
    st.lists(
        st.builds(
            CtmWord, NAMES, NAMES, TIMES, TIMES, st.text("abé'", min_size=1, max_size=4), st.sampled_from([None, 0.5])
        )
    )
)
@settings(deadline=None)
def test_words_written_are_those_read(tmp_path_factory, words):
    path = tmp_path_factory.mktemp("ctm") / "a.ctm"
    write_ctm(path, words)
    assert read_ctm(path) == words


def test_transcripts(tmp_path):
    write_trn(tmp_path / "a.trn", [("s1-1", "one (uh) two"), ("s2_1", "")])
    assert read_trn(tmp_path / "a.trn") == {"s1-1": "one (uh) two", "s2_1": ""}
    assert [speaker_of(name) for name in ("s1-1", "s2_1", "alone")] == ["s1", "s2", "alone"]
    assert speaker_of("4t0c0201", "wsj") == "4t0"


@pytest.mark.parametrize(
    "read, text, told",
    [
        (read_stm, "rec A spk 0.0\n", ':1: "rec A spk 0.0" is no STM line'),
        (read_stm, ";; fine\n\nrec A spk x 1 words\n", ":3: "),
        (read_ctm, "rec A 0.0 word\n", "is no CTM line"),
        (read_ctm, "rec A 0.0 0.1 word sure\n", "is no CTM line"),
        (read_ctm, "r A 0 1 a\nr A * * <ALT>\n", ":2: alternates out of turn"),
        (read_ctm, "r A * * <ALT_BEGIN>\nr B 0 1 a\n", ":2: alternates out of turn"),
        (read_ctm, "r A * * <ALT_BEGIN>\nr A 0 1 a\n", "the last <ALT_BEGIN> has no <ALT_END>"),
        (read_ctm, "r A nan 1 a\n", "is no CTM line"),
        (read_stm, "r A s 0 1e999 a\n", "is no STM line"),
        (read_trn, "words without a name\n", "names no utterance"),
        (read_trn, "one (a)\ntwo (a)\n", ":2: (a) is there twice"),
    ],
)
def test_lines_that_are_none_are_named(tmp_path, read, text, told):
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(ScoringError) as raised:
        read(path)
    assert told in str(raised.value) and "\n" not in str(raised.value)


def test_files_that_cannot_be_read(tmp_path, glm):
    with pytest.raises(ScoringError, match="cannot be read"):
        read_trn(tmp_path / "none")
    (tmp_path / "latin").write_bytes("Málaga (a)".encode("latin-1"))
    with pytest.raises(ScoringError, match="byte 0xe1 at 1 is not utf-8"):
        read_trn(tmp_path / "latin")
    assert read_trn(tmp_path / "latin", "latin-1") == {"a": "Málaga"}
    with pytest.raises(ScoringError, match="no such encoding"):
        read_trn(tmp_path / "latin", "klingon")
    glm.write_text(";; x\nUH HESITATION\n")
    with pytest.raises(ScoringError, match="has no arrow"):
        read_glm(glm, ("stm",))
