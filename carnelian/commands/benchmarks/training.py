"""How fast recipes train: `carnelian benchmark training`."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from carnelian.benchmarking.results import BenchmarkRun
from carnelian.commands.benchmarks.measurement import (
    ROOT,
    BenchmarkOptions,
    Contender,
    measure_in_process,
    measure_in_turns,
    run_benchmark,
)
from carnelian.errors import CarnelianError
from carnelian.recipe import choose, load_recipe

if TYPE_CHECKING:
    from carnelian.data.batch import Batch
    from carnelian.training.distributed import World

SYMBOLS_PER_SECOND = 15
TRAINING_ITERATIONS = 3


def benchmark_training(
    recipes: Annotated[list[Path], "recipes: TOML files, or names that `carnelian recipes list` prints"],
    *,
    batch: Annotated[list[int], "utterances in a batch of each process; may be given again"] = [8],  # noqa: B006
    seconds: Annotated[float, "seconds of each utterance"] = 16.7,
    precision: Annotated[list[str], "fp32, bf16 or fp16; may be given again"] = ["fp32"],  # noqa: B006
    devices: Annotated[list[int], "processes, each with a GPU or on the processor; may be given again"] = [1],  # noqa: B006
    device: Annotated[str, "cpu or cuda; by default a GPU where there is one"] = "",
    set: Annotated[list[str], "a change to the recipes, such as encoder.blocks=5; may be given again"] = [],  # noqa: B006
    options: BenchmarkOptions = BenchmarkOptions(),  # noqa: B008
) -> None:
    """Time training steps on noise: utterances a second by devices, precision and batch, as NVIDIA publishes them.

    A step is features, forward, loss, backward and optimizer, without reading recordings.

    Example: carnelian benchmark training librispeech/quartznet5x5 --batch 4 --seconds 4 --repeats 3
    """
    from carnelian.training.fit import PRECISIONS

    if unknown := [each for each in precision if each not in PRECISIONS]:
        raise CarnelianError(f'--precision "{unknown[0]}": no such precision. Known: {", ".join(PRECISIONS)}')
    if seconds <= 0 or min(*batch, *devices) < 1:
        raise CarnelianError("--seconds must be above 0, --batch and --devices 1 or more")
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1 and os.environ.get("RANK", "0") != "0":  # a process that helps to measure
        measure_training(recipes, batch, seconds, precision, device, set, options)
        return

    def measure() -> BenchmarkRun:
        if ranks > 1:
            return measure_training(recipes, batch, seconds, precision, device, set, options)
        runs = [
            measure_training(recipes, batch, seconds, precision, device, set, options)
            if count == 1
            else measure_with_processes(count, options)
            for count in devices
        ]
        rows = [row for run in runs for row in run.rows]
        return replace(runs[0], rows=rows, peaks=runs[0].peaks)

    run_benchmark(options, measure)


def measure_with_processes(count: int, options: BenchmarkOptions) -> BenchmarkRun:
    """Returns the run of this command by several processes that train together, which torchrun starts."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m", "carnelian"]
    with tempfile.TemporaryDirectory() as folder:
        return measure_in_process(ROOT, Path(folder) / "run.json", launcher, repeats=options.repeats)


def measure_training(
    recipes: Sequence[Path],
    batches: Sequence[int],
    seconds: float,
    precisions: Sequence[str],
    device: str,
    changes: Sequence[str],
    options: BenchmarkOptions,
) -> BenchmarkRun:
    """Returns the run of this process, with the others of its group where there are some."""
    from carnelian.training.distributed import init_process_group

    with init_process_group(device) as world:
        contenders = [
            training_contender(load_recipe(path, changes), path.stem, rows, seconds, precision, world)
            for path in recipes
            for precision in precisions
            for rows in batches
        ]
        return measure_in_turns(
            "training",
            contenders,
            options,
            iterations=TRAINING_ITERATIONS,
            device=world.device,
            precision=precisions[0],
        )


def training_contender(
    recipe: dict[str, Any], name: str, rows: int, seconds: float, precision: str, world: "World"
) -> Contender:
    """Returns a training that takes a step at each call, on one batch of noise."""
    import torch

    from carnelian.data.alphabet import make_alphabet
    from carnelian.inference.processor import synchronize
    from carnelian.models.registry import build_model
    from carnelian.training.distributed import wrap_in_ddp
    from carnelian.training.fit import Training, fit
    from carnelian.training.optim import OPTIMIZERS
    from carnelian.training.tasks.acoustic import acoustic_loss

    alphabet = make_alphabet(recipe["alphabet"])
    torch.manual_seed(0)
    model = build_model(recipe, alphabet).to(world.device).train()
    optimizer = choose(OPTIMIZERS, recipe["optimizer"], where="optimizer", parameters=model.parameters())
    batch = noise_batch(rows, seconds, int(model.features.sample_rate), len(alphabet)).to(world.device)
    gflop = step_gflop(model, batch)
    steps = fit(
        Training(model, optimizer),
        epoch_batches=lambda epoch, start: iter([batch]),
        loss=acoustic_loss,
        schedule=lambda step: 1e-4,
        steps=1 << 60,
        device=world.device,
        precision=precision,
        wrapped=wrap_in_ddp(model, world),
    )

    def call() -> None:
        next(steps)
        synchronize(world.device)

    def found() -> dict[str, float]:
        return {"GiB": torch.cuda.max_memory_allocated() / 2**30} if world.device != "cpu" else {}

    case = {"model": name, "devices": world.ranks, "precision": precision, "batch": rows, "seconds": seconds}
    everyone = rows * world.ranks
    return Contender(case, call, {"utterances": everyone, "audio_seconds": everyone * seconds, "gflop": gflop}, found)


def noise_batch(rows: int, seconds: float, sample_rate: int, symbols: int) -> "Batch":
    """Returns noise, with 15 random symbols to each second of it."""
    import torch

    from carnelian.data.batch import Batch
    from carnelian.data.utterance import Utterance

    samples, spelled = int(seconds * sample_rate), int(SYMBOLS_PER_SECOND * seconds)
    return Batch(
        0.1 * torch.randn(rows, samples),
        torch.full((rows,), samples),
        torch.randint(symbols, (rows, spelled)),
        torch.full((rows,), spelled),
        [""] * rows,
        [Utterance("", seconds)] * rows,
    )


def step_gflop(model: Any, batch: "Batch") -> float:
    """Returns the floating-point operations (10^9) of a step: those forward, and twice as many backward."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(batch.audio, batch.audio_lengths)
    return 3 * counter.get_total_flops() / 1e9
