"""The tables of docs/RESULTS.md: they say what benchmarks/results.toml says, and a run's figures come into both."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from carnelian.benchmarking.results import BenchmarkRow, BenchmarkRun
from carnelian.benchmarking.rounds import Timings
from carnelian.errors import CarnelianError

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import results as script  # noqa: E402


def a_run(ours: float, theirs: float) -> BenchmarkRun:
    """A run of two cases that took these seconds for ten utterances."""

    def row(name: str, seconds: float) -> BenchmarkRow:
        times = np.full((3, 2), seconds)
        return BenchmarkRow({"order": 3, "by": name}, Timings(times, 2 * times), {"utterances": 10})

    machine = {"cores": 2, "processor": "a processor", "instructions": ["AVX2"], "load": 0.4}
    rows = [row("carnelian", ours), row("lmplz", theirs)]
    return BenchmarkRun("language model", "the command", "abc1234", "2026-12-01", machine, rows)


MEASURE = {
    "unit": "ms",
    "case": {"order": "3", "by": "carnelian"},
    "peer": {"order": "3", "by": "lmplz"},
    "name": "lmplz",
}
ROW = script.ResultRow(
    "estimating", "1 s", "3 s, lmplz", "3", "python it.py {books}", "A", 1, "0", "2026-11-30", MEASURE
)


def test_the_page_says_what_the_file_says():
    page = script.PAGE.read_text()
    assert script.page_with(script.tables_of(script.read_results()), page) == page, (
        "run: python benchmarks/results.py --tables-only"
    )


def test_every_row_is_complete():
    results = script.read_results()
    names = [row.what for rows in results.questions.values() for row in rows]
    assert len(names) == len(set(names))
    for rows in results.questions.values():
        for row in rows:
            assert row.machine[0] in results.machines and row.figure and row.command, row
            assert re.fullmatch(r"20\d\d-\d\d-\d\d", row.date) and re.fullmatch("[0-9a-f]{7,}", row.commit), row
            assert bool(row.needs) <= bool(row.measure) or "MODEL" in row.command, row


def test_the_readme_agrees():
    readme = (ROOT / "README.md").read_text()
    [accuracy] = [rows for title, rows in script.read_results().questions.items() if "accurate" in title]
    for row in accuracy:
        figure = row.figure.partition(" (")[0]
        assert figure in readme and row.commit in readme, f"README's record table lacks {figure} of {row.commit}"


def test_figures_of_a_run():
    letters = {"A": "another machine"}
    row = script.measured(ROW, a_run(0.5, 2.0), letters)
    assert (row.figure, row.peer, row.ratio) == ("500 ms", "2,000 ms, lmplz", "4")
    assert (row.machine, row.commit, row.date) == ("B, load 0", "abc1234", "2026-12-01")
    assert letters["B"] == "2 cores of a processor (AVX2)"
    each = script.measured(script.replace(ROW, measure=MEASURE | {"per": "utterances"}), a_run(0.5, 2.0), letters)
    assert each.figure == "50 ms"
    by_processor = script.measured(
        script.replace(ROW, measure=MEASURE | {"clock": "processor"}), a_run(0.5, 2.0), letters
    )
    assert by_processor.figure == "1,000 ms"


def test_a_peer_that_is_not_installed_keeps_the_row():
    with pytest.raises(CarnelianError, match="is the peer installed"):
        script.row_of(a_run(1, 2), {"by": "jiwer"})


def test_why_a_row_is_not_measured():
    assert script.why_not(ROW, {"books": ""}, False) == "needs --books"
    assert script.why_not(ROW, {"books": "a.txt"}, False) == ""
    assert script.why_not(script.replace(ROW, minutes=9), {"books": "a.txt"}, False) == "takes 9 minutes: --all"
    assert script.why_not(script.replace(ROW, measure={}), {"books": "a.txt"}, True) == "a recorded run"


def test_figures_come_into_the_file_beside_its_comments(tmp_path):
    path = tmp_path / "results.toml"
    path.write_text(script.ROWS.read_text())
    before = script.read_results(path)
    title, rows = next((title, rows) for title, rows in before.questions.items() if any(row.measure for row in rows))
    new = [script.replace(row, figure="7 s", date="2026-12-24") if row is rows[0] else row for row in rows]
    now = script.Results(before.machines | {"Z": "a new machine"}, before.questions | {title: new})
    script.write_rows(path, before, now)
    assert script.read_results(path) == now
    assert path.read_text().startswith(script.ROWS.read_text().partition("\n[machines]")[0])


def test_a_page_without_its_marks_is_refused():
    with pytest.raises(CarnelianError, match="Put both lines back"):
        script.page_with("tables", "# Results\n")
