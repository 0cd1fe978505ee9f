"""Signals that stop a training after everything is saved."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Stopped(Exception):
    """Raised when a run has stopped because of a signal, after it saved."""

    def __init__(self, number: int, folder: Path, step: int):
        self.number = number
        super().__init__(f"stopped at step {step} and saved in {folder}. The same command goes on from there")


@contextmanager
def catch_signals() -> Iterator[Callable[[], int]]:
    """Records SIGINT (Ctrl-C) and SIGTERM instead of stopping; a second Ctrl-C interrupts at once.

    Yields a function that returns the number of the signal, 0 if none came. Python delivers signals to the main thread only; in any
    other thread the function always returns 0.
    """
    noted: list[int] = []

    def note(number: int, frame: Any) -> None:
        if number == signal.SIGINT and number in noted:
            raise KeyboardInterrupt
        noted.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: noted[0] if noted else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
