"""`carnelian benchmark inference` with NeMo, OpenVINO and ONNX Runtime's usual Conv1d graphs beside it, on a CPU.

    python benchmarks/inference.py --nemo PATH/TO/NEMO/bin/python [--model quartznet15x5 ...] [--seconds 2 --seconds 16.7]
        [--batch 1 --batch 16] [--threads 1] [--repeats 7]

Weights are random: speed does not depend on them. NeMo runs the same weights in its own environment (a .nemo file written here), in a
process that waits while others are measured. "of peak" is floating-point operations per second by those of matrix products.
"""

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from carnelian.benchmarking.rounds import CallSeconds
from carnelian.checkpoint import Checkpoint
from carnelian.cli import as_typer
from carnelian.commands.benchmarks.inference import gflop_of, noise_waveforms, work_of
from carnelian.commands.benchmarks.measurement import BenchmarkOptions, Contender, measure_in_turns, run_benchmark
from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.errors import CarnelianError
from carnelian.formats.nemo.export import write_nemo
from carnelian.inference.export.graph import GraphNode, OnnxModel, array_of, copy_model, identity, onnx
from carnelian.inference.export.int8 import Quantizer, Scheme
from carnelian.inference.export.model import onnx_model
from carnelian.inference.onnx_engine import OnnxEngine, graph_inputs
from carnelian.inference.processor import multiplies_bytes
from carnelian.inference.torch_engine import TorchEngine, ready_engine
from carnelian.models.registry import build_model

MODELS: dict[str, dict[str, Any]] = {
    "quartznet15x5": {"encoder": {"name": "quartznet"}},
    "quartznet5x5": {"encoder": {"name": "quartznet", "blocks": 5}},
    "jasper10x5dr": {"encoder": {"name": "jasper"}},
    "wave2letter": {"encoder": {"name": "wave2letter"}},
    "citrinet512": {"encoder": {"name": "citrinet"}, "features": {"name": "log_mel", "features": 80, "window": 0.025}},
    "conformer_small": {
        "encoder": {"name": "conformer"},
        "features": {"name": "log_mel", "features": 80, "window": 0.025},
    },
}
ALPHABET = Alphabet(ENGLISH)
Run = Callable[[list[np.ndarray]], object]  # runs waveforms (S,) of one length


def as_conv1d(model: OnnxModel) -> OnnxModel:
    """The same graph with the convolutions as Conv1d, as exporters usually write them; for one recording at a time."""
    copy = copy_model(model)
    weights = {each.name: each for each in copy.graph.initializer}
    masks = {node.output[0] for node in copy.graph.node if node.op_type == "If" and node.name != "front_end/If"}
    kept: list[GraphNode] = []
    for node in copy.graph.node:
        if node.op_type == "Mul" and node.input[1] in masks and node.name.startswith("encoder"):
            node = identity(node)  # of one recording at a time there is no padding
        if node.op_type == "Conv":
            weight = weights[node.input[1]]
            weight.CopyFrom(onnx.numpy_helper.from_array(array_of(weight)[:, :, 0], weight.name))
            for attribute in node.attribute:
                if attribute.name == "pads":
                    attribute.ints[:] = attribute.ints[1::2]
                elif attribute.name in ("kernel_shape", "strides", "dilations"):
                    attribute.ints[:] = attribute.ints[1:]
            if len(node.input) > 0 and node.input[0].startswith("encoder/Unsqueeze"):
                node.input[0] = next(each.input[0] for each in copy.graph.node if each.output[0] == node.input[0])
        if node.op_type == "Transpose" and node.input[0].startswith("head/Squeeze"):
            node.input[0] = next(each.input[0] for each in copy.graph.node if each.output[0] == node.input[0])
        if not node.name.startswith(("encoder/Unsqueeze", "head/Squeeze")):
            kept.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy


class Nemo:
    """NeMo's model in its own process."""

    def __init__(self, python: str, archive: Path, folder: Path):
        worker = Path(__file__).with_name("nemo_worker.py")
        self.folder = folder
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([python, worker, archive], text=True, **pipes)
        self.answer()

    def answer(self) -> dict:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("NeMo's process ended; run benchmarks/nemo_worker.py by hand to see why")
        return json.loads(line)

    def ask(self, **request: object) -> dict:
        assert self.process.stdin
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self.answer()

    def seconds(self, **request: object) -> CallSeconds:
        """The seconds that it took, by its own clocks."""
        found = self.ask(**request)
        return CallSeconds(found["seconds"], found["processor"])

    def log_probs(self, audio: np.ndarray) -> np.ndarray:
        return np.load(self.ask(audio=self.stored([audio]), threads=1, keep=True)["log_probs"])[0]

    def stored(self, audio: Sequence[np.ndarray]) -> str:
        """A file with the waveforms, written once for each shape."""
        path = self.folder / f"audio-{len(audio)}-{len(audio[0])}.npy"
        if not path.exists():
            np.save(path, np.stack(audio))
        return str(path)

    def run(self, audio: list[np.ndarray], threads: int) -> CallSeconds:
        return self.seconds(audio=self.stored(audio), threads=threads)


def openvino_run(model: OnnxModel, threads: int) -> Run:
    """OpenVINO on the same file, one recording at a time."""
    import openvino

    core = openvino.Core()
    read = core.read_model(model.SerializeToString())
    read.reshape({"audio": [1, -1], "audio_lengths": [1]})
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(read, "CPU", settings).create_infer_request()
    return lambda audio: [request.infer(graph_inputs(each)) for each in audio]


def random_model(name: str) -> tuple[torch.nn.Module, dict[str, Any]]:
    """A model with random weights and statistics, and its recipe."""
    recipe = {"features": {"name": "log_mel"}, **MODELS[name]}
    torch.manual_seed(0)
    model = build_model(recipe, ALPHABET).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model, recipe


def ways_to_run(name: str, threads: int, nemo: str, folder: Path) -> dict[str, Run]:
    """The ways of running a model."""
    model, recipe = random_model(name)
    [audio] = noise_waveforms(1, 5.0, 16_000)
    found: dict[str, Run] = {}
    if nemo:
        try:
            write_nemo(folder / f"{name}.nemo", model, recipe, ALPHABET)
            worker = Nemo(nemo, folder / f"{name}.nemo", folder)
            [[ours]] = TorchEngine(model, ALPHABET).emissions([audio], [1.0])
            apart = np.abs(worker.log_probs(audio)[: len(ours.log_probs)] - ours.log_probs).max()
            print(f"{name}: largest difference of log-probs from NeMo {apart:.1e}")
            found["NeMo"] = partial(worker.run, threads=threads)
        except CarnelianError as error:
            print(f"{name}: no NeMo beside it ({error})")
    graph = None
    try:
        graph = onnx_model(model, Checkpoint(model.state_dict(), ALPHABET, recipe))
    except CarnelianError as error:
        print(f"{name}: not exported ({error})")
    eager = ready_engine(model, ALPHABET)
    found["PyTorch, eager"] = lambda audio: eager.emissions(audio, [1.0])
    return found | (exported_ways(name, graph, threads, audio) if graph else {})


def exported_ways(name: str, graph: OnnxModel, threads: int, audio: np.ndarray) -> dict[str, Run]:
    """The ways of running an exported model, the weights in float32 and in 8 bits."""

    def onnx_run(exported: OnnxModel) -> Run:
        return OnnxEngine(exported.SerializeToString(), threads=threads).log_probs

    small = None
    if name != "conformer_small":  # which has no blocks of convolutions
        quantizer = Quantizer(graph)
        scheme = Scheme("uint8", "minmax", reduce_range=not multiplies_bytes())
        small = quantizer.quantized(scheme, quantizer.ranges(audio[None]))
    found: dict[str, Run] = {}
    if name not in ("conformer_small", "citrinet512"):  # their graphs hold more than convolutions over time
        found["ONNX Runtime, Conv1d"] = onnx_run(as_conv1d(graph))
    graphs = {"fp32": graph} | ({"int8": small} if small else {})
    found |= {f"ONNX {kind}": onnx_run(each) for kind, each in graphs.items()}
    try:
        found |= {f"OpenVINO {kind}": openvino_run(each, threads) for kind, each in graphs.items()}
    except ImportError:
        print("openvino: not installed")
    return found


def main(
    *,
    nemo: Annotated[str, "the python of an environment with NeMo"] = "",
    model: Annotated[list[str], f"{', '.join(MODELS)}; may be given again"] = ["quartznet15x5"],  # noqa: B006
    seconds: Annotated[list[float], "seconds of each recording; may be given again"] = [2, 7, 16.7, 60],  # noqa: B006
    batch: Annotated[list[int], "recordings at once; may be given again"] = [1],  # noqa: B006
    threads: Annotated[int, "threads of each"] = 1,
    options: BenchmarkOptions = BenchmarkOptions(),  # noqa: B008
) -> None:
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        contenders = []
        for name in model:
            ways = ways_to_run(name, threads, nemo, Path(folder))
            gflop = gflop_of({"features": {"name": "log_mel"}, **MODELS[name]}, ALPHABET)
            print(f"{name}: {gflop:.2f} GFLOP per second of audio")
            for rows in batch:
                for each in seconds:
                    audio = noise_waveforms(rows, each, 16_000)
                    for way, run in ways.items():
                        case = {"model": name, "batch": rows, "seconds": each, "path": way}
                        contenders.append(Contender(case, partial(run, audio), work_of(rows, each, gflop)))
        baseline = {"path": "NeMo"}
        run_benchmark(options, lambda: measure_in_turns("inference", contenders, options, baseline=baseline))


if __name__ == "__main__":
    typer.run(as_typer(main))
