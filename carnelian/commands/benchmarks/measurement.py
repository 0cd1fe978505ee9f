"""What every benchmark shares: its options, contenders timed in turns, and the comparison with another run or commit."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated

from carnelian import __version__
from carnelian.benchmarking.results import (
    COMPARED,
    BenchmarkRow,
    BenchmarkRun,
    compare_benchmarks,
    doubts,
    print_run,
    read_run,
    run_as_dict,
    run_in_markdown,
    write_run,
)
from carnelian.benchmarking.rounds import CLOCKS, take_turns
from carnelian.console import bar, note, table
from carnelian.errors import CarnelianError
from carnelian.files import check_outputs, one_line, written
from carnelian.inference.processor import machine_facts, matrix_product_rate

ROOT = Path(__file__).resolve().parents[3]
#: options that are this command's own, not those of the processes that measure for it; whether a value follows
OWN_OPTIONS = {
    "--against": True,
    "--repeats": True,
    "--out": True,
    "--markdown": True,
    "--overwrite": False,
    "--json-output": False,
}
CLOCK_HELP = (
    "wall, or processor: time that processors worked, steadier on a busy machine; by default that of data and decoding, which "
    "run on one thread"
)


@dataclass(frozen=True, slots=True)
class BenchmarkOptions:
    """Options of all benchmarks; the command line makes one option of each field."""

    repeats: Annotated[int, "times that everything is measured, in turns; median and spread are over these"] = 7
    iterations: Annotated[int, "calls in each repeat; 0: as many as suit the benchmark"] = 0
    warm_up: Annotated[int, "calls before the first repeat, which do not count"] = 2
    clock: Annotated[str, CLOCK_HELP] = ""
    out: Annotated[Path | None, "write the run with all times to this JSON file"] = None
    markdown: Annotated[Path | None, "write the tables to this Markdown file"] = None
    against: Annotated[
        str, "compare with a file that --out wrote, or with a commit, measured in turns with this code"
    ] = ""
    overwrite: Annotated[bool, "replace outputs that exist"] = False
    json_output: Annotated[bool, "print one JSON object instead of tables"] = False

    def __post_init__(self) -> None:
        for name, least in (("repeats", 1), ("iterations", 0), ("warm_up", 0)):
            if getattr(self, name) < least:
                raise CarnelianError(f"--{name.replace('_', '-')} {getattr(self, name)}: expected {least} or more")
        if self.clock not in ("", *CLOCKS):
            raise CarnelianError(f'--clock "{self.clock}": no such clock. Known: {", ".join(CLOCKS)}')


@dataclass(frozen=True)
class Contender:
    """A function to time.

    case: what it is, by column. work: utterances, audio_seconds and gflop of a call. found: other figures, asked for after the last
    call.
    """

    case: dict[str, object]
    call: Callable[[], object]
    work: dict[str, float] = field(default_factory=dict)
    found: Callable[[], dict[str, float]] = dict


def measure_in_turns(
    kind: str,
    contenders: Sequence[Contender],
    options: BenchmarkOptions,
    *,
    iterations: int = 1,
    device: str = "cpu",
    precision: str = "fp32",
    baseline: dict[str, str] | None = None,
) -> BenchmarkRun:
    """Returns the run of some contenders.

    iterations: where the options do not say. device, precision: of the matrix products. baseline: column and name of the contender
    that the others are compared with.
    """
    peaks: list[dict[str, float]] = []
    named = {" ".join(map(str, each.case.values())): each for each in contenders}
    times = take_turns(
        {name: each.call for name, each in named.items()},
        repeats=options.repeats,
        iterations=options.iterations or iterations,
        warm_up=options.warm_up,
        before_repeat=lambda: peaks.append(matrix_product_rate(device, precision)),
    )
    rows = [BenchmarkRow(dict(each.case), times[name], dict(each.work), each.found()) for name, each in named.items()]
    command = " ".join([Path(sys.argv[0]).name.replace("__main__.py", "carnelian"), *sys.argv[1:]])
    day = str(date.today())
    return BenchmarkRun(kind, command, commit_of(ROOT), day, machine_facts(), rows, peaks, baseline or {})


def commit_of(folder: Path) -> str:
    """Returns the commit of a work tree, with "+" where it was changed since; the package's version where there is none."""
    git = ["git", "-C", str(folder)]
    try:
        found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True)
    except OSError:
        return __version__
    if found.returncode or not (folder / ".git").exists():
        return __version__
    return found.stdout.strip() + "+" * bool(changed.stdout.strip())


def run_benchmark(options: BenchmarkOptions, measure: Callable[[], BenchmarkRun], clock: str = "wall") -> BenchmarkRun:
    """Measures, prints and writes a run, and compares it as the options say. clock: where they name none."""
    clock = options.clock or clock
    check_outputs(options.out, options.markdown, overwrite=options.overwrite)
    before = None
    if options.against and Path(options.against).is_file():
        before = read_run(Path(options.against))
        run = measure()
    elif options.against:
        before, run = measure_beside_commit(options.against, options)
    else:
        run = measure()
    if options.out:
        write_run(options.out, run)
    compared, found = compare_benchmarks(before, run, clock) if before else ([], [])
    if options.markdown:
        with written(options.markdown) as file:
            file.write(run_in_markdown(run, clock, compared))
    if options.json_output:
        print(json.dumps({**run_as_dict(run), "compared": [asdict(each) for each in found]}, indent=1))
        return run
    print_run(run, clock)
    if before:
        table(f"against {options.against} ({before.commit}, {before.date}), by {clock} time", COMPARED, compared)
        for each in doubts(before, run, clock):
            note(f"careful: {each}")
    return run


def measure_beside_commit(commit: str, options: BenchmarkOptions) -> tuple[BenchmarkRun, BenchmarkRun]:
    """Returns the runs of another commit and of this code, measured in turns: a process of each for every repeat."""
    with tempfile.TemporaryDirectory() as folder:
        other, file = Path(folder) / "code", Path(folder) / "run.json"
        add = ["git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(other), commit]
        added = subprocess.run(add, capture_output=True, text=True)
        if added.returncode:
            reason = one_line(added.stderr.strip(), 120)
            raise CarnelianError(f"--against {commit}: neither a run's file nor a commit of {ROOT} ({reason})")
        try:
            runs: list[BenchmarkRun | None] = [None, None]
            with bar("repeats of both", 2 * options.repeats) as advance:
                for _ in range(options.repeats):
                    for index, tree in enumerate((other, ROOT)):
                        measured = measure_in_process(tree, file)
                        known = runs[index]
                        runs[index] = known.with_more(measured) if known else measured
                        advance(text=measured.commit)
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(other)], capture_output=True)
    before, now = runs
    assert before and now
    return before, now


def measure_in_process(
    tree: Path, file: Path, launcher: Sequence[str] = ("-m", "carnelian"), repeats: int = 1
) -> BenchmarkRun:
    """Returns the run of this command by the code in a folder, in a process of its own that writes it to a file."""
    command = [sys.executable, *launcher, *without_options(sys.argv[1:], OWN_OPTIONS)]
    command += ["--repeats", str(repeats), "--out", str(file), "--overwrite"]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise CarnelianError(
            one_line(f"measuring with {tree}: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}")
        )
    return read_run(file)


def without_options(words: Sequence[str], options: dict[str, bool]) -> list[str]:
    """Returns the words of a command line without some options; `options` says of each whether a value follows it."""
    kept, skip = [], False
    for word in words:
        name = word.partition("=")[0]
        if skip:
            skip = False
        elif name in options:
            skip = options[name] and "=" not in word
        else:
            kept.append(word)
    return kept
