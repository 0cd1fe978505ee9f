"""Self-supervised training: what its tasks have in common, from unlabelled manifests to a run in its folder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from carnelian import console
from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.data.batch import Batch
from carnelian.recipe import Recipe
from carnelian.training.corpus import Corpus, halves
from carnelian.training.fit import StepReport, total_over_processes
from carnelian.training.optim import Schedule
from carnelian.training.run import Metric, Run, Score, Validate, checkpoint_path
from carnelian.training.settings import PretrainingConfig, check_pretraining_recipe
from carnelian.training.tasks.session import open_session

COLLAPSED = 0.0005  # share of the features' mean square that is variance, below which they say next to nothing
VALIDATION_BATCH = 8  # recordings


@dataclass(frozen=True)
class Objective:
    """What a self-supervised task hands in.

    build: the model of a recipe, whose forward pass gives losses (B,) and figures, "accuracy" and "variance" among them; it has the
    number of `candidates` among which it chooses. tables: of the recipe, that `build` reads. before_step: is called with the model and
    the number of steps taken, before each batch. metric: the name of 1 - accuracy on the validation.
    """

    build: Callable[[Recipe], nn.Module]
    tables: tuple[str, ...]
    before_step: Callable[[Any, int], None] = lambda model, step: None
    metric: str = "contrast error"


@dataclass
class Monitor:
    """The figures of the latest step, and a warning when features have collapsed: all frames have the same."""

    found: list[dict[str, Tensor]] = field(default_factory=list)
    collapsed: bool = False

    def figures(self) -> tuple[dict[str, float], list[str]]:
        """Returns the means of the figures since the last call, and an event where the features have just collapsed."""
        found, self.found = self.found, []
        if not found:
            return {}, []
        means = {name: float(torch.stack([each[name].detach().float() for each in found]).mean()) for name in found[0]}
        before, self.collapsed = self.collapsed, means["variance"] < COLLAPSED
        if before or not self.collapsed:
            return means, []
        return means, [
            f"the features have collapsed: {100 * means['variance']:.2g} % of their mean square is variance. "
            "Start again with a lower [schedule] peak or a longer warmup"
        ]


def crop(batch: Batch, longest: int, rng: np.random.Generator | None) -> Batch:
    """Returns a batch whose rows are cropped at random places to the shortest of them, and to `longest` samples at most.

    Without `rng` rows are cropped at their ends. The seconds of the utterances become those of the crops.
    """
    lengths = batch.audio_lengths.tolist()
    size = min(longest, *lengths)
    starts = [0 if rng is None else int(rng.integers(length - size + 1)) for length in lengths]
    audio = torch.stack([row[start : start + size] for row, start in zip(batch.audio, starts)])
    utterances = [
        replace(each, duration=each.duration * size / max(1, length)) for each, length in zip(batch.utterances, lengths)
    ]
    sizes = torch.full_like(batch.audio_lengths, size)
    return Batch(audio, sizes, batch.targets, batch.target_lengths, batch.texts, utterances)


def cropped_batches(corpus: Corpus, longest: int, epoch: int, start: int) -> Iterator[Batch]:
    """Yields the batches of an epoch from its batch `start` on, cropped; the same crops for any start."""
    for position, batch in zip(count(start), corpus.batches(epoch, start)):
        yield crop(batch, longest, np.random.default_rng((corpus.seed, epoch, position, corpus.world.rank)))


def choice_error(corpus: Corpus, config: PretrainingConfig) -> Validate:
    """Returns a validation: the share of wrong choices, on recordings cropped at their ends.

    Negatives and masks are drawn the same at each validation.
    """

    def validate(model: Any, alphabet: Alphabet, stop: Callable[[], int]) -> Score | None:
        right, rows, unfinished = 0.0, 0, 0
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            for batch in corpus.batches(0, 0):
                cut = crop(batch, config.max_samples, None).to(corpus.world.device)
                right += float(model(cut.audio, cut.audio_lengths)[1]["accuracy"]) * len(batch)
                rows += len(batch)
                if stop():
                    unfinished = 1
                    break
        right, total, unfinished_anywhere = total_over_processes([right, rows, unfinished], corpus.world.device)
        return None if unfinished_anywhere else Score(1 - right / total, [])

    return validate


def train_self_supervised(
    recipe: Recipe, folder: str | Path, objective: Objective, *, allow_changes: bool = False, dry_run: bool = False
) -> Path:
    """Trains without transcripts in a folder, or goes on with the run in it, and returns the path of the last checkpoint.

    The settings are those of `train_acoustic`. Raises Stopped after SIGINT and SIGTERM, when all is saved.
    """
    alphabet = Alphabet(ENGLISH)  # a checkpoint has an alphabet; nothing here is spelled
    config = check_pretraining_recipe(recipe, objective.tables)
    with open_session(recipe, folder, config, allow_changes=allow_changes, dry_run=dry_run) as session:
        model = objective.build(recipe).to(session.world.device)
        rate = int(model.features.sample_rate)  # type: ignore[union-attr,arg-type]
        corpus = Corpus(config, recipe, alphabet, rate, session.world, longest=config.max_samples / rate)
        steps = session.steps(corpus)
        training, schedule = session.optimization(model, [{"params": list(model.parameters())}], steps)
        held_out = None if dry_run or not config.validation else validation_corpus(corpus, config, recipe)
        monitor = Monitor()
        run, state = session.begin(
            alphabet,
            training,
            corpus,
            steps,
            build=partial(objective.build, recipe),
            validate=choice_error(held_out, config) if held_out else None,
            metric=Metric(objective.metric),
            figures=monitor.figures,
        )
        session.describe(run, corpus, schedule, state)
        candidates = int(model.candidates)  # type: ignore[arg-type]
        console.note(f"chance: accuracy {1 / candidates:.3g} (1 in {candidates})")
        session.finish(
            run,
            lambda: run.train(self_supervised_reports(run, corpus, objective, schedule, monitor), session.stop),
        )
    return checkpoint_path(session.folder, run.step)


def validation_corpus(corpus: Corpus, config: PretrainingConfig, recipe: Recipe) -> Corpus:
    """Returns the recordings to validate on, as they are, in batches that never change."""
    settings = replace(
        config, manifests=config.validation, mix=[], batch_size=VALIDATION_BATCH, batch_seconds=0.0,
        sorted_first_epoch=True,
    )  # fmt: skip
    plain = {key: value for key, value in recipe.items() if key != "augment"}
    return Corpus(settings, plain, corpus.alphabet, corpus.sample_rate, corpus.world, longest=corpus.longest)


def self_supervised_reports(
    run: Run, corpus: Corpus, objective: Objective, schedule: Schedule, monitor: Monitor
) -> Iterator[StepReport]:
    """Yields the report of each step of the training."""
    config: PretrainingConfig = run.config  # type: ignore[assignment]

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        objective.before_step(run.training.model, run.step)
        losses, figures = model(batch.audio, batch.audio_lengths)
        monitor.found.append(figures)
        return losses

    run.training.model.train()
    batches = partial(cropped_batches, corpus, config.max_samples)
    return run.fit(loss, batches, schedule, seed=corpus.seed, halves=halves)
