"""Counts beside NIST's program itself, on drawn transcripts and on SCTK's files."""

import random
from dataclasses import replace

import pytest
from sclite_outputs import INSTALLED, counts, run_sclite

from carnelian.scoring.sclite.alignment import ScliteRules
from carnelian.scoring.sclite.ctm import read_ctm
from carnelian.scoring.sclite.scorer import score_stm, score_trn
from carnelian.scoring.sclite.segmentation import Lexicon, read_lexicon
from carnelian.scoring.sclite.stm import read_stm
from carnelian.scoring.sclite.trn import read_trn
from carnelian.scoring.sclite.weights import read_word_weights

pytestmark = INSTALLED
WORDS = [
    "a",
    "b",
    "cc",
    "dd-",
    "-ee",
    "(f)",
    "(gg-)",
    "hh",
    "u-v",
    "ab",
    "-b",
    "(ab)",
    "ccx",
    "%hesitation",
    "ab*",
    "b;t",
    "()",
]
CAPITALS = ["A", "AB", "Cc", "(F)", "Dd-"]
LETTERS = ["é", "ä-ö", "-ñ", "(ça)", "日本", "本", "日本語", "яблоко", "ябл-", "é-", "ß", "abc日", "É", "ЯБЛ-", "Ç"]
SHORT = ["a", "b", "ab", "ba", "cc", "abab", "bab"]
CHINESE = ["a", "b", "ab", "日本", "日", "語", "日本語", "本"]
LEXICON = ["a", "aa", "ab", "abb", "ba", "bcc", "日本", "日本語"]
WEIGHTS = ";; Default missing weight '2.5'\na 1\nb 3\ncc 0.5\nhh 2\nab 1\n"
UTF8 = ["-e", "utf-8"]
SETTINGS = [  # options, rules, and the words to draw from
    ([], ScliteRules(), WORDS + CAPITALS),
    (["-D", "-F"], ScliteRules(deletable=True, fragments=True), WORDS),
    (["-s"], ScliteRules(case="keep"), WORDS + CAPITALS),
    (["-c"], ScliteRules(characters="all"), WORDS),
    (["-c", "NOASCII", "DH"], ScliteRules(characters="non-ascii", drop_hyphens=True), WORDS),
    ([*UTF8, "-D", "-F"], ScliteRules(case="ascii", deletable=True, fragments=True), WORDS + LETTERS),
    ([*UTF8, "-s"], ScliteRules(case="keep"), WORDS + LETTERS),
    ([*UTF8, "-c", "DH"], ScliteRules(case="ascii", characters="all", drop_hyphens=True), LETTERS),
    ([*UTF8, "-c", "NOASCII"], ScliteRules(case="ascii", characters="non-ascii"), WORDS + LETTERS),
    (["-S", "algo1", "lexicon", "ASCIITOO"], ScliteRules(characters="all"), SHORT),
    (["-S", "algo2", "lexicon", "ASCIITOO"], ScliteRules(characters="all", segment="reference"), SHORT),
    ([*UTF8, "-S", "algo1", "lexicon"], ScliteRules(case="ascii"), CHINESE),
    (["-w", "weights"], ScliteRules(), WORDS),
    (["-w", "weights", "-D", "-F"], ScliteRules(deletable=True, fragments=True), WORDS),
]


def drawn_transcript(rng, words, depth=0):
    """Words, with alternates up to three deep."""
    return " ".join(
        drawn_alternates(rng, words, depth) if depth < 3 and rng.random() < 0.15 else rng.choice(words)
        for _ in range(rng.randint(int(depth > 0), 9 if depth == 0 else 3))
    )


def drawn_alternates(rng, words, depth):
    parts = ["@" if rng.random() < 0.2 else drawn_transcript(rng, words, depth + 1) for _ in range(rng.randint(1, 3))]
    return "{ " + " / ".join(parts) + " }"


def with_files(folder, options, rules):
    """The rules with the lexicon or the weights that the options name, which are written for the program."""
    (folder / "weights").write_text(WEIGHTS)
    words = [word for word in LEXICON if word.isascii() or "-e" in options]  # else the program counts bytes
    (folder / "lexicon").write_text("".join(f"{word}\n" for word in words))
    if "-S" in options:
        return replace(rules, lexicon=Lexicon(frozenset(words)))
    return replace(rules, weights=read_word_weights(folder / "weights")) if "-w" in options else rules


@pytest.mark.parametrize("options, rules, words", SETTINGS, ids=[" ".join(each[0]) for each in SETTINGS])
def test_drawn_transcripts(tmp_path, options, rules, words):
    rng = random.Random(5)
    rules = with_files(tmp_path, options, rules)
    names = [f"s{number % 3}-{number}" for number in range(300)]
    for side, depths in (("ref", [0]), ("hyp", [0, 3])):
        lines = (f"{drawn_transcript(rng, words, rng.choice(depths))} ({name})\n" for name in names)
        (tmp_path / side).write_text("".join(lines))
    told = run_sclite(tmp_path, "-r", "ref", "trn", "-h", "hyp", "trn", "-i", "spu_id", *options)
    assert counts(score_trn(read_trn(tmp_path / "ref"), read_trn(tmp_path / "hyp"), rules)) == told


def drawn_segments(rng, channel):
    time = rng.random() * 3
    while time < 40:
        end = time + rng.uniform(0.5, 4)
        text = "IGNORE_TIME_SEGMENT_IN_SCORING" if rng.random() < 0.1 else drawn_transcript(rng, WORDS[:13])
        yield f"rec {channel} rec-{rng.choice('xy')} {time:.2f} {end:.2f} <o,{rng.choice('fm')}> {text}"
        time = round(end, 2) + rng.choice([0, 0, 0.5])


def drawn_words(rng, channel, end, alternates):
    """Lines of words and alternates, of which only the last may be empty: the program misreads other empty ones."""
    time = rng.random()
    while time < end:
        if rng.random() < alternates:
            begin, last = time, rng.randint(1, 2)
            for number in range(last + 1):
                yield f"rec {channel} * * {'<ALT>' if number else '<ALT_BEGIN>'}"
                time = begin
                for _ in range(rng.randint(int(number < last), 2)):
                    yield f"rec {channel} {time:.2f} 0.25 {rng.choice(WORDS[:13])}"
                    time += 0.25
            yield f"rec {channel} * * <ALT_END>"
            time = begin + 0.5
        else:
            yield f"rec {channel} {time:.2f} {rng.uniform(0.05, 0.6):.2f} {rng.choice(WORDS[:13])} {rng.random():.2f}"
            time += rng.choice([0.6, 0.6, 1.1])


@pytest.mark.parametrize(
    "options, rules, reduced",
    [
        ([], ScliteRules(), {}),
        (["-D", "-F"], ScliteRules(deletable=True, fragments=True), {}),
        (["-m", "ref"], ScliteRules(), {"reduce_reference": True}),
        (["-m", "ref", "hyp"], ScliteRules(), {"reduce_reference": True, "reduce_hypothesis": True}),
        (["-c"], ScliteRules(characters="all"), {}),
        (["-w", "weights"], ScliteRules(), {}),
    ],
)
def test_drawn_segments_and_words(tmp_path, options, rules, reduced):
    rng = random.Random(8)
    rules = with_files(tmp_path, options, rules)
    alternates = 0.0 if "hyp" in options else 0.08  # the program misreads alternates that -m hyp leaves out
    segments = [line for channel in "AB" for line in drawn_segments(rng, channel)]
    words = [line for channel in "AB" for line in drawn_words(rng, channel, rng.choice([30, 40, 44]), alternates)]
    (tmp_path / "ref").write_text("\n".join(segments) + "\n")
    (tmp_path / "hyp").write_text("\n".join(words) + "\n")
    told = run_sclite(tmp_path, "-r", "ref", "stm", "-h", "hyp", "ctm", *options)
    assert counts(score_stm(read_stm(tmp_path / "ref"), read_ctm(tmp_path / "hyp"), rules, **reduced)) == told


@pytest.mark.parametrize(
    "reference, hypothesis",
    [
        ("lvc_ref.stm", "lvc_hyp.ctm"),
        ("lvc_ref.stm", "lvc_hypc.ctm"),
        ("lvc_ref.stm", "lvc_hypr.ctm"),
        ("lvc_refe.stm", "lvc_hyp.ctm"),
        ("lvc_refe.stm", "lvc_hypr.ctm"),
        ("lvc_refm.stm", "lvc_hypm.ctm"),
        ("lvc_refr.stm", "lvc_hyp.ctm"),
        ("lvc_refr.stm", "lvc_hypr.ctm"),
        ("mand_ref.stm", "mand_hyp.ctm"),
        ("test.cantonese.stm", "test.cantonese.ctm"),
        ("csrnab.ref", "csrnab.hyp"),
        ("csrnab1.ref", "csrnab1.hyp"),
        ("tests.ref", "tests.hyp"),
        ("test.vietnamese.ref.trn", "test.vietnamese.hyp.trn"),
    ],
)
@pytest.mark.parametrize(
    "options, rules",
    [
        ([], ScliteRules()),
        (["-D"], ScliteRules(deletable=True)),
        (["-F"], ScliteRules(fragments=True)),
        (["-c", "NOASCII"], ScliteRules(characters="non-ascii")),
        (["-S", "algo1", "tests.lex"], ScliteRules()),
        (["-w", "csrnab_r.wwl"], ScliteRules()),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_files_of_sctk(sctk, tmp_path, reference, hypothesis, options, rules):
    encoding = "gb18030" if reference.startswith("mand") else "utf-8"
    named = {"mand": ["-e", "gb"], "test": [*UTF8, "babel_vietnamese"]}.get(reference[:4], [])
    if "-S" in options:
        options = ["mand.lex" if each == "tests.lex" and encoding == "gb18030" else each for each in options]
        rules = replace(rules, lexicon=read_lexicon(sctk / options[-1], str.lower, encoding))
    if "-w" in options:
        rules = replace(rules, weights=read_word_weights(sctk / options[-1]))
    options = [str(sctk / each) if "." in each else each for each in options]
    if reference.endswith(".stm"):
        given = ["-r", sctk / reference, "stm", "-h", sctk / hypothesis, "ctm"]
        found = score_stm(read_stm(sctk / reference, encoding), read_ctm(sctk / hypothesis, encoding), rules)
    else:
        speakers = "wsj" if reference.startswith("csrnab") else "spu_id"
        given = ["-r", sctk / reference, "trn", "-h", sctk / hypothesis, "trn", "-i", speakers]
        references, hypotheses = read_trn(sctk / reference, encoding), read_trn(sctk / hypothesis, encoding)
        references = {name: text for name, text in references.items() if name in hypotheses}
        found = score_trn(references, hypotheses, rules, speakers=speakers)
    assert counts(found) == run_sclite(tmp_path, *given, *named, *options)
