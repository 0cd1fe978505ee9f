"""Leaving a training by a signal, with everything saved."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Stopped(Exception):
    """The run was told to stop, by the signal of that number, and has saved."""

    def __init__(self, number: int, folder: Path, step: int):
        self.number = number
        super().__init__(f"stopped at step {step} and saved in {folder}. The same command goes on from there")


@contextmanager
def catch_signals() -> Iterator[Callable[[], int]]:
    """While open, Ctrl-C and SIGTERM are noted, to be looked at between steps; a second Ctrl-C interrupts at once.

    Gives a function that tells the signal's number, 0 if none came. Outside the main thread, where Python hears no signals, none
    comes.
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
