"""The sign, signed-rank and McNemar tests: figures printed by NIST's sc_stats, and the program where it is installed."""

import random
import re
import shutil
import subprocess

import pytest

from carnelian.errors import ScoringError
from carnelian.scoring.paired_tests import binomial_test, mcnemar_test, sign_test, signed_rank_test
from carnelian.scoring.sclite.scorer import per_speaker, score_trn
from carnelian.scoring.sclite.trn import read_trn
from carnelian.scoring.wer import Errors


def errors(words, wrong):
    return Errors(words - wrong, wrong)


#: words and errors of six speakers under two systems; sc_stats prints what the tests below expect
FIRST = dict(zip("abcdef", map(errors, [85, 75, 78, 53, 70, 78], [11, 15, 7, 6, 11, 13])))
SECOND = dict(zip("abcdef", map(errors, [85, 75, 78, 53, 70, 78], [16, 15, 12, 12, 6, 10])))


def test_sign():
    tested = sign_test(FIRST, SECOND)
    assert (tested.worse, tested.better, tested.probability) == (3, 3, 1.0)
    assert binomial_test("sign", 5, 10).sc_stats_probability == pytest.approx(0.302, abs=5e-4)


def test_signed_rank():
    tested = signed_rank_test(FIRST, SECOND)
    assert (tested.worse, tested.better) == (2, 4)
    assert tested.z == pytest.approx(-0.73, abs=5e-3)
    mirrored = signed_rank_test(SECOND, FIRST)
    assert (mirrored.worse, mirrored.better, mirrored.z) == (4, 2, tested.z)


def test_mcnemar():
    right, wrong = Errors(3), Errors(2, 1)
    tested = mcnemar_test([right] * 11 + [wrong] * 6 + [right] * 2, [wrong] * 11 + [right] * 6 + [right] * 2)
    assert (tested.worse, tested.better) == (6, 11)
    assert tested.probability == tested.sc_stats_probability == pytest.approx(0.332, abs=5e-4)
    assert tested.verdict == ""
    assert mcnemar_test([right] * 8, [wrong] * 8).verdict == "first"
    # over 20 pairs sc_stats halves the smaller count: 10 beside 17 prints as 0.001, the exact test gives 0.248
    many = binomial_test("McNemar", 10, 17)
    assert many.sc_stats_probability == pytest.approx(0.001, abs=5e-4)
    assert many.probability == pytest.approx(0.248, abs=5e-4)


def test_systems_must_be_of_the_same_utterances():
    with pytest.raises(ScoringError, match='speaker "f" is in one system only'):
        sign_test(FIRST, {name: each for name, each in SECOND.items() if name != "f"})
    with pytest.raises(ScoringError, match="1 utterances beside 2"):
        mcnemar_test([Errors()], [Errors(), Errors()])


def noisy(words, share, rng):
    for word in words:
        draw = rng.random()
        if draw > share / 3:
            yield rng.choice("pqrst") if draw < 2 * share / 3 else word
        if 2 * share / 3 < draw < share:
            yield "extra"


@pytest.mark.skipif(not shutil.which("sctk"), reason="NIST's sc_stats is not installed (Debian: apt-get install sctk)")
@pytest.mark.parametrize("seed, speakers, utterances", [(1, 6, 8), (3, 15, 5), (5, 30, 3)])
def test_the_program_itself(tmp_path, seed, speakers, utterances):
    rng = random.Random(seed)
    files = {name: (tmp_path / name).open("w") for name in ("ref", "one", "two")}
    for number in range(speakers * utterances):
        words = [rng.choice("abcdefgh") for _ in range(rng.randint(3, 14))]
        for name, share in (("ref", 0.0), ("one", 0.15), ("two", 0.19)):
            said = words if name == "ref" else noisy(words, share, rng)
            files[name].write(f"{' '.join(said)} (s{number % speakers:02d}-{number:03d})\n")
    for file in files.values():
        file.close()
    alignments = ""
    for name in ("one", "two"):
        command = ["sctk", "sclite", "-r", "ref", "trn", "-h", name, "trn", "-i", "spu_id", "-o", "sgml", "-O", "."]
        subprocess.run([*command, "-n", name], cwd=tmp_path, check=True, capture_output=True)
        alignments += (tmp_path / f"{name}.sgml").read_text()
    printed = {}
    for test in ("sign", "wilc", "mcn"):  # one at a time: the program is known to crash after writing
        command = ["sctk", "sc_stats", "-p", "-t", test, "-v", "-n", "x"]
        subprocess.run(command, cwd=tmp_path, input=alignments, capture_output=True, text=True)
        printed[test] = (tmp_path / f"x.stats.{test}").read_text(errors="replace")
    scored = [score_trn(read_trn(tmp_path / "ref"), read_trn(tmp_path / name)) for name in ("one", "two")]
    by_speaker = [per_speaker(segments) for segments in scored]
    probability = re.search(r"occurring is\s+([\d.]+)", printed["sign"])[1]
    assert f"{sign_test(*by_speaker).sc_stats_probability:.3f}" == probability
    z = re.search(r"Z statistic = (-?[\d.]+),", printed["wilc"])[1]
    assert f"{signed_rank_test(*by_speaker).z:.2f}" == z
    table = re.findall(r"corr\s+(\d+)\s+(\d+)", printed["mcn"])
    tested = mcnemar_test(*([each.errors for each in segments] for segments in scored))
    assert (tested.better, tested.worse) == (int(table[0][1]), int(table[1][0]))
    if probability := re.search(r"occurring is\s+([\d.]+)", printed["mcn"]):
        assert f"{tested.sc_stats_probability:.3f}" == probability[1]
