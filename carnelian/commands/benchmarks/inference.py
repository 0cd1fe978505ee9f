"""How fast models turn audio into log-probabilities: `carnelian benchmark inference`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from carnelian.benchmarking.results import BenchmarkRun
from carnelian.commands.benchmarks.measurement import BenchmarkOptions, Contender, measure_in_turns, run_benchmark
from carnelian.data.alphabet import Alphabet
from carnelian.errors import CarnelianError
from carnelian.recipe import Recipe, load_recipe, packaged_recipes

if TYPE_CHECKING:
    from carnelian.inference.recognizer import Engine

INFERENCE_ITERATIONS = 10


def benchmark_inference(
    models: Annotated[
        list[Path], "checkpoints, exported .onnx models, or recipes, whose models then have random weights"
    ],
    *,
    seconds: Annotated[list[float], "seconds of each recording; may be given again"] = [2.0, 7.0, 16.7],  # noqa: B006
    batch: Annotated[list[int], "recordings at once; may be given again"] = [1],  # noqa: B006
    precision: Annotated[list[str], "fp32 or bf16, of PyTorch; may be given again"] = ["fp32"],  # noqa: B006
    threads: Annotated[int, "threads of a processor; by default one for each core"] = 0,
    device: Annotated[str, "cpu, cuda or cuda:N; by default a GPU where there is one"] = "",
    options: BenchmarkOptions = BenchmarkOptions(),  # noqa: B008
) -> None:
    """Time features and network on noise: average and 90, 95, 99 % latency by batch and duration, and utterances a second.

    Example: carnelian benchmark inference an4.onnx runs/an4 --batch 1 --batch 8 --out inference.json
    """
    if min(seconds) <= 0 or min(batch) < 1:
        raise CarnelianError("--seconds must be above 0, and --batch 1 or more")

    def measure() -> BenchmarkRun:
        timed = [
            timed_model(path, kind, threads, device)
            for path in models
            for kind in (precision if path.suffix != ".onnx" else ["fp32"])
        ]
        contenders = inference_contenders(timed, batch, seconds)
        where = next((each.device for each in timed if each.device != "cpu"), "cpu")
        return measure_in_turns(
            "inference", contenders, options, iterations=INFERENCE_ITERATIONS, device=where, precision=precision[0]
        )

    run_benchmark(options, measure)


@dataclass(frozen=True)
class TimedModel:
    """A model ready to run: its name, kind of arithmetic and device; gflop: floating-point operations, 10^9 for a second of audio."""

    name: str
    kind: str
    engine: "Engine"
    gflop: float
    device: str = "cpu"


def timed_model(path: Path, precision: str, threads: int, device: str) -> TimedModel:
    """Returns an exported model, a checkpoint's model, or a recipe's with random weights, on which speed does not depend."""
    from carnelian.inference.recognizer import load_engine

    if path.suffix == ".onnx":
        engine: Any = load_engine(path, threads=threads)
        return TimedModel(path.stem, f"ONNX {engine.precision}", engine, gflop_of(engine.recipe, engine.alphabet))
    from carnelian.checkpoint import load_checkpoint
    from carnelian.formats.catalog import find_checkpoint
    from carnelian.models.device import choose_device

    device = choose_device(device)
    if path.suffix == ".toml" or (str(path) in packaged_recipes() and not path.exists()):
        engine, recipe = engine_of_recipe(path, precision, threads, device)
    else:
        engine = load_engine(path, device=device, precision=precision, threads=threads)
        recipe = load_checkpoint(find_checkpoint(path)).recipe
    return TimedModel(path.stem, precision, engine, gflop_of(recipe, engine.alphabet), device)


def engine_of_recipe(path: Path, precision: str, threads: int, device: str) -> tuple["Engine", Recipe]:
    """Returns a recipe's model with random weights, and the recipe."""
    import torch

    from carnelian.data.alphabet import make_alphabet
    from carnelian.inference.torch_engine import ready_engine
    from carnelian.models.registry import build_model

    recipe = load_recipe(path)
    alphabet = make_alphabet(recipe["alphabet"])
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    return ready_engine(build_model(recipe, alphabet).to(device), alphabet, precision), recipe


def gflop_of(recipe: Recipe, alphabet: Alphabet) -> float:
    """Returns the floating-point operations (10^9) of a recipe's model for a second of audio; 0 without PyTorch, which counts them."""
    if find_spec("torch") is None:
        return 0.0
    import torch

    from carnelian.models.cost import measure_cost
    from carnelian.models.registry import build_model

    with torch.device("meta"):
        return 2 * measure_cost(build_model(recipe, alphabet)).multiply_adds / 1e9


def inference_contenders(
    models: Sequence[TimedModel], batches: Sequence[int], durations: Sequence[float]
) -> list[Contender]:
    """Returns a contender for each model, batch and duration."""
    contenders = []
    for timed in models:
        for batch in batches:
            for seconds in durations:
                audio = noise_waveforms(batch, seconds, timed.engine.sample_rate)
                case = {"model": timed.name, "precision": timed.kind, "batch": batch, "seconds": seconds}
                contenders.append(Contender(case, runner(timed.engine, audio), work_of(batch, seconds, timed.gflop)))
    return contenders


def runner(engine: "Engine", audio: list[np.ndarray]) -> Callable[[], object]:
    """Returns a call that runs a model; its result comes back to the processor, so that a GPU has done its work at the end."""
    return lambda: engine.emissions(audio, (1.0,))


def work_of(batch: int, seconds: float, gflop: float) -> dict[str, float]:
    """Returns the work of a batch of recordings of one duration; gflop: for a second of audio, 0 where unknown."""
    work = {"utterances": float(batch), "audio_seconds": batch * seconds}
    return work | ({"gflop": gflop * batch * seconds} if gflop else {})


def noise_waveforms(batch: int, seconds: float, sample_rate: int) -> list[np.ndarray]:
    """Returns waveforms (S,) of one duration: the network takes as long whatever is said."""
    rng = np.random.default_rng(1)
    return [0.1 * rng.standard_normal(round(sample_rate * seconds), np.float32) for _ in range(batch)]
