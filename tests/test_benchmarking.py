"""Times in turns, a run's file and tables, and a verdict that holds its error rate."""

import itertools
import json
import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnelian.benchmarking.results import (
    BenchmarkRow,
    BenchmarkRun,
    columns_and_rows,
    compare_benchmarks,
    doubts,
    read_run,
    run_in_markdown,
    write_run,
)
from carnelian.benchmarking.rounds import CallSeconds, Timings, seconds_of, take_turns
from carnelian.benchmarking.verdict import holm, mann_whitney, verdicts
from carnelian.errors import CarnelianError

VALUES = st.lists(st.integers(0, 5), min_size=1, max_size=5)


@given(VALUES, VALUES)
@settings(deadline=None)
def test_mann_whitney_is_the_share_of_all_divisions_of_the_values(first, second):
    """The definition: of all ways to call as many of the values the first ones, those whose rank sum is as far from its mean."""
    values = np.array(first + second, float)
    ranks = np.array([(values < each).sum() + ((values == each).sum() + 1) / 2 for each in values])
    mean = len(first) * (len(values) + 1) / 2
    apart = abs(ranks[: len(first)].sum() - mean)
    sums = [ranks[list(some)].sum() for some in itertools.combinations(range(len(values)), len(first))]
    expected = np.mean([abs(each - mean) >= apart - 1e-9 for each in sums])
    assert mann_whitney(first, second) == pytest.approx(expected, abs=1e-12)
    assert mann_whitney(second, first) == pytest.approx(expected, abs=1e-12)


def test_mann_whitney_of_a_textbook():
    assert mann_whitney(range(7), range(7, 14)) == pytest.approx(2 / math.comb(14, 7))
    assert mann_whitney([1, 2], [1, 2]) == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def measured(rng, mean, repeats=7):
    """Times of calls whose level wanders from repeat to repeat."""
    levels = mean * np.exp(0.05 * rng.standard_normal((repeats, 1)))
    return levels * np.exp(0.02 * rng.standard_normal((repeats, 5)))


def test_the_verdict_holds_its_error_rate_and_finds_what_is_there():
    rng = np.random.default_rng(0)
    equal = [verdicts([measured(rng, 1), measured(rng, 3)], [measured(rng, 1), measured(rng, 3)]) for _ in range(200)]
    wrong = sum(any(each.words != "not distinguishable" for each in pair) for pair in equal)
    assert wrong <= 18, "0.05 of 200 and three standard deviations"
    found = [verdicts([measured(rng, 1.3)], [measured(rng, 1)])[0] for _ in range(50)]
    assert sum("faster" in each.words for each in found) >= 48
    assert sum(each.low <= 1.3 <= each.high for each in found) >= 42
    assert "slower" in verdicts([measured(rng, 1)], [measured(rng, 1.3)])[0].words


def test_what_the_machine_itself_explains_is_no_difference():
    rng = np.random.default_rng(0)
    before, now = [measured(rng, 2)], [measured(rng, 1)]
    assert "faster" in verdicts(before, now)[0].words
    assert verdicts(before, now, drift=2.1)[0].words == "not distinguishable"
    assert "faster" in verdicts(before, now, drift=1.3)[0].words


def test_turns_are_taken_and_the_warm_up_is_left_out():
    calls = []
    contenders = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    found = take_turns(contenders, repeats=2, iterations=2, warm_up=1, before_repeat=lambda: calls.append("|"))
    assert "".join(calls) == "ab|aabb|aabb"
    assert found["a"].wall.shape == found["b"].processor.shape == (2, 2) and (found["a"].wall > 0).all()


def test_waiting_is_wall_time_and_a_process_may_measure_itself():
    waited = seconds_of(lambda: time.sleep(0.05))
    assert waited.wall >= 0.05 > 5 * waited.processor
    assert seconds_of(lambda: CallSeconds(3.0, 2.0)) == (3.0, 2.0)


def a_run(scale=1.0, machine="x", peak=100.0, repeats=5):
    rng = np.random.default_rng(round(100 * scale))
    rows = [
        BenchmarkRow(
            {"model": "m", "batch": batch, "seconds": 2.0},
            Timings(*(scale * batch * rng.uniform(0.1, 0.102, (2, repeats, 3)))),
            {"utterances": batch, "audio_seconds": 2.0 * batch, "gflop": 5.0 * batch},
            {"WER %": 3.5},
        )
        for batch in (1, 8)
    ]
    facts = {"processor": machine, "instructions": ["AVX2"], "cores": 2, "gpus": [], "programs": {"Python": "3"}}
    peaks = [{"wall": peak, "processor": peak}] * repeats
    return BenchmarkRun("inference", "carnelian benchmark inference m", "abc", "2026-11-30", facts, rows, peaks)


def test_a_run_is_read_as_it_was_written(tmp_path):
    run = a_run()
    write_run(tmp_path / "run.json", run)
    found = read_run(tmp_path / "run.json")
    assert (found.rows[1].timings.wall == run.rows[1].timings.wall.round(9)).all()
    assert columns_and_rows(found, "wall") == columns_and_rows(run, "wall") and found.machine == run.machine
    more = found.with_more(a_run(repeats=2))
    assert more.rows[0].timings.wall.shape == (7, 3) and len(more.peaks) == 7


def test_tables_have_the_form_that_nvidia_publishes():
    title, heads, rows = columns_and_rows(a_run(), "wall")
    assert title == "inference, model m, seconds 2, wall time"
    assert heads == ["batch", "average ms", "90 %", "95 %", "99 %", "utterances/s", "of peak", "WER %"]
    assert rows[1][0] == "8" and 800 <= float(rows[1][1]) <= float(rows[1][4]) <= 816
    assert 9.8 <= float(rows[0][5]) <= 10 and rows[0][6] == "49 %"
    text = run_in_markdown(a_run(), "wall")
    assert "| batch | average ms |" in text and "commit abc, 2026-11-30" in text and "AVX2" in text


def test_a_peer_is_the_measure_of_the_others():
    rows = [
        BenchmarkRow({"path": path, "batch": batch}, Timings(*np.full((2, 3, 1), seconds * batch)), {"utterances": 1.0})
        for path, seconds in (("peer", 1.0), ("ours", 0.25))
        for batch in (1, 2)
    ]
    run = replace(a_run(), rows=rows, baseline={"path": "peer"})
    _, heads, found = columns_and_rows(run, "wall")
    assert heads[-1] == "times peer" and [row[-1] for row in found] == ["1.00", "1.00", "4.00", "4.00"]


def test_runs_are_compared(tmp_path):
    rows, found = compare_benchmarks(a_run(2.0), a_run(1.0), "wall")
    assert [row[0] for row in rows] == ["1", "8"] and all(96 < 100 * (each.ratio - 1) < 104 for each in found)
    assert all(each.words.endswith("faster") for each in found)
    assert doubts(a_run(), a_run(1.01), "wall") == []
    assert "another machine" in doubts(a_run(), a_run(machine="y"), "wall")[0]
    assert "50 % slower" in doubts(a_run(), a_run(peak=50.0), "wall")[0]
    assert "fewer than 4" in doubts(a_run(), a_run(repeats=3), "wall")[0]
    assert compare_benchmarks(a_run(2.0), a_run(1.0, peak=200.0), "wall")[1][0].words == "not distinguishable"


@pytest.mark.parametrize(
    "change",
    [
        lambda run: run.update(format="another"),
        lambda run: run["rows"][0].update(timings={"wall": [1.0], "processor": [1.0]}),
        lambda run: run["rows"][0]["timings"].update(wall=[[1.0], [1.0, 2.0]]),
        lambda run: run["rows"][0].update(work={"utterances": "many"}),
        lambda run: run.update(rows=3),
        lambda run: run.pop("machine"),
    ],
)
def test_a_file_that_is_no_run_is_one_line(tmp_path, change):
    write_run(tmp_path / "run.json", a_run())
    run = json.loads((tmp_path / "run.json").read_text())
    change(run)
    (tmp_path / "run.json").write_text(json.dumps(run))
    with pytest.raises(CarnelianError) as error:
        read_run(tmp_path / "run.json")
    assert "run.json" in str(error.value) and len(str(error.value)) <= 300
