"""A run in its folder: it trains, shows progress, validates, saves, and goes on where it was stopped.

`step-N.safetensors` are the checkpoints to use, `step-N.state.safetensors` beside them is what the training needs to go on.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from carnelian import console
from carnelian.checkpoint import Checkpoint, load_tensors, save_checkpoint, save_tensors, saved_steps
from carnelian.data.alphabet import Alphabet
from carnelian.errors import CheckpointError, RecipeError
from carnelian.files import written
from carnelian.recipe import Recipe
from carnelian.training.distributed import (
    World,
    full_tensor,
    gathered,
    highest_over_processes,
    is_sharded,
    share_buffers,
    wrap_in_ddp,
)
from carnelian.training.fit import StepReport, Training, fit
from carnelian.training.log import SPEECH, Log, Workload, describe_nonfinite, unusual_events, write_report
from carnelian.training.optim import Schedule
from carnelian.training.settings import RunConfig
from carnelian.training.signals import Stopped
from carnelian.training.totals import Meter, Totals

STATE_SUFFIX = ".state.safetensors"
BROKEN_SUFFIX = ".broken"
RECENT = 50  # steps over which the loss and the speed of the progress bar are averaged


@dataclass(frozen=True)
class Score:
    """The result of a validation: a rate, lower is better, and pairs of reference and hypothesis to look at."""

    rate: float
    examples: list[tuple[str, str]]


@dataclass(frozen=True)
class Metric:
    """What a validation measures, lower is better: its name, and how a value is written."""

    name: str
    percent: bool = True

    def text(self, value: float) -> str:
        """Returns the name with a value of it."""
        return f"{self.name} {100 * value:.2f} %" if self.percent else f"{self.name} {value:.2f}"


WORD_ERRORS = Metric("WER")

#: validate(model, alphabet, stop): the score, or None where `stop()` returned a signal; the same on all processes
Validate = Callable[[Any, Alphabet, Callable[[], int]], Score | None]


def state_path(folder: Path, step: int) -> Path:
    """Returns the file of the training state that belongs to the checkpoint of a step."""
    return folder / f"step-{step:08d}{STATE_SUFFIX}"


def checkpoint_path(folder: Path, step: int) -> Path:
    """Returns the file of the checkpoint of a step."""
    return folder / f"step-{step:08d}.safetensors"


def load_state(folder: Path, step: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the training state of a step: tensors by name, and numbers. Raises CheckpointError."""
    tensors, metadata = load_tensors(state_path(folder, step))
    try:
        numbers = json.loads(metadata["state"])
        return tensors, {**numbers, "step": int(numbers["step"])}
    except (KeyError, ValueError, TypeError, RecursionError):
        raise CheckpointError(f"{state_path(folder, step)}: not a training state") from None


class Run:
    """A training in a folder. The first of its processes writes there; all of them read."""

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        alphabet: Alphabet,
        training: Training,
        config: RunConfig,
        world: World,
        *,
        steps: int,
        data: dict[str, Any],
        build: Callable[[], nn.Module],
        validate: Validate | None = None,
        metric: Metric = WORD_ERRORS,
        figures: Callable[[], tuple[dict[str, float], list[str]]] = lambda: ({}, []),
        workload: Workload = SPEECH,
        notes: Mapping[str, Any] | None = None,
    ):
        """steps: of the whole training. data: identifies what is trained on. build: makes a model to gather a sharded one in.

        metric: what `validate` measures. figures: gives what else there is to show of a step, and events to note. workload: what
        the training gets through, for its speed. notes: what else its checkpoints are to say of themselves.
        """
        self.folder, self.recipe, self.alphabet, self.training = folder, recipe, alphabet, training
        self.config, self.world, self.steps, self.data = config, world, steps, data
        self.build, self.validate, self.metric, self.figures = build, validate, metric, figures
        self.workload, self.notes = workload, dict(notes or {})
        self.log = Log(folder if world.rank == 0 else None)
        self.saved = time.monotonic()
        self.scores: dict[int, float] = {}
        self.totals = Totals()
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self.writing: Future | None = None

    @property
    def score_key(self) -> str:
        """The name of the validations' results in the log and in checkpoints."""
        return f"validation_{self.metric.name.lower().replace(' ', '_')}"

    @property
    def step(self) -> int:
        """The optimizer steps taken."""
        return self.training.position.step

    def resume(self) -> dict[str, Any]:
        """Goes back to the last checkpoint whose files are whole, and returns the numbers of its state; {} where there is none."""
        # wait for all: the first process may still be writing for an earlier run
        highest_over_processes([0], self.world.device)
        steps = [step for step in saved_steps(self.folder) if state_path(self.folder, step).exists()]
        if saved_steps(self.folder) and not steps:
            raise CheckpointError(
                f"{self.folder}: its checkpoints have no training state beside them ({STATE_SUFFIX}). "
                "Start in another --out folder, with [initialize] checkpoint"
            )
        state, broken = None, []
        for step in reversed(steps):
            try:
                state = load_state(self.folder, step)
                load_tensors(checkpoint_path(self.folder, step))
                break
            except CheckpointError as error:
                console.note(f"{error}. Going back to the checkpoint before it")
                broken.append(step)
                state = None
        if broken and state is None:
            names = ", ".join(f"step {step}" for step in broken)
            raise CheckpointError(
                f"{self.folder}: no checkpoint is whole ({names}). Remove the step-* files to train from the start"
            )
        found = -1 if state is None else state[1]["step"]
        if int(highest_over_processes([found], self.world.device)[0]) != found:
            raise CheckpointError(
                f"{self.folder}: not all processes read the same checkpoint. Is the folder shared by all?"
            )
        if self.world.rank == 0:
            for step in broken:  # their names are free for the same steps, taken again
                for path in (checkpoint_path(self.folder, step), state_path(self.folder, step)):
                    path.replace(path.with_name(path.name + BROKEN_SUFFIX))
        if state is None:
            return {}
        self.training.restore(*state)
        self.scores = {step: score for step, score in read_scores(self.folder).items() if step <= self.step}
        self.totals = Totals.restore(state[1].get("totals"))
        return state[1]

    def train(self, reports: Iterable[StepReport], stop: Callable[[], int]) -> None:
        """Takes the steps of `reports`; between them it shows, validates and saves. Raises Stopped where `stop()` returns a signal."""
        self.meter = Meter(self.totals)
        with self.progress() as show:
            self.validate_if_due(stop)  # the run may have been stopped while validating
            for report in reports:
                show(report)
                self.meter.step(report.seconds, report.waited, SPEECH.amount(report.batches))
                if not report.finite and self.config.nonfinite == "stop" and not self.training.scaler:
                    found = describe_nonfinite(report)
                    raise RecipeError(f"step {self.step}: {found} The run stops here ([train] nonfinite)")
                scored = self.validate_if_due(stop)
                signal, due = highest_over_processes([stop(), self.saving_is_due()], self.world.device)
                if signal or due or scored:
                    self.save()
                if signal and self.step < self.steps:
                    self.wait()
                    raise Stopped(int(signal), self.folder, self.step)
                if scored and self.has_stopped_improving():
                    console.note(
                        f"step {self.step}: {self.config.patience} validations in a row brought no better result; the run ends here"
                    )
                    return

    def fit(
        self,
        loss: Callable[[nn.Module, Any], Tensor],
        epoch_batches: Callable[[int, int], Iterator],
        schedule: Schedule,
        *,
        seed: int,
        until: int | None = None,
        sync_norm: bool = False,
        **more: Any,
    ) -> Iterator[StepReport]:
        """Yields the report of each step up to step `until` (by default the last), by the settings of [train]; `more`: as of `fit`."""
        config, model = self.config, self.training.model
        return fit(
            self.training,
            epoch_batches=epoch_batches,
            loss=loss,
            schedule=schedule,
            steps=self.steps if until is None else until,
            seed=seed,
            device=self.world.device,
            precision=config.precision,
            accumulate=config.accumulate,
            clip=config.clip,
            average=config.average,
            wrapped=wrap_in_ddp(model, self.world, sync_norm=sync_norm),
            **more,
        )

    def saving_is_due(self) -> bool:
        """Returns whether a checkpoint is due after this step."""
        late = time.monotonic() - self.saved > 60 * self.config.save_minutes
        return late or bool(self.config.save_every and self.step % self.config.save_every == 0)

    def save(self) -> None:
        """Starts writing a checkpoint in the background, unless this step has one."""
        self.saved = time.monotonic()
        exists = self.step in saved_steps(self.folder)
        if is_sharded(self.training.model) or self.training.carried:  # all processes give their parts, or none
            exists = bool(highest_over_processes([exists], self.world.device)[0])
        elif self.world.rank:
            return
        if exists:
            return
        weights = gathered(self.training.averaged())
        tensors, numbers = self.training.state()
        if self.world.rank:
            return
        numbers |= {
            "totals": self.totals.saved(),
            "processes": self.world.ranks,
            "steps": self.steps,
            "data": self.data,
        }
        score = self.scores.get(self.step)
        more = self.notes | ({} if score is None else {self.score_key: score})
        more["training"] = self.totals.figures(self.config.price_per_hour) | {"validations": self.totals.validations}
        self.wait()
        checkpoint = Checkpoint(weights, self.alphabet, self.recipe, self.step, more)
        self.writing = self.writer.submit(self.write, checkpoint, tensors, numbers)

    def write(self, checkpoint: Checkpoint, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Writes a checkpoint: the state first, so that where the weights are, the state is too."""
        save_tensors(state_path(self.folder, checkpoint.step), tensors, {"state": json.dumps(numbers)})
        save_checkpoint(checkpoint_path(self.folder, checkpoint.step), checkpoint)
        self.tidy()

    def wait(self) -> None:
        """Waits until what is being written is on the disk. Raises CheckpointError if it could not be written."""
        if self.writing is not None:
            writing, self.writing = self.writing, None
            writing.result()

    def tidy(self) -> None:
        """Removes all checkpoints but the last and the best; a state is kept for the last ones, so that a broken one costs little."""
        steps, scores = list(saved_steps(self.folder)), read_scores(self.folder)
        ranked = sorted((step for step in steps if step in scores), key=lambda step: (scores[step], -step))
        for step in steps[: -self.config.keep_last]:
            state_path(self.folder, step).unlink(missing_ok=True)
            if step not in ranked[: self.config.keep_best]:
                checkpoint_path(self.folder, step).unlink(missing_ok=True)
        for path in self.folder.glob(".step-*"):  # half-written by a process that was killed
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Ends the writing and the log."""
        try:
            self.wait()
        finally:
            self.writer.shutdown()
            self.log.close()

    @contextmanager
    def published(self) -> Iterator[nn.Module]:
        """The model in evaluation mode with the weights that would be saved; for a sharded model a gathered copy."""
        model = self.training.model
        weights = self.training.averaged()
        if is_sharded(model):
            model = self.build().to(self.world.device)
            for name, tensor in model.state_dict().items():
                tensor.copy_(full_tensor(weights[name]))
            share_buffers(model)
            yield model.eval()
            return
        modes = {module: module.training for module in model.modules()}
        own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(weights)
        share_buffers(model)
        try:
            yield model.eval()
        finally:  # also when validating fails: the averaged weights must not become those in training
            model.load_state_dict(own)
            for module, mode in modes.items():
                module.training = mode

    def validate_if_due(self, stop: Callable[[], int]) -> bool:
        """Validates after every `validate_every` steps and at the end, and notes the score. Returns whether it did so to the end."""
        every = self.config.validate_every
        due = self.step == self.steps or bool(every and self.step and self.step % every == 0)
        if not self.validate or not due or self.step in self.scores:
            return False
        with self.published() as model:
            result = self.validate(model, self.alphabet, stop)
        if result is None:
            return False
        self.scores[self.step] = result.rate
        self.meter.validation(self.step, result.rate)
        if self.world.rank == 0:
            with written(self.folder / "scores.json") as file:
                json.dump(self.scores, file)
        self.log.write(self.step, **{self.score_key: result.rate}, examples=result.examples)
        console.note(f"step {self.step}: validation {self.metric.text(result.rate)}")
        for reference, hypothesis in result.examples:
            console.note(f"    reference:  {reference}\n    hypothesis: {hypothesis}")
        return True

    def has_stopped_improving(self) -> bool:
        """Returns whether `patience` validations in a row were no better than the one before them; never with a patience of 0."""
        scores = [self.scores[step] for step in sorted(self.scores)]
        patience = self.config.patience
        return bool(patience and scores) and len(scores) - 1 - scores.index(min(scores)) >= patience

    def summary(self) -> str:
        """Returns in a few lines what the training took, and the steps and minutes to its best validation."""
        figures = self.totals.describe(self.config.price_per_hour)
        lines = [f"{self.folder}: finished at step {self.step}", f"    {figures}"]
        if self.totals.validations:
            step, minutes, rate = min(self.totals.validations, key=lambda each: each[2])
            lines.append(
                f"    best validation {self.metric.text(rate)} at step {step:.0f}, after {console.duration_text(60 * minutes)}"
            )
        return "\n".join(lines)

    @contextmanager
    def progress(self) -> Iterator[Callable[[StepReport], None]]:
        """A bar over the steps: epoch, smoothed loss, rate, speed, best validation. Each step goes to the log."""
        recent: list[tuple[float, float, float]] = []
        loss_scale = 0.0
        with console.bar("training", self.steps) as advance:
            advance(self.step)

            def show(report: StepReport) -> None:
                nonlocal loss_scale
                recent.append((report.loss, self.workload.amount(report.batches), report.seconds))
                del recent[:-RECENT]
                losses = [loss for loss, _, _ in recent if math.isfinite(loss)] or [report.loss]
                speed = sum(amount for _, amount, _ in recent) / sum(seconds for *_, seconds in recent)
                best = f"  best {self.metric.text(min(self.scores.values()))}" if self.scores else ""
                epoch, loss = self.training.position.epoch + 1, sum(losses) / len(losses)
                figures, more = self.figures()
                shown = "".join(f"  {name.replace('_', ' ')} {value:.3g}" for name, value in figures.items())
                advance(
                    1,
                    f"epoch {epoch}  loss {loss:.3f}{shown}  rate {report.rate:.2g}  {speed:.0f} {self.workload.unit}/s{best}",
                )
                events = unusual_events(report, loss_scale) + more
                loss_scale = report.loss_scale
                for event in events:
                    console.note(f"step {report.step}: {event}")
                write_report(self.log, report, self.workload, events, figures)

            yield show


def read_scores(folder: Path) -> dict[int, float]:
    """Returns the validation scores of a run by step, lower is better; {} where there are none that can be read."""
    try:
        scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        return {int(step): float(score) for step, score in scores.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return {}
