"""The checkpoints of a run: written while training goes on, the last few and the best few kept, found again when it resumes."""

import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor

from carnelian.checkpoint import Checkpoint, load_tensors, save_checkpoint, save_tensors, saved_steps
from carnelian.errors import CheckpointError
from carnelian.files import written

STATE_SUFFIX = ".state.safetensors"


class Checkpoints:
    """The checkpoints in a folder: `step-N.safetensors` to use, `step-N.state.safetensors` beside it to go on from."""

    def __init__(self, folder: str | Path, *, keep_last: int = 2, keep_best: int = 1):
        self.folder, self.keep_last, self.keep_best = Path(folder), keep_last, keep_best
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self.writing: Future | None = None

    def steps(self) -> list[int]:
        """The steps of whole checkpoints, rising."""
        return list(saved_steps(self.folder))

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.safetensors"

    def state_path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}{STATE_SUFFIX}"

    def save(self, checkpoint: Checkpoint, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Starts writing a checkpoint and its state in the background, after the one before is done."""
        self.wait()
        self.writing = self.writer.submit(self.write, checkpoint, tensors, numbers)

    def write(self, checkpoint: Checkpoint, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        save_tensors(self.state_path(checkpoint.step), tensors, {"state": json.dumps(numbers)})
        save_checkpoint(self.path(checkpoint.step), checkpoint)
        self.tidy()

    def wait(self) -> None:
        """Until what is being written lies on the disk; CheckpointError if it could not be."""
        if self.writing is not None:
            writing, self.writing = self.writing, None
            writing.result()

    def tidy(self) -> None:
        """Takes away all but the last and the best; the last one's state is kept, and the one before, in case."""
        steps = self.steps()
        scores = self.scores()
        best = sorted((step for step in steps if step in scores), key=lambda step: (scores[step], -step))[
            : self.keep_best
        ]
        for step in steps:
            if step not in steps[-self.keep_last :]:
                self.state_path(step).unlink(missing_ok=True)
                if step not in best:
                    self.path(step).unlink(missing_ok=True)
        for path in self.folder.glob(".step-*"):  # what a killed process left half-written
            path.unlink(missing_ok=True)

    def scores(self) -> dict[int, float]:
        """Validation scores by step, lower is better, as `note_scores` noted them."""
        try:
            noted = json.loads((self.folder / "scores.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {int(step): score for step, score in noted.items()}

    def note_scores(self, scores: Mapping[int, float]) -> None:
        """Notes validation scores by step, so that the best checkpoints are kept."""
        with written(self.folder / "scores.json") as file:
            json.dump(scores, file)

    def state(self, step: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The training state of a step: tensors by name, and numbers."""
        tensors, metadata = load_tensors(self.state_path(step))
        if "state" not in metadata:
            raise CheckpointError(
                f"{self.state_path(step)}: not a training state. Take it away to start from the one before"
            )
        return tensors, json.loads(metadata["state"])

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self.writer.shutdown()
