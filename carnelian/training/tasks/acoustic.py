"""The acoustic task: what is trained, on what, by which loss."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint as recompute

from carnelian import console
from carnelian.data.batch import Batch
from carnelian.errors import AudioError, ManifestError, RecipeError
from carnelian.models.acoustic import count_parameters
from carnelian.models.losses.ctc import disagreement
from carnelian.models.registry import build_model
from carnelian.recipe import Recipe, choose
from carnelian.training.corpus import Corpus, halves
from carnelian.training.distributed import init_process_group, is_sharded, padded_alike, shard_model, wrap_in_ddp
from carnelian.training.fit import StepReport, Training, fit
from carnelian.training.initialize import (
    Initialization,
    choose_alphabet,
    freeze,
    load_parts,
    parameter_groups,
    read_initialization,
)
from carnelian.training.optim import OPTIMIZERS, SCHEDULES, Schedule
from carnelian.training.resume import check_data_of_run, check_recipe_of_run, keep_recipe, locked
from carnelian.training.run import Run, Validate, checkpoint_path
from carnelian.training.settings import TrainingConfig, check_recipe
from carnelian.training.signals import catch_signals


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
    folder = Path(folder)
    initialization, pretrained, recipe = read_initialization(recipe)
    config = check_recipe(recipe)
    alphabet = choose_alphabet(recipe, pretrained)
    with init_process_group(config.device) as world, catch_signals() as stop, ExitStack() as stack:
        console.stderr.quiet |= world.rank > 0  # the first process reports for all
        if dry_run:
            folder = Path(stack.enter_context(TemporaryDirectory()))
        check_recipe_of_run(folder, recipe, allow_changes=allow_changes)
        torch.manual_seed(recipe.get("seed", 0))
        model = build_model(recipe, alphabet)
        rate = int(model.features.sample_rate)  # type: ignore[arg-type]
        corpus = Corpus(config, recipe, alphabet, rate, world, unknown_characters=config.unknown_characters)
        steps = config.steps or -(-config.epochs * len(corpus.plan(0)) // config.accumulate)
        taken = load_parts(model, alphabet, pretrained, initialization) if pretrained else []
        if config.sharded:
            shard_model(model, world)
        model = model.to(world.device)
        groups = parameter_groups(model, initialization)
        training = Training(model, choose(OPTIMIZERS, recipe["optimizer"], where="optimizer", parameters=groups))
        schedule = choose(SCHEDULES, recipe["schedule"], where="schedule", steps=steps)
        stack.enter_context(locked(folder, world))  # only now, so that a faulty recipe leaves no folder behind
        run = Run(
            folder,
            recipe,
            alphabet,
            training,
            config,
            world,
            steps=steps,
            data=corpus.fingerprint(),
            build=partial(build_model, recipe, alphabet),
            validate=None if dry_run else validate,
        )
        stack.callback(run.close)
        state = run.resume()
        check_data_of_run(folder, state, run.data, world, allow_changes=allow_changes)
        if world.rank == 0:
            keep_recipe(folder, recipe)
        describe_run(run, corpus, schedule, state, taken)
        prepare_encoder(model.encoder, config)
        if dry_run:
            run.steps = run.step + 1
        train_in_stages(run, corpus, initialization, schedule, stop)
        console.note("one step was taken; the recipe works" if dry_run else run.summary())
    return checkpoint_path(folder, run.step)


def prepare_encoder(encoder: Any, config: TrainingConfig) -> None:
    """Makes the encoder compute as the recipe asks: blocks computed again in the backward pass, compiled."""
    if config.checkpoint_activations:
        recompute_blocks(encoder)
    if config.compile:
        encoder.compile(dynamic=True)  # for batches of any length


def describe_run(run: Run, corpus: Corpus, schedule: Schedule, state: Mapping[str, Any], taken: Sequence[str]) -> None:
    """Notes what is trained, on what, for how long, and what an earlier model gave; writes the latter to the log too."""
    config, world, model = run.config, run.world, run.training.model
    console.note(f"{count_parameters(model):,} parameters; {run.steps} steps on {world.ranks} x {world.device}")
    corpus.describe()
    if state:
        console.note(f"going on from step {run.step} in {run.folder}")
        before = state.get("steps", run.steps)
        if before != run.steps:
            console.note(
                f"the training now has {run.steps} steps instead of {before}: the schedule ends there, and the learning rate of the "
                f"next step is {schedule(run.step):.3g}"
            )
    else:
        for line in taken:
            console.note(line)
        if taken:
            run.log.write(0, initialized=list(taken))
    if config.precision == "bf16" and world.device == "cpu" and not torch.cpu._is_amx_tile_supported():
        console.note('this CPU has no AMX, without which bf16 is often slower: try [train] precision = "fp32"')


def train_in_stages(
    run: Run, corpus: Corpus, initialization: Initialization, schedule: Schedule, stop: Callable[[], int]
) -> None:
    """Trains to the end of the run, or until validations stop improving: until frozen parts are freed, then with all parts."""
    training = run.training
    try:
        end = min(initialization.unfreeze, run.steps) if run.step < initialization.unfreeze else run.steps
        while run.step < run.steps and not run.has_stopped_improving():
            freeze(training.model, initialization, run.step)
            run.train(acoustic_reports(run, corpus, schedule, until=end), stop)
            end = run.steps
        run.save()
    except (AudioError, ManifestError):
        if run.step and not is_sharded(training.model):  # one process alone cannot save a sharded model
            run.save()  # what was learnt before a recording could not be read
        raise


def acoustic_reports(run: Run, corpus: Corpus, schedule: Schedule, *, until: int) -> Iterator[StepReport]:
    """Yields the report of each step of the training up to step `until`."""
    config: TrainingConfig = run.config  # type: ignore[assignment]
    loss = partial(consistent_loss, weight=config.consistency) if config.consistency else acoustic_loss
    return fit(
        run.training,
        epoch_batches=corpus.batches,
        loss=padded_alike(loss) if config.sync_norm else loss,
        schedule=schedule,
        steps=until,
        seed=corpus.seed,
        device=run.world.device,
        precision=config.precision,
        accumulate=config.accumulate,
        clip=config.clip,
        larc=config.larc,
        average=config.average,
        wrapped=wrap_in_ddp(run.training.model, run.world, sync_norm=config.sync_norm),
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
