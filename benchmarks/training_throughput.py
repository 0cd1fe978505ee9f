"""Utterances a second that a recipe's model trains on, how near that is to the device's matrix products, and what takes the time.

    python benchmarks/training_throughput.py ...librispeech/jasper10x5dr.toml ...librispeech/quartznet15x5.toml

On a GPU by default 64 clips of 16.7 s in bf16; for a CPU give small ones: --batch 2 --seconds 4 --steps 3 --precision fp32.
Published for 1 A100 in mixed precision: Jasper 10x5 DR 75.6 utterances a second at batch 64, QuartzNet 15x5 89.7 at batch 48.
"""

import argparse
import platform
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from carnelian.data.alphabet import make_alphabet
from carnelian.data.batch import Batch
from carnelian.data.utterance import Utterance
from carnelian.models.registry import build_model
from carnelian.recipe import choose, load_recipe
from carnelian.training.fit import PRECISIONS, Training, fit
from carnelian.training.optim import OPTIMIZERS
from carnelian.training.tasks.acoustic import acoustic_loss


def make_batch(rows: int, seconds: float, sample_rate: int, symbols: int) -> Batch:
    """Noise, with 15 random symbols to each second of it."""
    samples, spelled = int(seconds * sample_rate), int(15 * seconds)
    return Batch(
        0.1 * torch.randn(rows, samples),
        torch.full((rows,), samples),
        torch.randint(symbols, (rows, spelled)),
        torch.full((rows,), spelled),
        [""] * rows,
        [Utterance("", seconds)] * rows,
    )


def matrix_peak(device: str, precision: str) -> float:
    """Floating-point operations a second of large matrix products: the best of several."""
    size = 8192 if device == "cuda" else 1024
    left, right = (
        torch.randn(size, size, device=device, dtype=PRECISIONS[precision] or torch.float32) for _ in range(2)
    )
    best = 0.0
    for _ in range(10):
        started = now(device)
        left @ right
        best = max(best, 2 * size**3 / (now(device) - started))
    return best


def now(device: str) -> float:
    """The time, when the device has done all that it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def operations(model: torch.nn.Module, batch: Batch) -> int:
    """Floating-point operations of a step's convolutions and products: those forward, and twice as many backward."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(batch.audio, batch.audio_lengths)
    return 3 * counter.get_total_flops()


def measure(path: Path, options: argparse.Namespace) -> None:
    recipe = load_recipe(path, options.set)
    alphabet = make_alphabet(recipe["alphabet"])
    torch.manual_seed(0)
    model = build_model(recipe, alphabet).to(options.device)
    optimizer = choose(OPTIMIZERS, recipe["optimizer"], where="optimizer", parameters=model.parameters())
    batch = make_batch(options.batch, options.seconds, int(model.features.sample_rate), len(alphabet))
    batch = batch.to(options.device)
    flops = operations(model, batch)
    reports = fit(
        Training(model.train(), optimizer),
        epoch_batches=lambda epoch, start: iter([batch]),
        loss=acoustic_loss,
        schedule=lambda step: 1e-4,
        steps=options.steps + 4,
        device=options.device,
        precision=options.precision,
    )
    for _ in range(3):  # what is chosen and compiled in the first steps is left out
        next(reports)
    started = now(options.device)
    for _ in range(options.steps):
        next(reports)
    seconds = (now(options.device) - started) / options.steps
    peak = matrix_peak(options.device, options.precision)
    print(f"\n{path}: {options.batch} x {options.seconds} s, {options.precision}, {options.device}")
    memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if options.device == "cuda" else ""
    print(
        f"  {seconds:.3f} s a step, {options.batch / seconds:.2f} utterances/s, {flops / seconds / 1e12:.3f} Tflop/s, "
        f"{100 * flops / seconds / peak:.1f} % of the {peak / 1e12:.2f} of matrix products{memory}",
        flush=True,
    )
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (options.device == "cuda")
    with profile(activities=activities) as profiler:
        next(reports)
        now(options.device)
    order = "self_device_time_total" if options.device == "cuda" else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, order))
    total = sum(getattr(event, order) for event in events)
    print(
        "  of a step's time: "
        + ", ".join(f"{event.key} {100 * getattr(event, order) / total:.0f} %" for event in events[:8])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=16.7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--precision", choices=PRECISIONS, default="bf16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--set", action="append", default=[], help="a change to the recipes, such as encoder.width=0.5")
    options = parser.parse_args()
    name = (
        torch.cuda.get_device_name()
        if options.device == "cuda"
        else f"{platform.machine()}, {torch.get_num_threads()} threads"
    )
    print(f"torch {torch.__version__}, {name}")
    for path in options.recipes:
        measure(path, options)


if __name__ == "__main__":
    main()
