"""Measures the rows of benchmarks/results.toml that this machine can, and writes the tables at the top of docs/RESULTS.md.

    python benchmarks/results.py [--tables-only] [--all] [--question WORD] [--nemo PYTHON] [--lmplz PATH] [--books TEXT]
        [--books-model ARPA] [--emissions FOLDER] [--references TSV] [--hypotheses TSV]

`make results RESULTS="--books books.txt.gz"` runs it. A row that is not measured keeps its figure, commit and date, and the script
says why: it needs a program, a file or minutes that were not given, or it is a recorded run.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from carnelian.benchmarking.results import BenchmarkRow, BenchmarkRun, markdown_table, read_run
from carnelian.cli import as_typer
from carnelian.console import note
from carnelian.errors import CarnelianError
from carnelian.files import one_line, written

ROOT = Path(__file__).resolve().parents[1]
ROWS, PAGE = ROOT / "benchmarks" / "results.toml", ROOT / "docs" / "RESULTS.md"
BEGIN, END = "<!-- made by `make results` from benchmarks/results.toml -->", "<!-- end of what is made -->"
#: minutes up to which a command is run without --all
SHORT = 2
SCALES = {"s": 1.0, "ms": 1e3}


@dataclass(frozen=True)
class ResultRow:
    """A line of the tables, and where it is from. measure: how to read it from a benchmark's run; empty for recorded runs."""

    what: str
    figure: str
    peer: str
    ratio: str
    command: str
    machine: str
    minutes: float
    commit: str
    date: str
    measure: dict[str, Any] = field(default_factory=dict)

    @property
    def needs(self) -> list[str]:
        """The names in braces in the command."""
        return re.findall(r"{(\w+)}", self.command)


@dataclass(frozen=True)
class Results:
    """What benchmarks/results.toml holds: machines by letter, and the rows by question."""

    machines: dict[str, str]
    questions: dict[str, list[ResultRow]]


def read_results(path: Path = ROWS) -> Results:
    """Returns the rows of the file."""
    found = tomllib.loads(path.read_text(encoding="utf-8"))
    questions = {each["title"]: [ResultRow(**row) for row in each["rows"]] for each in found["questions"]}
    return Results(found["machines"], questions)


def tables_of(results: Results) -> str:
    """Returns the part of the page that is made: a table for each question, the machines, and a table of where rows are from."""
    parts = [
        "\n".join(f"Machine {letter}: {text}.  " for letter, text in results.machines.items()).rstrip(),
        "Ratio: how many times as fast as the peer. Load: processes that wanted a processor. Command, commit and date of each "
        "row stand below the last of these tables.",
    ]
    sources = []
    for title, rows in results.questions.items():
        cells = [[row.what, row.figure, row.peer, row.ratio, row.machine] for row in rows]
        parts += [f"### {title}", markdown_table(("what", "figure", "peer", "ratio", "machine"), cells)]
        sources += [[row.what, f"`{row.command}`", row.commit, row.machine, row.date] for row in rows]
    parts += [
        "### Where these rows are from",
        "A name in braces is an option of `benchmarks/results.py`. Rows without one are recorded runs, repeated by hand.",
        markdown_table(("what", "command", "commit", "machine", "date"), sources),
    ]
    return "\n\n".join(parts)


def page_with(tables: str, page: str) -> str:
    """Returns the page with the part that is made replaced. Raises CarnelianError where its marks are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise CarnelianError(f'{PAGE}: no part between "{BEGIN}" and "{END}". Put both lines back')
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def why_not(row: ResultRow, given: Mapping[str, str], long_ones: bool) -> str:
    """Returns why a row is not measured; nothing where it is."""
    if not row.measure:
        return "a recorded run"
    missing = [name for name in row.needs if not given.get(name)]
    if missing:
        return "needs " + ", ".join(f"--{name.replace('_', '-')}" for name in missing)
    if row.minutes > SHORT and not long_ones:
        return f"takes {row.minutes:g} minutes: --all"
    return ""


def run_of(command: str, given: Mapping[str, str]) -> BenchmarkRun:
    """Runs a row's command and returns the run that it writes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.json"
        words = [sys.executable if word == "python" else word.format(**given) for word in shlex.split(command)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run([*words, "--out", file], cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it failed"])[-1]
            raise CarnelianError(one_line(f"{command}: {last}"))
        return read_run(file)


def row_of(run: BenchmarkRun, case: Mapping[str, str]) -> BenchmarkRow:
    """Returns the row of a run whose case has these values; CarnelianError where there is none, as for a peer not installed."""
    for row in run.rows:
        if all(str(row.case.get(key)) == str(value) for key, value in case.items()):
            return row
    raise CarnelianError(f"no case {dict(case)} in the run: is the peer installed?")


def short_number(value: float) -> str:
    """Returns a number with three digits, or all of its whole ones."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def measured(row: ResultRow, run: BenchmarkRun, letters: dict[str, str]) -> ResultRow:
    """Returns a row with the figures of a run; a machine that has no letter yet gets the next."""
    how = row.measure
    clock, unit = how.get("clock", "wall"), how["unit"]
    times = {}
    for side in ("case", "peer"):
        found = row_of(run, how[side])
        times[side] = found.timings.by(clock).mean(axis=1) / found.work.get(how.get("per", ""), 1.0)
    ours, theirs = (f"{short_number(SCALES[unit] * np.median(times[side]))} {unit}" for side in ("case", "peer"))
    ratio = short_number(np.median(times["peer"] / times["case"]))
    machine = run.machine
    words = f"{machine['cores']} cores of {machine['processor']} ({', '.join(machine['instructions'])})"
    letter = next((key for key, text in letters.items() if text == words), "")
    if not letter:
        letter = chr(ord(max(letters)) + 1)
        letters[letter] = words
    changed = {
        "figure": ours,
        "peer": f"{theirs}, {how['name']}",
        "ratio": ratio,
        "machine": f"{letter}, load {machine['load']:.0f}",
        "commit": run.commit,
        "date": run.date,
    }
    return replace(row, **changed)


def write_rows(path: Path, before: Results, now: Results) -> None:
    """Writes changed figures into the file, line by line, so that its comments and order stay."""
    text = path.read_text(encoding="utf-8")
    for title, rows in now.questions.items():
        for old, new in zip(before.questions[title], rows):
            if old != new:
                text = with_figures(text, new)
    added = [f'{letter} = "{words}"\n' for letter, words in now.machines.items() if letter not in before.machines]
    head, mark, rest = text.partition("\n[[questions]]")
    with written(path) as file:
        file.write(head + "".join(added) + mark + rest)


def with_figures(text: str, row: ResultRow) -> str:
    """Returns the file's text with this row's figures in its place."""
    start = text.index(f'"{row.what}"')
    end = text.find("[[questions", start)
    end = len(text) if end < 0 else end
    part = text[start:end]
    for key in ("figure", "peer", "ratio", "machine", "commit", "date"):
        part = re.sub(
            rf'(?m)^{key}(\s*)= ".*"$', lambda found, key=key: f'{key}{found[1]}= "{getattr(row, key)}"', part
        )
    return text[:start] + part + text[end:]


def measure_rows(
    results: Results, given: Mapping[str, str], *, long_ones: bool, question: str
) -> tuple[Results, list[str]]:
    """Returns the results with the rows that could be measured anew, and for each row what became of it."""
    machines, questions, runs = dict(results.machines), {}, {}
    outcomes: list[str] = []
    for title, rows in results.questions.items():
        questions[title] = []
        for row in rows:
            reason = "not asked for" if question not in title else why_not(row, given, long_ones)
            if not reason:
                try:
                    if row.command not in runs:
                        note(f"running: {row.command}")
                        runs[row.command] = run_of(row.command, given)
                    row = measured(row, runs[row.command], machines)
                except CarnelianError as error:
                    reason = str(error)
            questions[title].append(row)
            outcomes.append(f"{f'kept, {reason}' if reason else f'measured, {row.figure}'}: {row.what}")
    return Results(machines, questions), outcomes


def main(
    *,
    tables_only: Annotated[bool, "write the tables from the rows as they are, and measure nothing"] = False,
    all: Annotated[bool, f"also the commands that take over {SHORT} minutes"] = False,
    question: Annotated[str, "only the tables whose title holds this word"] = "",
    nemo: Annotated[str, "the python of an environment with NeMo and this package's dependencies"] = "",
    lmplz: Annotated[str, "KenLM's program"] = shutil.which("lmplz") or "",
    books: Annotated[str, "text to estimate n-gram models from"] = "",
    books_model: Annotated[str, "a trigram of it, an ARPA file"] = "",
    emissions: Annotated[str, "a folder of .npz files with log_probs and text"] = "",
    references: Annotated[str, "names and texts"] = "",
    hypotheses: Annotated[str, "names and texts"] = "",
) -> None:
    results = read_results()
    if not tables_only:
        paths = {
            "nemo": nemo,
            "lmplz": lmplz,
            "books": books,
            "books_model": books_model,
            "emissions": emissions,
            "references": references,
            "hypotheses": hypotheses,
        }
        given = {name: str(Path(path).absolute()) if path else "" for name, path in paths.items()}
        now, outcomes = measure_rows(results, given, long_ones=all, question=question)
        write_rows(ROWS, results, now)
        results = read_results()
        print("\n".join(outcomes))
    page = page_with(tables_of(results), PAGE.read_text(encoding="utf-8"))
    with written(PAGE) as file:
        file.write(page)


if __name__ == "__main__":
    typer.run(as_typer(main))
