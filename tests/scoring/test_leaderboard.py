"""Result files of the Open ASR Leaderboard, and its rates."""

import json

import pytest

from carnelian.data.text.names import make_normalizer
from carnelian.scoring.leaderboard import LeaderboardLine, leaderboard_name, write_leaderboard
from carnelian.scoring.report.tables import score_texts


def test_names_and_lines(tmp_path):
    lines = [
        LeaderboardLine("a.wav", 2.0, 0.1, "Hello, World!", "hello world"),
        LeaderboardLine("b.wav", 1.0, 0.1, " ", "noise"),
        LeaderboardLine("c.wav", 1.0, 0.1, "Ignore time segment in scoring", "words"),
    ]
    path = tmp_path / leaderboard_name("carnelian/quartznet", "test-clean")
    left_out = write_leaderboard(path, lines)
    assert path.name == ("MODEL_carnelian-quartznet_DATASET_hf-audio-open-asr-leaderboard_librispeech_test.clean.jsonl")
    assert left_out == 2
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"audio_filepath": "a.wav", "duration": 2.0, "time": 0.1, "text": "Hello, World!", "pred_text": "hello world"}
    ]
    assert leaderboard_name("me/net", "own") == "MODEL_me-net_DATASET_local_own_test.jsonl"


def test_rates_are_those_of_the_leaderboards_program(shared):
    """Whisper's normaliser and kaldialign with compounds merged, on 1,000 real hypotheses written as people write."""
    kaldialign = pytest.importorskip("kaldialign", reason="kaldialign is not installed (the extra peers)")
    pytest.importorskip("whisper_normalizer", reason="whisper-normalizer is not installed (the extra whisper)")
    from whisper_normalizer.english import EnglishTextNormalizer

    folder = shared("scoring/fbai")
    references, hypotheses = (
        dict(line.split("\t")[:2] for line in (folder / name).read_text().splitlines()[:1000])
        for name in ("ref.test-clean.tsv", "test-clean.b1.rnnt_baseline.tsv")
    )
    names = [name for name in references if name in hypotheses]
    sides = [references[name].capitalize() + "." for name in names], [hypotheses[name] for name in names]
    normalizer, theirs = make_normalizer("whisper-english"), EnglishTextNormalizer()
    report = score_texts(*([normalizer(text) or "" for text in side] for side in sides), merge_compounds=True)
    told = kaldialign.batch_error_rate(
        *([theirs(text).split() for text in side] for side in sides), merge_compounds=True
    )
    assert report.words.rate == pytest.approx(told["err_rate"], abs=1e-12)
    assert (report.words.insertions, report.words.deletions, report.words.substitutions) == (
        told["ins"],
        told["del"],
        told["sub"],
    )
    assert report.normalization == "none, compounds merged"
