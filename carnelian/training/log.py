"""The log of a run: JSON lines always, TensorBoard where it is installed. The door to tensorboard."""

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from carnelian.errors import CheckpointError


class Log:
    """Writes numbers and texts of steps to `log.jsonl` in a folder, and to TensorBoard's files beside it."""

    def __init__(self, folder: str | Path | None, *, tensorboard: bool = True):
        """Without a folder nothing is written."""
        self.file = self.board = None
        if folder is None:
            return
        self.path = Path(folder) / "log.jsonl"
        with failing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self.path, "a+", encoding="utf-8", buffering=1)  # noqa: SIM115
            if not ends_whole(self.path):  # a killed process may have left half a line
                self.file.write("\n")
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter

                self.board = SummaryWriter(str(folder))
            except ImportError:
                pass  # the JSON lines hold everything; TensorBoard is another look at it

    def write(self, step: int, **values: Any) -> None:
        """One line; numbers become curves under their names, texts and the rest stay in the lines."""
        if self.file is None:
            return
        line = {"step": step, "time": round(time.time(), 3), **{name: sayable(value) for name, value in values.items()}}
        with failing(self.path):
            self.file.write(json.dumps(line, ensure_ascii=False) + "\n")
            for name, value in values.items():
                if self.board and isinstance(value, int | float) and not isinstance(value, bool):
                    self.board.add_scalar(name, value, step)

    def close(self) -> None:
        for writer in (self.file, self.board):
            if writer:
                with suppress(OSError):  # a full disk has been told of
                    writer.close()


def sayable(value: Any) -> Any:
    """What JSON can say: numbers that are not finite become words."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def failing(path: Path) -> Iterator[None]:
    """Turns a disk's refusal into one line."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{path}: could not be written ({error.strerror or error}). Make room, and start again"
        ) from None


def ends_whole(path: Path) -> bool:
    """Whether a file is empty or ends with a line's end."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")
