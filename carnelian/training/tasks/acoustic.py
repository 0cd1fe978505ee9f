"""The acoustic task: what is trained, on what, by which loss."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint as recompute

from carnelian import console
from carnelian.data.batch import Batch
from carnelian.errors import RecipeError
from carnelian.models.losses.ctc import disagreement
from carnelian.models.registry import build_model
from carnelian.recipe import Recipe
from carnelian.training.corpus import Corpus, halves
from carnelian.training.distributed import padded_alike, shard_model
from carnelian.training.fit import StepReport
from carnelian.training.initialize import (
    Initialization,
    cache_features,
    choose_alphabet,
    freeze,
    load_parts,
    parameter_groups,
    read_initialization,
)
from carnelian.training.optim import Schedule
from carnelian.training.run import Run, Validate, checkpoint_path
from carnelian.training.settings import TrainingConfig, check_recipe
from carnelian.training.tasks.session import open_session


def acoustic_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The loss (B,) of a batch by the model's criterion."""
    log_probs, steps = model(batch.audio, batch.audio_lengths)
    criterion: Any = getattr(model, "module", model).criterion  # of a model that is spread over processes too
    return criterion(log_probs, steps, batch.targets, batch.target_lengths)


def consistent_loss(model: nn.Module, batch: Batch, weight: float) -> Tensor:
    """The loss (B,) of two views of a batch, masked each in its own way, and `weight` times how far they disagree.

    CR-CTC (Yao et al., 2024, arXiv 2410.05101), where the weight is 0.2.
    """
    twice = batch.mapped(lambda tensor: torch.cat([tensor, tensor]))
    log_probs, steps = model(twice.audio, twice.audio_lengths)
    criterion: Any = getattr(model, "module", model).criterion
    first, second = criterion(log_probs, steps, twice.targets, twice.target_lengths).chunk(2)
    one, other = log_probs.chunk(2)
    return (first + second) / 2 + weight * disagreement(one, other, steps[: len(one)])


def train_acoustic(
    recipe: Recipe,
    folder: str | Path,
    *,
    validate: Validate | None = None,
    allow_changes: bool = False,
    dry_run: bool = False,
) -> Path:
    """Trains an acoustic model in a folder, or goes on with the run in it, and returns the path of the last checkpoint.

    allow_changes: go on although the recipe, the data or the number of processes are not those of the run so far. dry_run: check
    everything and take one step, and keep nothing. Started by torchrun, it is one of several processes. Raises Stopped after SIGINT
    and SIGTERM, when all is saved.
    """
    initialization, pretrained, recipe = read_initialization(recipe)
    config = check_recipe(recipe)
    alphabet = choose_alphabet(recipe, pretrained)
    with open_session(recipe, folder, config, allow_changes=allow_changes, dry_run=dry_run) as session:
        world = session.world
        model = build_model(recipe, alphabet)
        rate = int(model.features.sample_rate)  # type: ignore[arg-type]
        corpus = Corpus(config, recipe, alphabet, rate, world, unknown_characters=config.unknown_characters)
        steps = session.steps(corpus)
        taken = load_parts(model, alphabet, pretrained, initialization) if pretrained else []
        if config.sharded:
            shard_model(model, world)
        model = model.to(world.device)
        training, schedule = session.optimization(model, parameter_groups(model, initialization), steps)
        build = partial(build_model, recipe, alphabet)
        validate = None if dry_run else validate
        run, state = session.begin(alphabet, training, corpus, steps, build=build, validate=validate)
        session.describe(run, corpus, schedule, state)
        describe_beginning(run, [] if state else taken)
        prepare_encoder(model.encoder, config)
        if initialization.cache:
            cache_features(model.features, initialization.cache, recipe.get("features", {}))
        session.finish(run, lambda: train_in_stages(run, corpus, initialization, schedule, session.stop))
    return checkpoint_path(session.folder, run.step)


def prepare_encoder(encoder: Any, config: TrainingConfig) -> None:
    """Makes the encoder compute as the recipe asks: blocks computed again in the backward pass, compiled."""
    if config.checkpoint_activations:
        recompute_blocks(encoder)
    if config.compile:
        encoder.compile(dynamic=True)  # for batches of any length


def describe_beginning(run: Run, taken: Sequence[str]) -> None:
    """Notes what an earlier model gave, in the log too, and a precision that this processor is slow in."""
    for line in taken:
        console.note(line)
    if taken:
        run.log.write(0, initialized=list(taken))
    if run.config.precision == "bf16" and run.world.device == "cpu" and not torch.cpu._is_amx_tile_supported():
        console.note('this CPU has no AMX, without which bf16 is often slower: try [train] precision = "fp32"')


def train_in_stages(
    run: Run, corpus: Corpus, initialization: Initialization, schedule: Schedule, stop: Callable[[], int]
) -> None:
    """Trains to the end of the run, or until validations stop improving: until frozen parts are freed, then with all parts."""
    end = min(initialization.unfreeze, run.steps) if run.step < initialization.unfreeze else run.steps
    while run.step < run.steps and not run.has_stopped_improving():
        freeze(run.training.model, initialization, run.step)
        run.train(acoustic_reports(run, corpus, schedule, until=end), stop)
        end = run.steps


def acoustic_reports(run: Run, corpus: Corpus, schedule: Schedule, *, until: int) -> Iterator[StepReport]:
    """Yields the report of each step of the training up to step `until`."""
    config: TrainingConfig = run.config  # type: ignore[assignment]
    loss = partial(consistent_loss, weight=config.consistency) if config.consistency else acoustic_loss
    return run.fit(
        padded_alike(loss) if config.sync_norm else loss,
        corpus.batches,
        schedule,
        seed=corpus.seed,
        until=until,
        sync_norm=config.sync_norm,
        larc=config.larc,
        halves=halves,
    )


def recompute_blocks(encoder: nn.Module) -> None:
    """Lets each block of an encoder keep only what enters it, and compute the rest again when the gradients are due."""
    if not hasattr(encoder, "blocks"):
        raise RecipeError("[train] checkpoint_activations: this encoder has no blocks to compute again. Remove the key")

    @contextmanager
    def unnoticed(block: nn.Module) -> Iterator[None]:  # running statistics have seen this batch already
        norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
        counts = [buffer for norm in norms if (buffer := norm.num_batches_tracked) is not None]
        before = [norm.momentum for norm in norms], [count.clone() for count in counts]
        for norm in norms:
            norm.momentum = 0.0
        try:
            yield
        finally:
            for norm, momentum in zip(norms, before[0]):
                norm.momentum = momentum
            for count, old in zip(counts, before[1]):
                count.copy_(old)

    for block in encoder.blocks:  # type: ignore[union-attr]
        twice = partial(lambda block: (torch.enable_grad(), unnoticed(block)), block)
        block.forward = partial(recompute, block.forward, use_reentrant=False, context_fn=twice)
