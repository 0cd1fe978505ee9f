"""Counts beside the outputs of NIST's sclite: those that come with SCTK, and those of the program where it is installed."""

import random
import re
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnelian.errors import ScoringError
from carnelian.scoring.sclite.alignment import ScliteRules, align_items
from carnelian.scoring.sclite.ctm import read_ctm
from carnelian.scoring.sclite.ctm_pairs import score_ctm
from carnelian.scoring.sclite.network import NetworkWord, parse_transcript
from carnelian.scoring.sclite.scorer import edits_of, per_label, per_speaker, score_stm, score_trn
from carnelian.scoring.sclite.stm import StmFile, read_stm
from carnelian.scoring.sclite.trn import read_trn

SCORES = re.compile(r"^id: \((.*)\)\n(?:(?:Labels|File|Channel).*\n)*Scores: \(#C #S #D #I\) ([\d ]+)$", re.MULTILINE)
FREE = ScliteRules(deletable=True, fragments=True)
TRANSCRIPTS = {
    "test1": ("csrnab", "wsj", ScliteRules()),
    "test8": ("csrnab1", "wsj", ScliteRules(characters="all")),
    "test7": ("tests", "spu_id", FREE),
    "test7_noD": ("tests", "spu_id", ScliteRules(fragments=True)),
    "test7_5": ("tests", "spu_id", ScliteRules(characters="all", drop_hyphens=True)),
    "test15_c": ("test.turkish", "spu_id", ScliteRules()),
    "test15_d": ("test.ukranian", "spu_id", ScliteRules()),
    "test7-utf8-2bytes": ("tests .utf8-2bytes", "spu_id", ScliteRules(deletable=True, fragments=True, case="ascii")),
    "test7-utf8-3bytes": ("tests .utf8-3bytes", "spu_id", FREE),
    "test7-utf8-4bytes": ("tests .utf8-4bytes", "spu_id", FREE),
}
BOTH = {"reduce_reference": True, "reduce_hypothesis": True}
MISSING = ["missall", "missfile1", "missfile1chanA", "missfile1chanb", "missfile2", "missfile2chanA", "missfile2chanB"]
TIMED = {
    "test3": ("lvc_ref", "lvc_hyp", {}),
    "test3a": ("lvc_refe", "lvc_hyp", {}),
    "test14_a": ("lvc_refr", "lvc_hypr", BOTH),
    "test14_b": ("lvc_ref", "lvc_hypr", BOTH),
    "test14_c": ("lvc_refr", "lvc_hyp", BOTH),
    "test14_d": ("lvc_refr", "lvc_hypr", {"reduce_hypothesis": True}),
    "test14_e": ("lvc_refr", "lvc_hypr", {"reduce_reference": True}),
    "test15_a": ("test.cantonese", "test.cantonese", {}),
    **{
        f"test16_{number}": ("stm2ctm_missing.ref", f"stm2ctm_missing.hyp-{name}", {})
        for number, name in enumerate(MISSING, 2)
    },
    "test16_9": ("stm2ctm_missing.ref", "stm2ctm_missing.hyp", {}),
}


def counts(segments):
    """Hits, substitutions, deletions and insertions by utterance."""
    errors = {each.name: each.errors for each in segments}
    return {name: (e.hits, e.substitutions, e.deletions, e.insertions) for name, e in errors.items()}


def expected(path):
    text = path.read_text(encoding="utf-8", errors="replace")
    return {name: tuple(map(int, figures.split())) for name, figures in SCORES.findall(text)}


@pytest.fixture(scope="session")
def sctk(shared):
    return shared("scoring/sctk") / "sclite_testdata"


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcripts(sctk, name):
    files, speakers, rules = TRANSCRIPTS[name]
    stem, _, ending = files.partition(" ")
    references, hypotheses = (read_trn(sctk / f"{stem}.{side}{ending}") for side in ("ref", "hyp"))
    references = {key: text for key, text in references.items() if key in hypotheses}
    found = score_trn(references, hypotheses, rules, speakers=speakers)
    assert counts(found) == expected(sctk / "base" / f"{name}.pra")


def test_both_sides_may_have_alternates(sctk):
    hypotheses, references = (read_trn(sctk / f"tests.{side}") for side in ("ref", "hyp"))
    references = {key: text for key, text in references.items() if key in hypotheses}
    hypotheses = {key: text for key, text in hypotheses.items() if key in references}
    assert counts(score_trn(references, hypotheses, FREE)) == expected(sctk / "base" / "test7_r.pra")


@pytest.mark.parametrize("name", TIMED)
def test_timed_words_in_segments(sctk, name):
    reference, words, settings = TIMED[name]
    found = score_stm(read_stm(sctk / f"{reference}.stm"), read_ctm(sctk / f"{words}.ctm"), **settings)
    assert counts(found) == expected(sctk / "base" / f"{name}.pra")


@pytest.mark.parametrize(
    "name, rules",
    {
        "test9": ScliteRules(characters="all"),
        "test9_1": ScliteRules(characters="all", drop_hyphens=True),
        "test10": ScliteRules(characters="non-ascii"),
        "test10_1": ScliteRules(characters="non-ascii", drop_hyphens=True),
    }.items(),
)
def test_characters_of_mandarin(sctk, name, rules):
    reference, words = read_stm(sctk / "mand_ref.stm", "gb18030"), read_ctm(sctk / "mand_hyp.ctm", "gb18030")
    assert counts(score_stm(reference, words, rules)) == expected(sctk / "base" / f"{name}.pra")


@pytest.mark.parametrize(
    "name, rules",
    {
        "test13": ScliteRules(),
        "test13_D": ScliteRules(deletable=True),
        "test13_a": ScliteRules(time_mediated=True),
        "test13_aD": ScliteRules(time_mediated=True, deletable=True),
    }.items(),
)
def test_timed_words_beside_timed_words(sctk, name, rules):
    found = score_ctm(read_ctm(sctk / "tima_ref.ctm"), read_ctm(sctk / "tima_hyp.ctm"), rules)
    assert counts(found) == expected(sctk / "base" / f"{name}.pra")


def test_the_order_of_lines_does_not_matter(sctk):
    reference, words = read_stm(sctk / "lvc_ref.stm"), read_ctm(sctk / "lvc_hyp.ctm")
    rng = random.Random(2)
    segments = sorted(reference.segments, key=lambda segment: rng.random())
    mixed = sorted(words, key=lambda word: rng.random()) if not any(word.mark for word in words) else words[::1]
    found = score_stm(StmFile(tuple(segments), {}), mixed)
    assert sorted(each.errors.total for each in found) == sorted(
        each.errors.total for each in score_stm(reference, words)
    )


def test_words_of_a_channel_without_reference_are_refused(sctk):
    words = read_ctm(sctk / "stm2ctm_missing.hyp-extra.ctm")
    with pytest.raises(ScoringError, match='recording "9999", channel b, has recognized words but no reference'):
        score_stm(read_stm(sctk / "stm2ctm_missing.ref.stm"), words)


def test_subsets_and_speakers(sctk):
    """The figures of sclite's report by label (base/test3.lur) for the first speaker and all."""
    reference = read_stm(sctk / "lvc_ref.stm")
    found = score_stm(reference, read_ctm(sctk / "lvc_hyp.ctm"))
    report = (sctk / "base" / "test3.lur").read_text()
    overall = re.search(r"\|\s*Set Sum/Avg\s*\|\s*\[(\d+)\]\s*([\d.]+)\s*\|\|\s*\[(\d+)\]\s*([\d.]+)", report)
    subsets = per_label(found)
    assert reference.labels == {"o": "Overall", "wa": "With Alt", "na": "NO Alt"}
    assert (subsets["o"].reference_words, round(100 * subsets["o"].rate, 1)) == (int(overall[1]), float(overall[2]))
    assert (subsets["wa"].reference_words, round(100 * subsets["wa"].rate, 1)) == (int(overall[3]), float(overall[4]))
    raw = dict(re.findall(r"\|\s*(\d+-[ab])\s*\|\s*\d+\s+(\d+)", (sctk / "base" / "test3.raw").read_text()))
    assert {name: str(errors.reference_words) for name, errors in per_speaker(found).items()} == raw


VOCABULARY = ["a", "b", "cc", "dd-", "-ee", "(f)", "(gg-)", "hh", "u-v", "ab", "-b", "(ab)", "ccx"]


def drawn_transcript(rng, depth=0):
    """Words, with alternates up to three deep."""
    return " ".join(
        drawn_alternates(rng, depth) if depth < 3 and rng.random() < 0.15 else rng.choice(VOCABULARY)
        for _ in range(rng.randint(int(depth > 0), 9 if depth == 0 else 3))
    )


def drawn_alternates(rng, depth):
    count = rng.randint(1, 3)
    return (
        "{ " + " / ".join("@" if rng.random() < 0.2 else drawn_transcript(rng, depth + 1) for _ in range(count)) + " }"
    )


@pytest.mark.skipif(not shutil.which("sctk"), reason="NIST's sclite is not installed (Debian: apt-get install sctk)")
@pytest.mark.parametrize(
    "options, rules",
    [
        ([], ScliteRules()),
        (["-D", "-F"], FREE),
        (["-c"], ScliteRules(characters="all")),
        (["-c", "NOASCII", "DH"], ScliteRules(characters="non-ascii", drop_hyphens=True)),
    ],
)
def test_the_program_itself_on_drawn_transcripts(tmp_path, options, rules):
    rng = random.Random(5)
    names = [f"s{number % 3}-{number}" for number in range(400)]
    for side, depths in (("ref", [0]), ("hyp", [0, 3])):
        lines = (f"{drawn_transcript(rng, rng.choice(depths))} ({name})\n" for name in names)
        (tmp_path / side).write_text("".join(lines))
    command = [
        "sctk",
        "sclite",
        "-r",
        "ref",
        "trn",
        "-h",
        "hyp",
        "trn",
        "-i",
        "spu_id",
        "-o",
        "pra",
        "-O",
        ".",
        "-n",
        "x",
    ]
    subprocess.run([*command, *options], cwd=tmp_path, check=True, capture_output=True)
    found = score_trn(read_trn(tmp_path / "ref"), read_trn(tmp_path / "hyp"), rules)
    assert counts(found) == expected(tmp_path / "x.pra")


WORDS = st.lists(st.sampled_from("abcd"), max_size=4)
TREES = st.lists(
    st.one_of(
        st.sampled_from("abcd@"),
        st.lists(st.lists(st.sampled_from("abcd@"), min_size=1, max_size=2), min_size=1, max_size=3),
    ),
    max_size=4,
)


def readings(items):
    """Every list of words that a transcript may mean."""
    if not items:
        return [[]]
    first = items[0]
    heads = [[first]] if isinstance(first, str) else [list(each) for each in first]
    return [[word for word in head if word != "@"] + rest for head in heads for rest in readings(items[1:])]


@given(TREES, TREES)
@settings(deadline=None)
def test_alternates_cost_what_their_best_reading_costs(reference, hypothesis):
    def network_items(tree):
        return [NetworkWord(x) if isinstance(x, str) else [[NetworkWord(w) for w in each] for each in x] for x in tree]

    def cost(edits):
        return sum({"hit": 0, "substitution": 4}.get(edit.kind, 3) for edit in edits)

    rules = ScliteRules()
    best = min(
        cost(align_items(network_items(one), network_items(other), rules))
        for one in readings(reference)
        for other in readings(hypothesis)
    )
    assert cost(align_items(network_items(reference), network_items(hypothesis), rules)) == best


def test_special_words_by_hand():
    def kinds(reference, hypothesis, rules=FREE):
        return "".join(edit.kind[0] for edit in edits_of(reference, hypothesis, rules))

    assert kinds("a (uh) b", "a b") == "hhh"  # a deletable word that is missing is a hit
    assert kinds("a (uh) b", "a b", ScliteRules()) == "hdh"
    assert kinds("wh- what", "when what") == "hh"
    assert kinds("-day", "monday") == "h"
    assert kinds("a { b / @ } c", "a c") == "hh"
    assert kinds("{ he is / he's } here", "he's here") == "hh"
    assert kinds("word;noun b*", "word b") == "hh"
    assert kinds("A É", "a é") == "hh"
    assert kinds("A", "a", ScliteRules(case="keep")) == "s"


@pytest.mark.parametrize("text", ["{ a / b", "a { b", "{ { a } "])
def test_braces_that_are_not_closed_are_refused(text):
    with pytest.raises(ScoringError, match="not closed"):
        parse_transcript(text)


@given(st.text(alphabet="ab{}/@ ()-;\\*\n\t", max_size=30), st.text(alphabet="ab{}/@ ()-;\\*", max_size=30))
@settings(deadline=None)
def test_no_text_breaks_it(reference, hypothesis):
    for rules in (FREE, ScliteRules(characters="all", drop_hyphens=True)):
        try:
            edits = edits_of(reference, hypothesis, rules)
        except ScoringError:
            continue
        assert all(edit.kind in ("hit", "substitution", "deletion", "insertion") for edit in edits)
