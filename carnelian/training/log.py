"""The log of a run: JSON lines, TensorBoard where it is installed, and the words for a step. The only importer of tensorboard."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carnelian.data.utterance import Utterance
from carnelian.errors import CheckpointError
from carnelian.training.fit import StepReport


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


@dataclass(frozen=True)
class Workload:
    """What a training gets through: its amount in the batches of a step, its unit in the bar, and the key of its speed in the log."""

    amount: Callable[[Sequence[Any]], float]
    unit: str
    key: str


def utterances_of(batches: Sequence[Any]) -> list[Utterance]:
    """Returns the utterances of batches; none of batches of text."""
    return [utterance for batch in batches for utterance in getattr(batch, "utterances", ())]


SPEECH = Workload(
    lambda batches: sum(utterance.duration for utterance in utterances_of(batches)), "s", "audio_seconds_per_second"
)


def unusual_events(report: StepReport, scale: float) -> list[str]:
    """Returns what is out of the ordinary in a step, each in a line; `scale` is the loss scale of the step before, 0 if unknown."""
    events = []
    if not report.finite and report.loss_scale != 1.0:
        events.append(
            f"the gradient overflows in fp16; the step was left out, the loss scale is now {report.loss_scale:g}"
        )
    elif not report.finite:
        events.append(f"{describe_nonfinite(report)} The step was left out")
    elif scale and report.loss_scale != scale:
        events.append(f"the loss scale is now {report.loss_scale:g}")
    if report.halved:
        events.append(
            "out of memory; done again with the batch halved. Lower [train] batch_size, batch_seconds or batch_tokens"
        )
    if report.idle:
        events.append(f"{report.idle} utterances are too short for their transcripts; nothing was learnt from them")
    return events


def describe_nonfinite(report: StepReport) -> str:
    """Returns which utterances gave a loss or gradient that is not finite: those with NaN in their audio, or else the batch."""
    found, spoken = f"loss {report.loss}, gradient {report.gradient_norm}", utterances_of(report.batches)
    if not spoken:
        return f"{found}."
    bad = [
        utterance.audio_filepath
        for batch in report.batches
        for utterance, finite in zip(batch.utterances, batch.audio.isfinite().all(1).tolist())
        if not finite
    ]
    if bad:
        return f"loss {report.loss}: NaN or infinity in the audio of {', '.join(bad[:3])}."
    names = [utterance.audio_filepath for utterance in spoken]
    return f"{found}, in the batch of {', '.join(names[:3])} ({len(names)} utterances)."


def write_report(
    log: Log, report: StepReport, workload: Workload, events: list[str], figures: dict[str, float]
) -> None:
    """Writes a step's line to the log."""
    log.write(
        report.step,
        loss=report.loss,
        rate=report.rate,
        gradient_norm=report.gradient_norm,
        waited=report.waited / report.seconds,
        **{workload.key: workload.amount(report.batches) / report.seconds},
        **figures,
        **({"loss_scale": report.loss_scale} if report.loss_scale != 1.0 else {}),
        **({"events": events} if events else {}),
    )
