"""What every training has around its model: processes, signals, the run in its locked folder, and its last words."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import torch
from torch import nn

from carnelian import console
from carnelian.data.alphabet import Alphabet
from carnelian.errors import AudioError, ManifestError
from carnelian.models.acoustic import count_parameters
from carnelian.recipe import Recipe, choose
from carnelian.training.distributed import World, init_process_group, is_sharded
from carnelian.training.fit import Training
from carnelian.training.optim import OPTIMIZERS, SCHEDULES, Schedule
from carnelian.training.resume import check_data_of_run, check_recipe_of_run, keep_recipe, locked
from carnelian.training.run import Run
from carnelian.training.settings import RunConfig
from carnelian.training.signals import catch_signals


class TrainingData(Protocol):
    """What is trained on: recordings, or texts."""

    def plan(self, epoch: int) -> Sequence[Any]:
        """Returns the batches of an epoch."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Returns numbers that identify the data: a run that goes on compares them."""
        ...

    def describe(self) -> None:
        """Notes what is trained on, and what is left out."""
        ...


@dataclass(frozen=True)
class Session:
    """One call of a training: its recipe and folder, this process among the others, and what it may do.

    stop: returns the signal that asks for the end, 0 if none came. stack: is left when the training ends, in whatever way.
    """

    recipe: Recipe
    folder: Path
    config: RunConfig
    world: World
    stop: Callable[[], int]
    stack: ExitStack
    allow_changes: bool
    dry_run: bool

    def steps(self, corpus: TrainingData) -> int:
        """Returns the optimizer steps of the whole training."""
        config = self.config
        return config.steps or -(-config.epochs * len(corpus.plan(0)) // config.accumulate)

    def optimization(self, model: nn.Module, groups: list[dict[str, Any]], steps: int) -> tuple[Training, Schedule]:
        """Returns the recipe's optimizer over groups of parameters, with the model, and its schedule."""
        optimizer = choose(OPTIMIZERS, self.recipe["optimizer"], where="optimizer", parameters=groups)
        return Training(model, optimizer), choose(SCHEDULES, self.recipe["schedule"], where="schedule", steps=steps)

    def begin(
        self, alphabet: Alphabet, training: Training, corpus: TrainingData, steps: int, **settings: Any
    ) -> tuple[Run, Mapping[str, Any]]:
        """Locks the folder and returns the run in it, at its last checkpoint, with the numbers of its state.

        Comes last, so that a faulty recipe leaves no folder behind. settings: of `Run`, besides. Raises CheckpointError where the
        folder is in use, or its run had other data.
        """
        folder, world = self.folder, self.world
        self.stack.enter_context(locked(folder, world))
        data = corpus.fingerprint()
        run = Run(folder, self.recipe, alphabet, training, self.config, world, steps=steps, data=data, **settings)
        self.stack.callback(run.close)
        state = run.resume()
        check_data_of_run(folder, state, run.data, world, allow_changes=self.allow_changes)
        if world.rank == 0:
            keep_recipe(folder, self.recipe)
        return run, state

    def describe(self, run: Run, corpus: TrainingData, schedule: Schedule, state: Mapping[str, Any]) -> None:
        """Notes what is trained, on what, for how long, and where it goes on."""
        parameters = count_parameters(run.training.model)
        console.note(f"{parameters:,} parameters; {run.steps} steps on {self.world.ranks} x {self.world.device}")
        corpus.describe()
        if not state:
            return
        console.note(f"going on from step {run.step} in {run.folder}")
        before = state.get("steps", run.steps)
        if before != run.steps:
            console.note(
                f"the training now has {run.steps} steps instead of {before}: the schedule ends there, and the learning rate of the "
                f"next step is {schedule(run.step):.3g}"
            )

    def finish(self, run: Run, train: Callable[[], None]) -> None:
        """Trains and saves; saves before an error of a recording that cannot be read too. Of a dry run, one step is taken."""
        if self.dry_run:
            run.steps = run.step + 1
        try:
            train()
            run.save()
        except (AudioError, ManifestError):
            if run.step and not is_sharded(run.training.model):  # one process alone cannot save a sharded model
                run.save()  # what was learnt before
            raise
        console.note("one step was taken; the recipe works" if self.dry_run else run.summary())


@contextmanager
def open_session(
    recipe: Recipe, folder: str | Path, config: RunConfig, *, allow_changes: bool, dry_run: bool
) -> Iterator[Session]:
    """Joins the processes, records signals and seeds torch; a dry run gets a temporary folder.

    Raises CheckpointError where the folder holds a run of another recipe.
    """
    folder = Path(folder)
    with init_process_group(config.device) as world, catch_signals() as stop, ExitStack() as stack:
        console.stderr.quiet |= world.rank > 0  # the first process reports for all
        if dry_run:
            folder = Path(stack.enter_context(TemporaryDirectory()))
        check_recipe_of_run(folder, recipe, allow_changes=allow_changes)
        torch.manual_seed(recipe.get("seed", 0))
        yield Session(recipe, folder, config, world, stop, stack, allow_changes, dry_run)
