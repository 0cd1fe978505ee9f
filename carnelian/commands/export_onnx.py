"""`carnelian export onnx`: a checkpoint for fast recognition without PyTorch, with the proof that it does the same."""

from pathlib import Path
from typing import Annotated

import numpy as np

from carnelian import console
from carnelian.checkpoint import load_model
from carnelian.data.audio import load_audio
from carnelian.data.utterance import Manifest, Utterance
from carnelian.errors import CarnelianError
from carnelian.files import written
from carnelian.formats.catalog import find_checkpoint

EXPORT_PRECISIONS = ("fp32", "int8")
LARGEST_MEGABYTES = 2000  # the file format's limit, 2^31 bytes, less what is not weights


def onnx(
    checkpoint: Annotated[Path, "a checkpoint, a run's folder for its last one, or a pretrained model's name"],
    out: Annotated[Path, "the .onnx model to write"],
    *,
    precision: Annotated[str, "fp32, or int8 for convolutions in 8 bits"] = "fp32",
    calibrate: Annotated[
        Path | None, "with int8: a manifest of recordings with their text, such as the validation's"
    ] = None,
    overwrite: Annotated[bool, "replace an existing model"] = False,
) -> None:
    """Write a checkpoint as an ONNX model, waveforms in and log-probabilities out, and print how it compares with the original.

    Example: carnelian export onnx runs/an4 an4.onnx
    """
    from carnelian.inference.export.model import onnx_model

    if precision not in EXPORT_PRECISIONS:
        raise CarnelianError(f'--precision "{precision}": no such precision. Known: {", ".join(EXPORT_PRECISIONS)}')
    if precision == "int8" and calibrate is None:
        raise CarnelianError(
            "--precision int8 needs recordings with their text, to take the ranges of activations from and to count what it costs. "
            "Give --calibrate MANIFEST"
        )
    if out.exists() and not overwrite:
        raise CarnelianError(f"{out}: exists already. Give another name, or --overwrite")
    model, found = load_model(find_checkpoint(checkpoint))
    megabytes = 4e-6 * sum(weight.numel() for weight in model.parameters())
    if megabytes > LARGEST_MEGABYTES:
        raise CarnelianError(
            f"{checkpoint}: {megabytes:,.0f} MB of weights, and an ONNX file holds {LARGEST_MEGABYTES:,}. Run the checkpoint itself"
        )
    exported = onnx_model(model, found)
    utterances = list(Manifest(calibrate)) if calibrate else []
    proof = [float_proof(model, exported, utterances)]
    if precision == "int8":
        from carnelian.inference.export.calibrate import quantize

        quantized = quantize(exported, utterances, model.features.sample_rate)
        exported = quantized.model
        proof = int8_proof(proof[0], quantized)
        console.note(f"{quantized.scheme}; {len(quantized.in_float)} convolutions went back to float32")
        low, high = 100 * quantized.interval.low, 100 * quantized.interval.high
        console.note(
            f"WER of int8 less that of fp32: {100 * quantized.loss:.2f} points (95 % interval {low:.2f} to {high:.2f})"
        )
    with written(out, "wb") as file:
        file.write(exported.SerializeToString())
    columns = ("model", "largest difference of log-probs", "WER %", "real-time factor, one thread")
    console.table(out.name, columns, proof)
    print(out)


def float_proof(model, exported, utterances: list[Utterance]) -> tuple[str, str, str, str]:
    """The row of the exported model in float32, compared with the checkpoint's on some recordings, or on noise."""
    from carnelian.inference.onnx_engine import OnnxEngine
    from carnelian.inference.torch_engine import TorchEngine

    engine = OnnxEngine(exported.SerializeToString(), threads=1)
    rate, noise = engine.sample_rate, np.random.default_rng(0)
    audio = [load_audio(utterance, rate) for utterance in utterances[:: max(1, len(utterances) // 4)][:4]]
    audio = audio or [0.1 * noise.standard_normal(round(rate * seconds), np.float32) for seconds in (1.1, 2.7, 7.0)]
    [expected] = TorchEngine(model, engine.alphabet).emissions(audio, [1.0])
    found = engine.log_probs(audio)
    apart = max(float(np.abs(a.log_probs - b).max(initial=0)) for a, b in zip(expected, found))
    return "fp32", f"{apart:.1e} (from the checkpoint)", "", ""


def int8_proof(first: tuple[str, str, str, str], quantized) -> list[tuple[str, str, str, str]]:
    """The rows of both precisions, on the calibration manifest."""
    apart = max(
        float(np.abs(a - b).max(initial=0)) for a, b in zip(quantized.float32.log_probs, quantized.int8.log_probs)
    )
    rows = []
    for name, change, trial in (
        ("fp32", first[1], quantized.float32),
        ("int8", f"{apart:.1e} (from fp32)", quantized.int8),
    ):
        factor = trial.seconds / quantized.audio_seconds
        rows.append((name, change, f"{100 * trial.total.rate:.2f}", f"{factor:.5f}"))
    return rows
