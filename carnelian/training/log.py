"""The log of a run: JSON lines always, TensorBoard where it is installed. The door to tensorboard."""

import json
import time
from pathlib import Path
from typing import Any


class Log:
    """Writes numbers and texts of steps to `log.jsonl` in a folder, and to TensorBoard's files beside it."""

    def __init__(self, folder: str | Path, *, tensorboard: bool = True):
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.file = open(Path(folder) / "log.jsonl", "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self.board = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter

                self.board = SummaryWriter(str(folder))
            except ImportError:
                pass  # the JSON lines hold everything; TensorBoard is another look at it

    def write(self, step: int, **values: Any) -> None:
        """One line; numbers become curves under their names, texts and the rest stay in the lines."""
        line = {"step": step, "time": round(time.time(), 3), **values}
        self.file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if self.board:
            for name, value in values.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    self.board.add_scalar(name, value, step)

    def close(self) -> None:
        self.file.close()
        if self.board:
            self.board.close()
