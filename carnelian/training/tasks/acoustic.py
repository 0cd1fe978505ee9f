"""Training an acoustic model from a recipe: what is trained, on what, by which loss, and what happens between its steps."""

import time
from collections.abc import Iterator
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
from carnelian.errors import AudioError, ManifestError, RecipeError
from carnelian.models.acoustic import count_parameters
from carnelian.models.losses.ctc import disagreement
from carnelian.models.registry import build_model
from carnelian.recipe import Recipe, choose
from carnelian.training.checkpoints import Checkpoints
from carnelian.training.corpus import Corpus, halves
from carnelian.training.distributed import (
    highest_over_processes,
    init_process_group,
    is_sharded,
    padded_alike,
    shard_model,
    wrap_in_ddp,
)
from carnelian.training.fit import Training, fit
from carnelian.training.initialize import choose_alphabet, freeze, load_parts, parameter_groups, read_initialization
from carnelian.training.log import Log
from carnelian.training.optim import OPTIMIZERS, SCHEDULES
from carnelian.training.run import Run, Score, Validate, keep_recipe
from carnelian.training.settings import TrainingConfig, check_recipe
from carnelian.training.signals import Stopped, catch_signals
from carnelian.training.watching import describe_nonfinite, progress

__all__ = ["Score", "Stopped", "train_acoustic"]


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


def train_acoustic(recipe: Recipe, folder: str | Path, *, validate: Validate | None = None) -> Path:
    """Trains as the recipe says, in a folder, from its last checkpoint if it has one; gives the path of the finished model.

    `validate(model, alphabet, stop)` scores the model on the validation manifests. Raises `Stopped` when a signal said to stop.
    Started by torchrun, it is one of several processes.
    """
    folder = Path(folder)
    initialization, pretrained, recipe = read_initialization(recipe)
    settings = check_recipe(recipe)
    alphabet = choose_alphabet(recipe, pretrained)
    with init_process_group(settings.device) as world, catch_signals() as stop:
        console.stderr.quiet |= world.rank > 0  # the first process speaks for all
        torch.manual_seed(recipe.get("seed", 0))
        model = build_model(recipe, alphabet)
        corpus = Corpus(settings, recipe, alphabet, int(model.features.sample_rate), world)  # type: ignore[arg-type]
        steps = settings.steps or -(-settings.epochs * len(corpus.plan(0)) // settings.accumulate)
        schedule = choose(SCHEDULES, recipe["schedule"], where="schedule", steps=steps)
        checkpoints = Checkpoints(folder, keep_last=settings.keep_last, keep_best=settings.keep_best)
        if pretrained and not checkpoints.steps():
            load_parts(model, alphabet, pretrained, initialization)
        if settings.sharded:
            shard_model(model, world)
        model = model.to(world.device)
        groups = parameter_groups(model, initialization)
        training = Training(model, choose(OPTIMIZERS, recipe["optimizer"], where="optimizer", parameters=groups))
        if world.rank == 0:
            keep_recipe(folder, recipe)
        log = Log(folder if world.rank == 0 else None)
        run = Run(folder, recipe, alphabet, training, checkpoints, log, world, validate)
        run.resume()
        console.note(f"{count_parameters(model):,} parameters; {steps} steps on {world.ranks} x {world.device}")
        corpus.describe()
        if settings.precision == "bf16" and world.device == "cpu" and not torch.cpu._is_amx_tile_supported():
            console.note('this CPU has no AMX, without which bf16 is often slower: try [train] precision = "fp32"')
        if settings.checkpoint_activations:
            recompute_blocks(model.encoder)
        if settings.compile:
            model.encoder.compile(dynamic=True)  # for batches of any length
        try:
            end = min(initialization.unfreeze, steps) if run.step < initialization.unfreeze else steps
            while run.step < steps and not run.waited_enough(settings.patience):
                freeze(model, initialization, run.step)
                train_on(run, corpus, settings, schedule, until=end, steps=steps, stop=stop)
                end = steps
            run.save()
        except (AudioError, ManifestError):
            if run.step and not is_sharded(model):  # of which one process alone cannot save
                run.save()  # what was learnt before a recording could not be read
            raise
        finally:
            checkpoints.close()
            log.close()
        console.note(f"{folder}: finished at step {run.step}")
    return checkpoints.path(run.step)


def train_on(run: Run, corpus: Corpus, settings: TrainingConfig, schedule, *, until: int, steps: int, stop) -> None:
    """Trains until a step of `steps`, or until patience ends; saves and scores between the steps, and where a signal came."""
    world, training = run.world, run.training
    wrapped = wrap_in_ddp(training.model, world, sync_norm=settings.sync_norm)
    loss = partial(consistent_loss, weight=settings.consistency) if settings.consistency else acoustic_loss
    reports = fit(
        training,
        epoch_batches=corpus.batches,
        loss=padded_alike(loss) if settings.sync_norm else loss,
        schedule=schedule,
        steps=until,
        seed=corpus.seed,
        device=world.device,
        precision=settings.precision,
        accumulate=settings.accumulate,
        clip=settings.clip,
        larc=settings.larc,
        average=settings.average,
        wrapped=wrapped,
        halves=halves,
    )

    def score_if_due() -> bool:
        every = settings.validate_every
        due = run.step == steps or (every and run.step and run.step % every == 0)
        return bool(run.validate and due) and run.step not in run.scores and run.score(stop)

    with progress(run.log, steps, run.step) as watch:
        score_if_due()  # what the run was stopped in
        for report in reports:
            watch(report)
            scored = score_if_due()
            late = time.monotonic() - run.saved > 60 * settings.save_minutes
            due = late or (bool(settings.save_every) and run.step % settings.save_every == 0)
            signal, saving = highest_over_processes([stop(), due], world.device)
            if not report.finite and settings.nonfinite == "stop" and not training.scaler:
                raise RecipeError(
                    f"step {run.step}: {describe_nonfinite(report)} The run stops here ([train] nonfinite)"
                )
            if signal or saving or scored:
                run.save()
            if signal and run.step < steps:
                run.checkpoints.wait()
                raise Stopped(int(signal), run.folder, run.step)
            if scored and run.waited_enough(settings.patience):
                console.note(
                    f"step {run.step}: {settings.patience} validations brought nothing better; the run ends here"
                )
                return


def recompute_blocks(encoder: nn.Module) -> None:
    """Lets each block of an encoder keep only what enters it, and compute the rest again when the gradients are due."""
    if not hasattr(encoder, "blocks"):
        raise RecipeError(
            "[train] checkpoint_activations: this encoder has no blocks to compute again. Take the key away"
        )

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
