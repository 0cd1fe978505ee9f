"""What people see while they wait: progress bars, tables, one-line notes, all on standard error. The only importer of rich."""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

Item = TypeVar("Item")


class Output(Console):
    """A console whose broken pipe is the program's to handle: rich alone would end it with exit code 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


stderr = Console(stderr=True)
NUMBER = re.compile(r"[-+–]?[\d.,–-]*( |$)")  # and an empty cell; a unit or a remark may follow
LONGEST_WORD = 16  # characters of a table's cell that are kept together
SECONDS_BETWEEN_LINES = 60.0  # in a log, where no bar can be drawn


def printable(text: str) -> str:
    """Returns the text with what would act on a terminal (control characters, bytes that are no text) as escapes; lines stay lines."""
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in text
    )


def note(text: str) -> None:
    """A line of plain text on standard error; above the bar where one is running."""
    stderr.print(printable(text), markup=False, emoji=False, highlight=False, soft_wrap=True)


@contextmanager
def bar(description: str, total: float | None = None) -> Iterator[Any]:
    """A progress bar; gives `advance(amount=1, text="")`, which moves it on and may change the words at its end.

    Where standard error is no terminal, it is a line of text now and then.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task(printable(description), total=total, text="")
        shown = progress.tasks[task]
        printed = time.monotonic()

        def advance(amount: float = 1, text: str | None = None) -> None:
            nonlocal printed
            fields: dict[str, Any] = {} if text is None else {"text": text}
            progress.update(task, advance=amount, **fields)
            if not stderr.is_terminal and time.monotonic() - printed > SECONDS_BETWEEN_LINES:
                printed = time.monotonic()
                of = f" of {total:,.0f}" if total else ""
                note(f"{description}: {shown.completed:,.0f}{of}  {shown.fields['text']}".rstrip())

        yield advance


def track(values: Iterable[Item], description: str, total: float | None = None) -> Iterator[Item]:
    """The same values, with a bar that moves as they are taken."""
    if total is None and hasattr(values, "__len__"):
        total = len(values)  # type: ignore[arg-type]
    with bar(description, total) as advance:
        for value in values:
            yield value
            advance()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output; columns of numbers are aligned to the right.

    Where it does not fit the terminal without cutting words and numbers, each row becomes lines of a column's name and value.
    """
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    output = Output()
    if narrowest(columns, cells) > output.width:
        print_rows(title, columns, cells)
        return
    drawn = Table(title=Text(printable(title)), title_justify="left")
    for index, column in enumerate(columns):
        numeric = bool(cells) and all(NUMBER.match(row[index]) for row in cells)
        drawn.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        drawn.add_row(*map(Text, row))
    output.print(drawn)


def narrowest(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    """The characters that a table needs so that no word is cut; of long words only LONGEST_WORD count, since they are to be cut."""
    widths = [
        max((min(cell_len(word), LONGEST_WORD) for text in texts for word in text.split()), default=0)
        for texts in zip(columns, *cells)
    ]
    return sum(width + 3 for width in widths) + 1


def print_rows(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table for a narrow terminal: of each row the first cell, then the further ones that are not empty, a line for each."""
    output, width = Output(), max(map(cell_len, columns))
    output.print(Text(printable(title)))
    for row in ([printable(str(cell)) for cell in row] for row in rows):
        output.print(Text(f"{columns[0]} {row[0]}".strip()))
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=1)
        grid.add_column(width=min(width, output.width // 2))
        grid.add_column(overflow="fold")
        for column, cell in zip(columns[1:], row[1:]):
            if cell:
                grid.add_row("", Text(column), Text(cell))
        output.print(grid)


def duration_text(seconds: float) -> str:
    """Returns a duration for people: below an hour in minutes, such as "0.05 min" and "36.9 min", and "1.25 h", "960 h" above."""
    amount, unit = (seconds / 60, "min") if abs(seconds) < 3600 else (seconds / 3600, "h")
    return f"{amount:,.{2 if abs(amount) < 9.995 else 1 if abs(amount) < 99.95 else 0}f} {unit}"
