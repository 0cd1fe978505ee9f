"""Counts beside the expected outputs that come with NIST's SCTK: every one of them."""

import re
from collections import Counter

import pytest
from cmu_language_model import CmuModel
from sclite_outputs import counts, expected

from carnelian.errors import ScoringError
from carnelian.scoring.calibration import calibrate
from carnelian.scoring.sclite.alignment import ScliteRules
from carnelian.scoring.sclite.ctm import read_ctm
from carnelian.scoring.sclite.ctm_pairs import score_ctm
from carnelian.scoring.sclite.diff import Part, first_alternates, score_by_diff, score_stm_text
from carnelian.scoring.sclite.scorer import by_channel, in_time_order, per_label, per_speaker, score_stm, score_trn
from carnelian.scoring.sclite.segmentation import read_lexicon
from carnelian.scoring.sclite.stm import read_stm
from carnelian.scoring.sclite.trn import read_trn, speaker_of
from carnelian.scoring.sclite.weights import UNKNOWN_BITS, WeightedErrors, WordWeights, read_word_weights
from carnelian.scoring.wer import Errors

FREE = {"deletable": True, "fragments": True}
CHARACTERS = {"characters": "all"}
LEXICON = {"lexicon": "tests.lex"}
TRANSCRIPTS = {  # reference and hypothesis, and the rules
    **dict.fromkeys(["test1", "test1a", "test1d", "test1e"], ("csrnab.ref", "csrnab.hyp", {})),
    "test1b": ("csrnab.ref", "csrnab.hyp", {"weights": "csrnab_r.blm"}),
    "test1c": ("csrnab.ref", "csrnab.hyp", {"weights": "csrnab_r.wwl"}),
    "test8": ("csrnab1.ref", "csrnab1.hyp", CHARACTERS),
    **dict.fromkeys(["test7", "test7_6"], ("tests.ref", "tests.hyp", FREE)),
    "test7_r": ("tests.hyp", "tests.ref", FREE),
    "test7_noD": ("tests.ref", "tests.hyp", {"fragments": True}),
    "test7_1": ("tests.ref", "tests.hyp", LEXICON),
    "test7_2": ("tests.ref", "tests.hyp", LEXICON | CHARACTERS),
    "test7_2a": ("tests.ref", "tests.hyp", LEXICON | CHARACTERS | {"segment": "reference"}),
    "test7_3": ("tests.ref", "tests.hyp", LEXICON | {"fragments": True}),
    "test7_4": ("tests.ref", "tests.hyp", LEXICON | CHARACTERS | {"fragments": True}),
    "test7_5": ("tests.ref", "tests.hyp", CHARACTERS | {"drop_hyphens": True}),
    "test7-utf8-2bytes": ("tests.ref.utf8-2bytes", "tests.hyp.utf8-2bytes", FREE | {"case": "ascii"}),
    "test7-utf8-3bytes": ("tests.ref.utf8-3bytes", "tests.hyp.utf8-3bytes", FREE),
    "test7-utf8-4bytes": ("tests.ref.utf8-4bytes", "tests.hyp.utf8-4bytes", FREE),
    "test15_c": ("test.turkish.ref", "test.turkish.hyp", {}),
    "test15_d": ("test.ukranian.ref", "test.ukranian.hyp", {}),
    "test17": ("test.vietnamese.ref.trn", "test.vietnamese.hyp.trn", {}),
}
REDUCED = {"reduce_reference": True, "reduce_hypothesis": True}
NON_ASCII = {"characters": "non-ascii"}
MANDARIN = ("mand_ref.stm", "mand_hyp.ctm")
MISSING = ["missall", "missfile1", "missfile1chanA", "missfile1chanb", "missfile2", "missfile2chanA", "missfile2chanB"]
SEGMENTS = {  # reference and hypothesis, the rules, and how both are reduced to each other
    "test3": ("lvc_ref.stm", "lvc_hyp.ctm", {}, {}),
    "test3a": ("lvc_refe.stm", "lvc_hyp.ctm", {}, {}),
    "test3b": ("lvc_ref.stm", "lvc_hypc.ctm", {}, {}),
    "test3c": ("lvc_refm.stm", "lvc_hypm.ctm", {}, {}),
    "test9": (*MANDARIN, CHARACTERS, {}),
    "test9_1": (*MANDARIN, CHARACTERS | {"drop_hyphens": True}, {}),
    "test10": (*MANDARIN, NON_ASCII, {}),
    "test10_1": (*MANDARIN, NON_ASCII | {"drop_hyphens": True}, {}),
    "test11": (*MANDARIN, {"lexicon": "mand.lex"}, {}),
    "test12": (*MANDARIN, {"lexicon": "mand.lex", "fragments": True}, {}),
    "test14_a": ("lvc_refr.stm", "lvc_hypr.ctm", {}, REDUCED),
    "test14_b": ("lvc_ref.stm", "lvc_hypr.ctm", {}, REDUCED),
    "test14_c": ("lvc_refr.stm", "lvc_hyp.ctm", {}, REDUCED),
    "test14_d": ("lvc_refr.stm", "lvc_hypr.ctm", {}, {"reduce_hypothesis": True}),
    "test14_e": ("lvc_refr.stm", "lvc_hypr.ctm", {}, {"reduce_reference": True}),
    "test15_a": ("test.cantonese.stm", "test.cantonese.ctm", {}, {}),
    "test15_b": ("test.cantonese.stm", "test.cantonese.ctm", NON_ASCII | {"drop_hyphens": True}, {}),
    **{
        f"test16_{number}": ("stm2ctm_missing.ref.stm", f"stm2ctm_missing.hyp-{name}.ctm", {}, {})
        for number, name in enumerate(MISSING, 2)
    },
    "test16_9": ("stm2ctm_missing.ref.stm", "stm2ctm_missing.hyp.ctm", {}, {}),
}
TIMED = {
    "test13": {},
    "test13_D": {"deletable": True},
    "test13_a": {"time_mediated": True},
    "test13_aD": {"time_mediated": True, "deletable": True},
}
BY_DIFF = {"test4": ("lvc_ref.stm", "lvc_hyp.ctm"), "test6": MANDARIN}
OTHERS = {"test2", "test5", "test16_1"}
EVERY = [*TRANSCRIPTS, *SEGMENTS, *TIMED, *BY_DIFF, *OTHERS]
ROW = re.compile(r"^ *\| *(\S+) +\| +(\d+) +(\d+) +\| +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +\|", re.MULTILINE)
SHARES = re.compile(r"^ *\| *(\S+) +\| +\d+ +\d+ +\| +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) ", re.MULTILINE)


def test_every_expected_output_is_compared(sctk):
    assert {path.name.split(".")[0] for path in (sctk / "base").iterdir()} == set(EVERY)


def encoding_of(name):
    return "gb18030" if name.startswith("mand") else "utf-8"


def rules_of(sctk, given):
    rules = dict(given)
    if path := rules.get("lexicon"):
        rules["lexicon"] = read_lexicon(sctk / path, str.lower, encoding_of(path))
    if path := rules.get("weights"):
        rules["weights"] = bits_in(sctk / path) if path.endswith("blm") else read_word_weights(sctk / path)
    return ScliteRules(**rules)


def bits_in(path):
    model = CmuModel(path)
    return WordWeights(lambda words: model.bits(words, UNKNOWN_BITS), model.order, path.name)


def common_transcripts(sctk, reference, hypothesis):
    """Both sides, of the utterances that both have."""
    references, hypotheses = read_trn(sctk / reference), read_trn(sctk / hypothesis)
    common = [name for name in hypotheses if name in references]
    return {name: references[name] for name in common}, {name: hypotheses[name] for name in common}


def scored(sctk, name):
    if name in TRANSCRIPTS:
        reference, hypothesis, rules = TRANSCRIPTS[name]
        speakers = "wsj" if reference.startswith("csrnab") else "spu_id"
        return score_trn(*common_transcripts(sctk, reference, hypothesis), rules_of(sctk, rules), speakers=speakers)
    if name in TIMED:
        return score_ctm(read_ctm(sctk / "tima_ref.ctm"), read_ctm(sctk / "tima_hyp.ctm"), rules_of(sctk, TIMED[name]))
    reference, hypothesis, rules, reduced = SEGMENTS[name]
    segments = read_stm(sctk / reference, encoding_of(reference))
    words = read_ctm(sctk / hypothesis, encoding_of(hypothesis))
    return score_stm(segments, words, rules_of(sctk, rules), **reduced)


def check_outputs_of(sctk, name, found):
    """Compares the counts of every utterance, and those of every speaker, with each of sclite's reports."""
    compared = 0
    for path in (sctk / "base").glob(f"{name}.*"):
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix in (".pra", ".prf"):
            assert counts(found) == expected(path)
        elif path.suffix == ".raw":
            wrong = Counter({each.speaker: 0 for each in found})
            wrong.update(each.speaker for each in found if each.errors.total)
            assert {row[0]: tuple(map(int, row[2:])) for row in ROW.findall(text) if row[0] in per_speaker(found)} == {
                speaker: (
                    e.reference_words,
                    e.hits,
                    e.substitutions,
                    e.deletions,
                    e.insertions,
                    e.total,
                    wrong[speaker],
                )
                for speaker, e in per_speaker(found).items()
            }
        elif path.name.endswith("nl.sgml"):
            kinds = re.findall(r"^([CSDI])$", text, re.MULTILINE)
            total = sum(per_speaker(found).values(), Errors())
            figures = (total.hits, total.substitutions, total.deletions, total.insertions)
            assert tuple(kinds.count(kind) for kind in "CSDI") == figures
        elif path.suffix == ".sys" and name in ("test1b", "test3b"):
            assert shares_in(text, per_speaker(found)) == {
                speaker: shares(e.reference_words, e.hits, e.substitutions, e.deletions, e.insertions)
                for speaker, e in per_speaker(found).items()
            }
        elif path.suffix == ".wws":
            assert shares_in(text, per_speaker(found)) == weighted_shares(found)
        else:
            continue
        compared += 1
    assert compared


def shares_in(text, speakers):
    return {row[0]: row[1:] for row in SHARES.findall(text) if row[0] in speakers}


def shares(reference, *parts):
    """Percentages of the reference as sclite prints them: hits, substitutions, deletions, insertions and all errors."""
    return tuple(f"{100 * part / reference:.1f}" for part in (*parts, sum(parts[1:])))


def weighted_shares(found):
    totals = {}
    for each in found:
        totals[each.speaker] = totals.get(each.speaker, WeightedErrors()) + each.weighted
    return {
        speaker: shares(sums.reference, sums.hits, sums.substitutions, sums.deletions, sums.insertions)
        for speaker, sums in totals.items()
    }


@pytest.mark.parametrize("name", [name for name in EVERY if name not in OTHERS | {"test3c"} | set(BY_DIFF)])
def test_expected_output(sctk, name):
    check_outputs_of(sctk, name, scored(sctk, name))


def test_speakers_without_reference_words(sctk):
    """The report by label in base/test3c.lur: words and error rates, and 13 errors of a speaker who said nothing."""
    found = scored(sctk, "test3c")
    by_speaker, by_label = per_speaker(found), per_label(found)
    assert (by_speaker["2347-b"].reference_words, by_speaker["2347-b"].total) == (0, 13)
    row = re.search(r"Set Sum/Avg(.*)", (sctk / "base" / "test3c.lur").read_text())[1]
    figures = [(int(words), rate) for words, rate in re.findall(r"\[(\d+)\] +([\d.]+)", row)]
    assert figures == [(by_label[x].reference_words, f"{100 * by_label[x].rate:.1f}") for x in ("o", "wa", "na")]


def test_confidences(sctk):
    """The normalised cross entropy in base/test3b.sys, of the channels in which nobody gave alternates."""
    words = by_channel(read_ctm(sctk / "lvc_hypc.ctm"))
    text = (sctk / "base" / "test3b.sys").read_text()
    for key in (("2347", "a"), ("3129", "b")):
        speaker = "-".join(key)
        edits = [edit for each in scored(sctk, "test3b") if each.speaker == speaker for edit in each.edits]
        correct = [edit.kind == "hit" for edit in edits if edit.hypothesis is not None]
        found = calibrate([word.confidence for word in in_time_order(words[key])], correct).cross_entropy
        assert f"{found:.3f}" == re.search(rf"{speaker} .*\| +([\d.]+) +\|", text)[1]


def test_words_of_a_channel_without_reference_are_refused(sctk):
    """As in base/test16_1.err."""
    words = read_ctm(sctk / "stm2ctm_missing.hyp-extra.ctm")
    with pytest.raises(ScoringError, match='recording "9999", channel b, has recognized words but no reference'):
        score_stm(read_stm(sctk / "stm2ctm_missing.ref.stm"), words)


@pytest.mark.parametrize("name", BY_DIFF)
def test_channels_aligned_by_diff(sctk, name):
    reference, hypothesis = BY_DIFF[name]
    words = by_channel(read_ctm(sctk / hypothesis, encoding_of(hypothesis)))
    found, numbers = [], {}
    for key, segments in by_channel(read_stm(sctk / reference, encoding_of(reference)).segments).items():
        parts = []
        for segment in segments:
            speaker = segment.speaker.lower()
            number = numbers[speaker] = numbers.get(speaker, -1) + 1
            parts.append(Part(f"{speaker}-{number:03d}", speaker, first_alternates(segment.text.lower())))
        found += score_by_diff(parts, [word.word.lower() for word in words[key]])
    check_outputs_of(sctk, name, found)


def test_transcripts_aligned_by_diff(sctk):
    references, hypotheses = common_transcripts(sctk, "csrnab.ref", "csrnab.hyp")
    parts = [Part(name, speaker_of(name, "wsj"), first_alternates(text.lower())) for name, text in references.items()]
    words = [word for text in hypotheses.values() for word in text.lower().split()]
    check_outputs_of(sctk, "test2", score_by_diff(parts, words))


def test_text_beside_segments(sctk):
    text = (sctk / "lvc_hyp.txt").read_text()
    check_outputs_of(sctk, "test5", score_stm_text(read_stm(sctk / "lvc_ref.stm"), text))
