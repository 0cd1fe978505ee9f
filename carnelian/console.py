"""What people see while they wait: progress bars, tables, one-line notes, all on standard error. The door to rich."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

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
    """A table on standard output; columns of numbers are aligned to the right."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    drawn = Table(title=Text(printable(title)), title_justify="left")
    for index, column in enumerate(columns):
        numeric = bool(cells) and all(row[index][:1].isdigit() or row[index][:1] in "-" for row in cells)
        drawn.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        drawn.add_row(*map(Text, row))
    Output().print(drawn)
