"""Runs an exported model with ONNX Runtime, without PyTorch. The only importer of onnxruntime."""

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np

from carnelian.data.alphabet import load_alphabet
from carnelian.data.recording import SAMPLE_RATES
from carnelian.errors import CheckpointError
from carnelian.files import one_line
from carnelian.inference.emissions import Emissions
from carnelian.inference.precision import choose_precision
from carnelian.inference.processor import available_cores
from carnelian.models.time_stretch import TIME_STRETCH_RANGE, in_range

ONNX_FORMAT = "carnelian onnx 1"
#: releases that give wrong results for such graphs
WRONG_RUNTIMES = re.compile(r"1\.24\.1|1\.25\.\d+|1\.26\.0")
#: from this length on, the memory of a run is given back after it
LONG_SECONDS = 60.0
LONGEST_OUTPUT_STEP = 10.0  # seconds of audio that one output step may cover


class OnnxEngine:
    """An exported model: waveforms to log-probabilities on the CPU.

    Each recording is run by itself, so that no padding is computed and a result does not depend on the other recordings of a list:
    one recording on all threads, several recordings beside each other on one thread each.
    """

    criterion = None

    def __init__(self, model: str | Path | bytes, *, threads: int = 0):
        """model: an .onnx file that `carnelian export onnx` wrote, or its bytes. threads: by default one for each core.

        Raises CheckpointError for a file that is not such a model, and for releases of ONNX Runtime with known wrong results.
        """
        self.source, self.threads = model, threads or available_cores()
        self.name = "the model" if isinstance(model, bytes) else str(model)
        metadata = self.wide_session.get_modelmeta().custom_metadata_map
        if metadata.get("format") != ONNX_FORMAT:
            found = metadata.get("format") or "no format"
            raise CheckpointError(
                f'{self.name}: not an ONNX file of this package ({found}, expected "{ONNX_FORMAT}"). '
                'Write one with "carnelian export onnx"'
            )
        try:
            self.alphabet = load_alphabet(metadata["alphabet"])
            self.seconds_per_step, self.sample_rate = float(metadata["seconds_per_step"]), int(metadata["sample_rate"])
            self.time_stretches = tuple(json.loads(metadata["time_stretches"]))
            self.weights = metadata.get("weights", "")
            self.precision, self.recipe = metadata["precision"], json.loads(metadata["recipe"])
            self.symbols = len(self.alphabet) + 1
            self._check()
        except (KeyError, ValueError, TypeError) as error:
            reason = one_line(str(error), 120)
            raise CheckpointError(f"{self.name}: its metadata do not make sense ({reason}). Export it again") from None
        #: tells models apart
        self.identity = f"onnx {self.weights} {self.precision}"

    def _check(self) -> None:
        """Raises ValueError for values out of range, and for a graph of other inputs and outputs than the metadata say."""
        low, high = SAMPLE_RATES
        if not low <= self.sample_rate <= high:
            raise ValueError(f"sample_rate {self.sample_rate}, expected {low:,} to {high:,}")
        if not 1 / self.sample_rate <= self.seconds_per_step <= LONGEST_OUTPUT_STEP:
            raise ValueError(f"seconds_per_step {self.seconds_per_step:g}")
        if not all(isinstance(each, int | float) for each in self.time_stretches) or not in_range(self.time_stretches):
            raise ValueError(f"time_stretches {list(self.time_stretches)}, expected {TIME_STRETCH_RANGE}")
        if not isinstance(self.recipe, dict):
            raise ValueError("its recipe is no table")
        inputs = {each.name for each in self.wide_session.get_inputs()}
        outputs = {each.name: each.shape for each in self.wide_session.get_outputs()}
        if inputs != {"audio", "audio_lengths"}:  # the time stretch has a default, and is not among them
            raise ValueError(f"the graph's inputs are {', '.join(sorted(inputs))}")
        if not {"log_probs", "steps"} <= outputs.keys():
            raise ValueError(f"the graph's outputs are {', '.join(sorted(outputs))}")
        symbols = outputs["log_probs"][-1] if outputs["log_probs"] else None
        if isinstance(symbols, int) and symbols != self.symbols:
            raise ValueError(f"an alphabet of {self.symbols - 1} symbols, and {symbols} outputs")

    @cached_property
    def session(self):
        """The session for one recording on one thread; several threads may run it at once."""
        return self._session(1)

    @cached_property
    def wide_session(self):
        """The session for one recording on all threads."""
        return self._session(self.threads) if self.threads > 1 else self.session

    def _session(self, threads: int):
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
        # a batch known to be 1 has no padding: the session then removes all masks (see export/front_end.py)
        options.add_free_dimension_override_by_name("batch", 1)
        # without this, int8 activations are turned to uint8 where nothing branches, and those at a branch run in float32
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        # between two runs the threads must not wait in a busy loop, which takes the cores from everything else
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if not isinstance(self.source, bytes) and not Path(self.source).is_file():
            raise CheckpointError(f"{self.source}: no such model. Give the path of an .onnx file")
        source = self.source if isinstance(self.source, bytes) else str(self.source)
        try:
            return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a class of its own for each kind of fault
            reason = one_line(" ".join(str(error).split()), 140)
            raise CheckpointError(
                f"{self.name}: not an ONNX model that can be run ({reason}). Export it again"
            ) from None

    def emissions(self, audio: Sequence[np.ndarray], time_stretches: Sequence[float] = (1.0,)) -> list[list[Emissions]]:
        """Returns the model's output for each waveform (S,) at the model's sample rate, once for each time stretch."""
        return [
            [Emissions(each, self.seconds_per_step / factor) for each in self.log_probs(audio, factor)]
            for factor in time_stretches
        ]

    def log_probs(self, audio: Sequence[np.ndarray], time_stretch: float = 1.0) -> list[np.ndarray]:
        """Returns the log-probabilities (O, V) float32 of each waveform (S,)."""
        if len(audio) == 1 or self.threads == 1:
            return [self._run(self.wide_session, each, time_stretch) for each in audio]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(lambda each: self._run(self.session, each, time_stretch), audio))

    def outputs(self, audio: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
        """Returns other values of the graph for one waveform (S,), by their names."""
        return self.session.run(list(names), graph_inputs(audio))

    def _run(self, session, audio: np.ndarray, time_stretch: float) -> np.ndarray:
        if not len(audio):
            return np.empty((0, self.symbols), np.float32)
        inputs = graph_inputs(audio)
        if time_stretch != 1:
            inputs["time_stretch"] = np.array(time_stretch, np.float32)
        options = None
        if len(audio) > LONG_SECONDS * self.sample_rate:
            options = import_onnxruntime().RunOptions()
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        try:
            log_probs, steps = session.run(["log_probs", "steps"], inputs, options)
        except Exception as error:  # onnxruntime raises a class of its own for each kind of fault
            seconds, reason = len(audio) / self.sample_rate, one_line(str(error), 120)
            raise CheckpointError(
                f"{self.name}: failed on {seconds:.1f} s of audio ({reason}). Export it again"
            ) from None
        return log_probs[0, : steps[0]]


def load_onnx_engine(path: str | Path, *, precision: str = "fp32", threads: int = 0) -> OnnxEngine:
    """Returns the engine of an exported model; with precision "auto" the fastest of NAME.onnx and NAME.int8.onnx beside each other.

    Both must be exported from one checkpoint, or the one that was named is taken.
    """
    if precision == "bf16":
        raise CheckpointError(
            f"{path}: an exported model has its own precision. Leave out bf16, or give the checkpoint"
        )
    named = OnnxEngine(path, threads=threads)
    if precision != "auto":
        return named
    stem = str(path).removesuffix(".onnx").removesuffix(".int8")
    other = Path(f"{stem}.onnx" if named.precision == "int8" else f"{stem}.int8.onnx")
    if not other.is_file():
        return named
    pair = OnnxEngine(other, threads=threads)
    if not named.weights or pair.weights != named.weights or pair.precision == named.precision:
        return named
    encoder = named.recipe.get("encoder", {}).get("name", "")
    engines = {named.precision: lambda: named, pair.precision: lambda: pair}
    return choose_precision(f"onnx {encoder}, {named.threads} threads", engines)[1]


def graph_inputs(audio: np.ndarray) -> dict[str, np.ndarray]:
    """The graph's inputs for one waveform (S,)."""
    return {"audio": np.ascontiguousarray(audio, np.float32)[None], "audio_lengths": np.array([len(audio)])}


def import_onnxruntime():
    """The package onnxruntime; refuses releases that are known to give wrong results."""
    try:
        import onnxruntime
    except ImportError:
        raise CheckpointError(
            'Running an .onnx model needs the package "onnxruntime", which is not installed. Run: pip install onnxruntime'
        ) from None
    if WRONG_RUNTIMES.fullmatch(onnxruntime.__version__):
        raise CheckpointError(
            f"onnxruntime {onnxruntime.__version__}: this release gives wrong results. "
            'Run: pip install "onnxruntime>=1.27"'
        )
    return onnxruntime
