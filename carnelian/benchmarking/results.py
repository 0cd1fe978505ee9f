"""A benchmark's run: its rows with all times, the machine and the command; as a JSON file, and as tables."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from carnelian.benchmarking.rounds import CLOCKS, Timings
from carnelian.benchmarking.verdict import Verdict, verdicts
from carnelian.console import table
from carnelian.errors import CarnelianError
from carnelian.files import reading, written

BENCHMARK_FORMAT = "carnelian benchmark 1"
PERCENTILES = (90, 95, 99)
#: what a run of either machine must have in common to be compared
SAME_MACHINE = ("processor", "cores", "gpus")
FEWEST_REPEATS = 4  # of which both runs must have as many for a probability below 0.05
DRIFT = 0.05  # by which the matrix products of two runs may differ before it is said


@dataclass(frozen=True)
class BenchmarkRow:
    """What was timed: `case` says what, by column. work: utterances, audio_seconds and gflop of one call. found: other figures."""

    case: dict[str, Any]
    timings: Timings
    work: dict[str, float] = field(default_factory=dict)
    found: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class BenchmarkRun:
    """All rows of a benchmark, with what is needed to repeat it. peaks: GFLOP of matrix products per second
    by each clock, measured before each repeat. baseline: column and name of the contender whose speed is the measure of the others.
    """

    kind: str
    command: str
    commit: str
    date: str
    machine: dict[str, Any]
    rows: list[BenchmarkRow]
    peaks: list[dict[str, float]] = field(default_factory=list)
    baseline: dict[str, str] = field(default_factory=dict)

    def peak(self, clock: str) -> float:
        """The highest of the matrix products by a clock, 0 where none was measured."""
        return max((each[clock] for each in self.peaks), default=0.0)

    def with_more(self, other: "BenchmarkRun") -> "BenchmarkRun":
        """Returns this run with the repeats of another measurement of the same cases."""
        pairs = same_cases(self, other)
        rows = [replace(one, timings=one.timings.with_more(two.timings)) for one, two in pairs]
        return replace(self, rows=rows, peaks=[*self.peaks, *other.peaks])


def run_as_dict(run: BenchmarkRun) -> dict[str, Any]:
    """Returns a run as it is written, all times included."""
    rows = [
        {**vars(row), "timings": {name: np.round(times, 9).tolist() for name, times in vars(row.timings).items()}}
        for row in run.rows
    ]
    return {"format": BENCHMARK_FORMAT, **vars(run), "rows": rows}


def write_run(path: Path, run: BenchmarkRun) -> None:
    """Writes a run as JSON."""
    with written(path) as file:
        json.dump(run_as_dict(run), file, indent=1)


def read_run(path: Path) -> BenchmarkRun:
    """Returns a run that `write_run` wrote. Raises CarnelianError."""
    with reading(path, "a run of `carnelian benchmark --out`"):
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.get("format") != BENCHMARK_FORMAT:
            raise CarnelianError(
                f'{path}: not a run of a benchmark. Write one with "carnelian benchmark ... --out FILE"'
            )
        rows = [read_row(row) for row in found["rows"]]
        kind, command, commit, day = (str(found[key]) for key in ("kind", "command", "commit", "date"))
        peaks = [{clock: float(each[clock]) for clock in CLOCKS} for each in found["peaks"]]
        baseline = {str(key): str(value) for key, value in found.get("baseline", {}).items()}
        return BenchmarkRun(kind, command, commit, day, dict(found["machine"]), rows, peaks, baseline)


def read_row(row: dict[str, Any]) -> BenchmarkRow:
    """Returns a row from its JSON; an exception of any kind where it is none."""
    times = {name: np.array(row["timings"][name], float) for name in CLOCKS}
    if any(each.ndim != 2 or each.shape != times["wall"].shape or not each.size for each in times.values()):
        raise ValueError("its times are not lists of repeats")
    numbers = [{str(key): float(value) for key, value in row[name].items()} for name in ("work", "found")]
    return BenchmarkRow({str(key): value for key, value in row["case"].items()}, Timings(**times), *numbers)


def figures_of(row: BenchmarkRow, kind: str, clock: str, peak: float) -> dict[str, str]:
    """Returns the columns of a row's figures: in the form that NVIDIA publishes for training and inference."""
    times = row.timings.by(clock)
    seconds = times.mean(axis=1)
    utterances, audio = row.work.get("utterances"), row.work.get("audio_seconds")
    if kind == "inference":
        percentiles = zip(PERCENTILES, np.percentile(times, PERCENTILES))
        figures = {"average ms": f"{1e3 * times.mean():.1f}"}
        figures |= {f"{percent} %": f"{1e3 * value:.1f}" for percent, value in percentiles}
        figures["utterances/s"] = f"{np.median(row.work['utterances'] / seconds):.2f}"
    elif kind == "decoding" and utterances:
        figures = middle_and_spread("ms an utterance", 1e3 * seconds / utterances, 3)
    elif kind == "data" and audio:
        figures = middle_and_spread("audio s/s", audio / seconds, 0)
    elif kind == "training" and utterances:
        figures = middle_and_spread("utterances/s", utterances / seconds, 2)
        figures["ms a step"] = f"{1e3 * np.median(seconds):.1f}"
    else:
        figures = middle_and_spread("seconds", seconds, 3)
    if peak and "gflop" in row.work:
        figures["of peak"] = f"{100 * row.work['gflop'] / np.median(seconds) / peak:.0f} %"
    return figures | {name: f"{value:,.2f}" for name, value in row.found.items()}


def middle_and_spread(name: str, values: np.ndarray, digits: int) -> dict[str, str]:
    """Returns the median of values under a name, and their range."""
    low, high = f"{values.min():,.{digits}f}", f"{values.max():,.{digits}f}"
    return {name: f"{np.median(values):,.{digits}f}", "min – max": f"{low} – {high}"}


def times_as_fast(run: BenchmarkRun, row: BenchmarkRow, clock: str) -> dict[str, str]:
    """Returns how many times as fast a row is as the baseline: the median over the repeats, which both shared."""
    twin = next((each for each in run.rows if each.case == row.case | run.baseline), None)
    if not run.baseline or twin is None:
        return {}
    ratios = twin.timings.by(clock).mean(axis=1) / row.timings.by(clock).mean(axis=1)
    return {f"times {next(iter(run.baseline.values()))}": f"{np.median(ratios):.2f}"}


def case_in_words(rows: Sequence[BenchmarkRow]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Returns what all cases have in common, and what each has besides."""
    cases = [
        {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in row.case.items()}
        for row in rows
    ]
    shared = set.intersection(*(set(case.items()) for case in cases)) if len(cases) > 1 else set()
    own = [{key: value for key, value in case.items() if (key, value) not in shared} for case in cases]
    return {key: value for key, value in cases[0].items() if (key, value) in shared}, own


def columns_and_rows(run: BenchmarkRun, clock: str) -> tuple[str, list[str], list[list[str]]]:
    """Returns title, heads and cells of a run's table; what all rows have in common is in the title."""
    shared, own = case_in_words(run.rows)
    cells = [
        case | figures_of(row, run.kind, clock, run.peak(clock)) | times_as_fast(run, row, clock)
        for case, row in zip(own, run.rows)
    ]
    heads = list(dict.fromkeys(name for row in cells for name in row))
    title = [f"{key} {value}" for key, value in shared.items()]
    return (
        ", ".join([run.kind, *title, f"{clock} time"]),
        heads,
        [[row.get(name, "") for name in heads] for row in cells],
    )


def machine_in_words(run: BenchmarkRun, clock: str) -> str:
    """Returns processor, instruction sets, cores, devices, programs and the speed of matrix products in a line."""
    machine = run.machine
    sets = f" ({', '.join(machine['instructions'])})" if machine.get("instructions") else ""
    words = [f"{machine.get('cores', '?')} cores of {machine.get('processor', 'an unknown processor')}{sets}"]
    words += [f"{machine['memory_gb']:.0f} GB"] if machine.get("memory_gb") else []
    words += machine.get("gpus", [])
    words += [f"{name} {version}" for name, version in machine.get("programs", {}).items()]
    words += [f"{machine['threads']} threads"] if machine.get("threads") else []
    words += [f"load {machine['load']:.1f}"] if "load" in machine else []
    words += [f"matrix products {run.peak(clock):,.0f} GFLOP per {clock} second"] if run.peaks else []
    return ", ".join(words)


def print_run(run: BenchmarkRun, clock: str) -> None:
    """Prints a run as a table."""
    table(*columns_and_rows(run, clock))
    print(machine_in_words(run, clock))


def run_in_markdown(run: BenchmarkRun, clock: str, compared: Sequence[Sequence[str]] = ()) -> str:
    """Returns a run as Markdown, with command, commit, machine and date, and what came out of a comparison."""
    title, heads, rows = columns_and_rows(run, clock)
    parts = [
        f"{title}: `{run.command}`, commit {run.commit}, {run.date}; {machine_in_words(run, clock)}.",
        markdown_table(heads, rows),
    ]
    if compared:
        parts.append(markdown_table(COMPARED, compared))
    return "\n\n".join(parts) + "\n"


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table of Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


COMPARED = ("case", "before, ms", "now, ms", "ratio", "95 %", "p", "verdict")


def same_cases(before: BenchmarkRun, now: BenchmarkRun) -> list[tuple[BenchmarkRow, BenchmarkRow]]:
    """Returns the rows of cases that both runs have. CarnelianError where there is none."""
    earlier = {json.dumps(row.case, sort_keys=True): row for row in before.rows}
    pairs = [(earlier.get(json.dumps(row.case, sort_keys=True)), row) for row in now.rows]
    found = [(one, two) for one, two in pairs if one is not None]
    if not found:
        raise CarnelianError("--against: no case of this run is in the other one. Measure both with the same options")
    return found


def compare_benchmarks(before: BenchmarkRun, now: BenchmarkRun, clock: str) -> tuple[list[list[str]], list[Verdict]]:
    """Returns a table under COMPARED, and the verdicts, on the cases that two runs have in common."""
    if before.kind != now.kind:
        raise CarnelianError(f"--against: a run of benchmark {before.kind}, this is one of {now.kind}")
    pairs = same_cases(before, now)
    earlier, later = [one.timings.by(clock) for one, _ in pairs], [two.timings.by(clock) for _, two in pairs]
    found = verdicts(earlier, later, drift_of(before, now, clock))
    rows = []
    _, cases = case_in_words([two for _, two in pairs])
    for (one, two), own, each in zip(pairs, cases, found):
        seconds = [f"{1e3 * np.median(row.timings.by(clock)):,.1f}" for row in (one, two)]
        case = ", ".join(own.values())
        rows.append(
            [
                case,
                *seconds,
                f"{each.ratio:.3f}",
                f"{each.low:.3f} – {each.high:.3f}",
                f"{each.adjusted:.2g}",
                each.words,
            ]
        )
    return rows, found


def drift_of(before: BenchmarkRun, now: BenchmarkRun, clock: str) -> float:
    """Returns how many times as fast the machine itself was by its matrix products, 1 where that was not measured."""
    middles = [np.median([each[clock] for each in run.peaks]) for run in (before, now) if run.peaks]
    return float(middles[1] / middles[0]) if len(middles) == 2 else 1.0


def doubts(before: BenchmarkRun, now: BenchmarkRun, clock: str) -> list[str]:
    """Returns why two runs are hard to compare: another machine, one whose own speed was another one, or few repeats."""
    machines = [(name, before.machine.get(name), now.machine.get(name)) for name in SAME_MACHINE]
    found = [f"another machine: {name} {one}, now {other}" for name, one, other in machines if one != other]
    drift = drift_of(before, now, clock)
    if abs(drift - 1) > DRIFT:
        words = f"{100 * abs(drift - 1):.0f} % {'faster' if drift > 1 else 'slower'}"
        found.append(
            f"the machine itself was {words} by its matrix products; a commit is measured in turns: --against COMMIT"
        )
    if min(len(run.rows[0].timings.wall) for run in (before, now)) < FEWEST_REPEATS:
        found.append(f"fewer than {FEWEST_REPEATS} repeats can show no difference")
    return found
