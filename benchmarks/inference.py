"""How fast each way of running a model is on a CPU, beside NeMo and OpenVINO, measured in turns in one run.

    python benchmarks/inference.py --nemo PATH/TO/NEMO/bin/python [--models quartznet15x5 ...] [--seconds 2 7 16.7 60]
        [--batch 1 16] [--threads 1 2] [--rounds 7]

Weights are random: speed does not depend on them. NeMo runs the same weights in its own environment (a .nemo file written here), in a
process that waits while others are measured. In each round every path runs once, so that load on the machine meets all alike; the
table gives medians, and the ratio to NeMo is the median of the rounds' ratios. "share of peak" is floating-point operations per
second by the fastest product of two matrices of 1024 x 1024 on as many threads, measured between the rounds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from carnelian.checkpoint import Checkpoint
from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.errors import CarnelianError
from carnelian.formats.nemo.export import write_nemo
from carnelian.inference.export.graph import GraphNode, OnnxModel, array_of, copy_model, identity, onnx
from carnelian.inference.export.int8 import Quantizer, Scheme
from carnelian.inference.export.model import onnx_model
from carnelian.inference.onnx_engine import OnnxEngine, graph_inputs
from carnelian.inference.processor import multiplies_bytes, processor_facts
from carnelian.inference.torch_engine import TorchEngine
from carnelian.models.cost import measure_cost
from carnelian.models.layers import fold_batch_norm
from carnelian.models.registry import build_model

MODELS = {
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
Path_ = Callable[[np.ndarray], float]  # runs audio (B, S) and returns the seconds that it took


def timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def peak(threads: int, size: int = 1024) -> float:
    """GFLOP per second of the fastest of some products of matrices."""
    torch.set_num_threads(threads)
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / min(timed(lambda: a @ b) for _ in range(5)) / 1e9


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
        self.process = subprocess.Popen(
            [python, worker, archive],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
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

    def run(self, audio: np.ndarray, threads: int, keep: bool = False) -> dict:
        path = self.folder / "audio.npy"
        np.save(path, audio)
        return self.ask(audio=str(path), threads=threads, keep=keep)


def openvino_path(model: OnnxModel, threads: int) -> Path_:
    """OpenVINO on the same file, one recording at a time."""
    import openvino

    core = openvino.Core()
    read = core.read_model(model.SerializeToString())
    read.reshape({"audio": [1, -1], "audio_lengths": [1]})
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(read, "CPU", settings).create_infer_request()
    return lambda audio: timed(lambda: [request.infer(graph_inputs(each)) for each in audio])


def paths_of(name: str, threads: int, nemo: str, folder: Path) -> tuple[dict[str, Path_], float]:
    """The ways of running a model, and its GFLOP per second of audio."""
    recipe = {"features": {"name": "log_mel"}, **MODELS[name]}
    alphabet = Alphabet(ENGLISH)
    torch.manual_seed(0)
    model = build_model(recipe, alphabet).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    with torch.device("meta"):
        gflop = 2 * measure_cost(build_model(recipe, alphabet)).multiply_adds / 1e9
    checkpoint = Checkpoint(model.state_dict(), alphabet, recipe)
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 80_000), np.float32)
    paths: dict[str, Path_] = {}
    if nemo:
        try:
            write_nemo(folder / f"{name}.nemo", model, recipe, alphabet)
            worker = Nemo(nemo, folder / f"{name}.nemo", folder)
            paths["NeMo"] = lambda audio: worker.run(audio, threads)["seconds"]
            log_probs = np.load(worker.run(noise, threads, keep=True)["log_probs"])
            [[ours]] = TorchEngine(model, alphabet).emissions(noise, [1.0])
            apart = np.abs(log_probs[0, : len(ours.log_probs)] - ours.log_probs).max()
            print(f"{name}: largest difference of log-probs from NeMo {apart:.1e}")
        except CarnelianError as error:
            print(f"{name}: no NeMo beside it ({error})")
    graph = None
    try:
        graph = onnx_model(model, checkpoint)
    except CarnelianError as error:
        print(f"{name}: not exported ({error})")
    fold_batch_norm(model)
    eager = TorchEngine(model, alphabet)
    paths["PyTorch eager"] = lambda audio: timed(lambda: eager.emissions(audio, [1.0]))
    if graph is None:
        return paths, gflop

    def onnx_path(exported: OnnxModel) -> Path_:
        engine = OnnxEngine(exported.SerializeToString(), threads=threads)
        return lambda audio: timed(lambda: engine.log_probs(list(audio)))

    small = None
    if name != "conformer_small":  # which has no blocks of convolutions
        quantizer = Quantizer(graph)
        scheme = Scheme("uint8", "minmax", reduce_range=not multiplies_bytes())
        small = quantizer.quantized(scheme, quantizer.ranges(noise))
    if name not in ("conformer_small", "citrinet512"):  # their graphs hold more than convolutions over time
        paths["ONNX Runtime, Conv1d"] = onnx_path(as_conv1d(graph))
    paths["ONNX fp32"] = onnx_path(graph)
    if small:
        paths["ONNX int8"] = onnx_path(small)
    try:
        paths["OpenVINO fp32"] = openvino_path(graph, threads)
        if small:
            paths["OpenVINO int8"] = openvino_path(small, threads)
    except ImportError:
        pass
    return paths, gflop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nemo", default="", help="the python of an environment with NeMo")
    parser.add_argument("--models", nargs="+", default=["quartznet15x5"], choices=MODELS)
    parser.add_argument("--seconds", nargs="+", type=float, default=[2, 7, 16.7, 60])
    parser.add_argument("--batch", nargs="+", type=int, default=[1])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    processor, sets = processor_facts()
    print(f"{processor}: {', '.join(sets)}; torch {torch.__version__}; " + " ".join(sys.argv[1:]))
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models:
            for threads in given.threads:
                torch.set_num_threads(threads)
                paths, gflop = paths_of(name, threads, given.nemo, Path(folder))
                print(f"\n{name}: {gflop:.2f} GFLOP per second of audio, {threads} threads")
                print(
                    f"{'':24}{'s':>6}{'batch':>6}{'median ms':>11}{'p90':>8}{'p99':>8}{'RTF':>10}{'share of peak':>15}{'x NeMo':>8}"
                )
                for batch in given.batch:
                    for seconds in given.seconds:
                        report(paths, gflop, batch, seconds, threads, given.rounds)


def report(paths: dict[str, Path_], gflop: float, batch: int, seconds: float, threads: int, rounds: int) -> None:
    """Measures all paths in turns and prints a line for each."""
    rng = np.random.default_rng(1)
    audio = 0.1 * rng.standard_normal((batch, round(16_000 * seconds)), np.float32)
    found: dict[str, list[float]] = {name: [] for name in paths}
    fastest = 0.0
    for index in range(rounds + 1):
        fastest = max(fastest, peak(threads))
        for name, run in paths.items():
            took = run(audio)
            if index:  # the first round warms up
                found[name].append(took)
    for name, times in found.items():
        median = float(np.median(times))
        share = gflop * batch * seconds / median / fastest
        ratio = f"{np.median(np.divide(found['NeMo'], times)):8.1f}" if "NeMo" in found else ""
        p90, p99 = np.percentile(times, (90, 99))
        print(
            f"{name:24}{seconds:6.1f}{batch:6}{1e3 * median:11.1f}{1e3 * p90:8.1f}{1e3 * p99:8.1f}"
            f"{median / batch / seconds:10.5f}{share:15.0%}{ratio}",
            flush=True,
        )


if __name__ == "__main__":
    main()
