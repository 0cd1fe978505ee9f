"""Training an acoustic model from a recipe: its data, its loss, its checkpoints, and what is seen while it runs."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from carnelian import console
from carnelian.checkpoint import Checkpoint, build_model
from carnelian.data.alphabet import Alphabet, make_alphabet
from carnelian.data.augment import chain
from carnelian.data.batch import Batch, load_batches, padding_share, plan_batches
from carnelian.data.utterance import Manifest
from carnelian.errors import CheckpointError, ManifestError, RecipeError
from carnelian.models.acoustic import AcousticModel, count_parameters
from carnelian.models.ctc import ctc_loss
from carnelian.recipe import Recipe, call, choose, did_you_mean
from carnelian.training.checkpoints import Checkpoints
from carnelian.training.fit import Report, Training, fit
from carnelian.training.log import Log
from carnelian.training.optim import OPTIMIZERS, SCHEDULES

TABLES = (
    "task",
    "alphabet",
    "seed",
    "train",
    "features",
    "masks",
    "augment",
    "encoder",
    "optimizer",
    "schedule",
    "start",
)


@dataclass(frozen=True)
class Settings:
    """The table [train]. Seconds and steps; `batch_size` utterances or `batch_seconds` for each step and process."""

    manifests: list[str]
    steps: int = 0
    epochs: int = 0
    validation: list[str] = ()  # type: ignore[assignment]
    batch_size: int = 0
    batch_seconds: float = 0.0
    min_duration: float = 0.1
    max_duration: float = 16.7
    sorted_first_epoch: bool = False
    padding: float = 0.05
    precision: str = "fp32"
    device: str = ""
    workers: int = 2
    accumulate: int = 1
    clip: float = 0.0
    larc: float = 0.0
    average: float = 0.0
    nonfinite: str = "skip"
    validate_every: int = 0
    save_every: int = 0
    save_minutes: float = 10.0
    keep_last: int = 2
    keep_best: int = 1


@dataclass(frozen=True)
class Score:
    """What a validation gives: the rate to be low, and pairs of reference and hypothesis to look at."""

    rate: float
    examples: list[tuple[str, str]]


class Corpus:
    """The utterances of manifests that can be trained on, in batches by epoch."""

    def __init__(self, settings: Settings, recipe: Recipe, alphabet: Alphabet, sample_rate: int):
        self.settings, self.alphabet, self.sample_rate = settings, alphabet, sample_rate
        self.seed = recipe.get("seed", 0)
        self.manifest = Manifest(*settings.manifests)
        self.augment = chain(recipe["augment"], sample_rate) if recipe.get("augment") else None
        durations = self.manifest.durations
        self.kept = np.flatnonzero((durations >= settings.min_duration) & (durations <= settings.max_duration))
        if not len(self.kept):
            raise ManifestError(
                f"{', '.join(settings.manifests)}: none of {len(durations)} utterances is between {settings.min_duration} and "
                f"{settings.max_duration} s. Change [train] min_duration and max_duration"
            )
        self.durations = durations[self.kept]

    def plan(self, epoch: int, rank: int = 0, ranks: int = 1) -> list[np.ndarray]:
        """The batches of an epoch, as indices into `durations`."""
        settings = self.settings
        return plan_batches(
            self.durations,
            batch_size=settings.batch_size or None,
            batch_seconds=settings.batch_seconds or None,
            seed=self.seed,
            epoch=epoch,
            rank=rank,
            ranks=ranks,
            sorted_first_epoch=settings.sorted_first_epoch,
            padding=settings.padding,
        )

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from its batch `start` on."""
        return load_batches(
            self.manifest,
            [self.kept[batch] for batch in self.plan(epoch)],
            alphabet=self.alphabet,
            sample_rate=self.sample_rate,
            seed=self.seed,
            epoch=epoch,
            augment=self.augment,
            workers=self.settings.workers,
            start=start,
        )

    def describe(self) -> str:
        """A line on what is trained on, and what is left out."""
        left = len(self.manifest) - len(self.kept)
        share = padding_share(self.plan(1), self.durations)
        return f"{len(self.kept)} utterances, {self.durations.sum() / 3600:.2f} h, {100 * share:.1f} % padding" + (
            f"; {left} left out by their duration" if left else ""
        )


def acoustic_loss(model: nn.Module, batch: Batch) -> Tensor:
    """CTC loss (B,) of a batch."""
    log_probs, steps = model(batch.audio, batch.audio_lengths)
    return ctc_loss(log_probs, steps, batch.targets, batch.target_lengths)


def check_recipe(recipe: Recipe) -> Settings:
    """The table [train] of an acoustic recipe; RecipeError for what no part of the training knows."""
    for table in recipe:
        if table not in TABLES:
            raise RecipeError(f"[{table}]: a recipe has no such table.{did_you_mean(table, TABLES)}")
    if recipe.get("task", "acoustic") != "acoustic":
        raise RecipeError(f'task = "{recipe["task"]}": this recipe is not for an acoustic model')
    for table in ("train", "encoder", "optimizer", "schedule", "alphabet"):
        if table not in recipe:
            raise RecipeError(f"[{table}] is missing in the recipe. See recipes/ for whole ones")
    settings = call(Settings, recipe["train"], where="train", name="train")
    if bool(settings.batch_size) == bool(settings.batch_seconds):
        raise RecipeError("[train] batch_size, batch_seconds: give one of them, above 0")
    if bool(settings.steps) == bool(settings.epochs):
        raise RecipeError("[train] steps, epochs: give one of them, above 0")
    return settings


def train_acoustic(
    recipe: Recipe, folder: str | Path, *, validate: Callable[[AcousticModel, Alphabet], Score] | None = None
) -> Path:
    """Trains as the recipe says, in a folder, from its last checkpoint if it has one; gives the path of the finished model.

    `validate(model, alphabet)` scores the model on the validation manifests. Raises `Stopped` when told to stop by a signal.
    """
    settings, folder = check_recipe(recipe), Path(folder)
    alphabet = make_alphabet(recipe["alphabet"])
    torch.manual_seed(recipe.get("seed", 0))
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = build_model(recipe, alphabet).to(device)
    optimizer = choose(OPTIMIZERS, recipe["optimizer"], where="optimizer", parameters=model.parameters())
    corpus = Corpus(settings, recipe, alphabet, model.features.sample_rate)
    steps = settings.steps or settings.epochs * -(-len(corpus.plan(0)) // settings.accumulate)
    schedule = choose(SCHEDULES, recipe["schedule"], where="schedule", steps=steps)
    training = Training(model.train(), optimizer)
    checkpoints = Checkpoints(folder, keep_last=settings.keep_last, keep_best=settings.keep_best)
    keep_recipe(folder, recipe)
    if checkpoints.steps():
        training.restore(*checkpoints.state(checkpoints.steps()[-1]))
        console.note(f"{folder}: going on from step {training.place.step}")
    console.note(f"{count_parameters(model):,} parameters; {corpus.describe()}; {steps} steps on {device}")

    def save() -> None:
        weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in training.averaged().items()}
        checkpoints.save(Checkpoint(weights, alphabet, recipe, training.place.step), *training.state())

    def score() -> None:
        assert validate
        own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(training.averaged())
        result = validate(model.eval(), alphabet)
        model.load_state_dict(own)
        model.train()
        log.write(training.place.step, validation_wer=result.rate, examples=result.examples)
        checkpoints.note_score(training.place.step, result.rate)
        console.note(f"step {training.place.step}: validation WER {100 * result.rate:.2f} %")
        for reference, hypothesis in result.examples:
            console.note(f"    said:  {reference}\n    heard: {hypothesis}")

    log = Log(folder)
    saved = time.monotonic()
    try:
        with stopping() as stop, watching(steps, training.place.step) as watch:
            for report in fit(
                training,
                epoch_batches=corpus.batches,
                loss=acoustic_loss,
                schedule=schedule,
                steps=steps,
                seed=recipe.get("seed", 0),
                device=device,
                precision=settings.precision,
                accumulate=settings.accumulate,
                clip=settings.clip,
                larc=settings.larc,
                average=settings.average,
                nonfinite=settings.nonfinite,
            ):
                watch(report)
                write_report(log, report)
                if validate and settings.validate_every and report.step % settings.validate_every == 0:
                    score()
                due = time.monotonic() - saved > 60 * settings.save_minutes
                if due or report.step == steps or (settings.save_every and report.step % settings.save_every == 0):
                    save()
                    saved = time.monotonic()
                if not report.finite and settings.nonfinite == "stop":
                    raise RecipeError(
                        f"step {report.step}: {describe_nonfinite(report)} The run stops here ([train] nonfinite)"
                    )
                if stop():
                    if report.step < steps:
                        save()
                        checkpoints.wait()
                        raise Stopped(stop(), folder, report.step)
                    break
    finally:
        checkpoints.close()
        log.close()
    return checkpoints.path(steps)


class Stopped(Exception):
    """The run was told to stop, by the signal of that number, and has saved."""

    def __init__(self, number: int, folder: Path, step: int):
        self.number = number
        super().__init__(f"stopped at step {step} and saved in {folder}. The same command goes on from there")


@contextmanager
def stopping() -> Iterator[Callable[[], int]]:
    """While open, Ctrl-C and SIGTERM are noted, to be looked at between steps; a second Ctrl-C interrupts at once."""
    noted: list[int] = []

    def note(number: int, frame: Any) -> None:
        if noted and number == signal.SIGINT:
            raise KeyboardInterrupt
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: noted[0] if noted else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def watching(steps: int, first: int) -> Iterator[Callable[[Report], None]]:
    """A bar over the steps, with loss, rate, and seconds of audio per second, as they went of late."""
    with console.bar("training", steps) as advance:
        advance(first)
        recent: list[tuple[float, float]] = []

        def watch(report: Report) -> None:
            audio = sum(utterance.duration for batch in report.batches for utterance in batch.utterances)
            recent.append((audio, report.seconds))
            del recent[:-50]
            speed = sum(audio for audio, _ in recent) / sum(seconds for _, seconds in recent)
            advance(1, f"loss {report.loss:.3f}  rate {report.rate:.2g}  {speed:.0f} s/s")
            if not report.finite:
                console.note(f"step {report.step}: {describe_nonfinite(report)} The step was left out")

        yield watch


def describe_nonfinite(report: Report) -> str:
    """Which batch gave a loss or gradient that is not finite."""
    names = [utterance.audio_filepath for batch in report.batches for utterance in batch.utterances]
    return f"loss {report.loss}, gradient {report.gradient_norm}, in the batch of {', '.join(names[:3])} ({len(names)} utterances)."


def write_report(log: Log, report: Report) -> None:
    """A step's line in the log."""
    audio = sum(utterance.duration for batch in report.batches for utterance in batch.utterances)
    log.write(
        report.step,
        loss=report.loss,
        rate=report.rate,
        gradient_norm=report.gradient_norm,
        audio_seconds_per_second=audio / report.seconds,
        waited=report.waited / report.seconds,
        **({} if report.finite else {"left_out": describe_nonfinite(report)}),
        **({"loss_scale": report.loss_scale} if report.loss_scale != 1.0 else {}),
    )


def keep_recipe(folder: Path, recipe: Recipe) -> None:
    """Writes the resolved recipe into a run's folder; CheckpointError if the folder holds a run of another recipe."""
    path = folder / "recipe.json"
    mine = json.dumps(recipe, indent=2, ensure_ascii=False)
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != json.loads(mine):
        raise CheckpointError(
            f"{folder}: holds a run of another recipe (recipe.json differs). Give another --out folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(mine, encoding="utf-8")
