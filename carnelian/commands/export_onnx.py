"""`carnelian export onnx`: a checkpoint for fast recognition without PyTorch, with the proof that it does the same."""

from pathlib import Path
from typing import Annotated

from carnelian import console
from carnelian.checkpoint import load_model
from carnelian.data.utterance import Manifest
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
        Path | None, "a manifest of recordings with their text, such as the validation's; int8 needs it"
    ] = None,
    overwrite: Annotated[bool, "replace an existing model"] = False,
) -> None:
    """Write a checkpoint as an ONNX model, waveforms in and log-probabilities out, and print how it compares with the original.

    Example: carnelian export onnx runs/an4 an4.onnx
    """
    from carnelian.inference.export.model import onnx_model
    from carnelian.inference.export.proof import float_proof, int8_proof, windows_proof

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
    proof = float_proof(model, exported, utterances)
    if precision == "int8":
        from carnelian.inference.export.calibrate import quantize

        quantized = quantize(exported, utterances, model.features.sample_rate)
        exported = quantized.model
        proof.append(int8_proof(quantized))
        console.note(f"{quantized.scheme}; {len(quantized.in_float)} convolutions went back to float32")
        low, high = 100 * quantized.interval.low, 100 * quantized.interval.high
        console.note(
            f"WER of int8 less that of fp32: {100 * quantized.loss:.2f} points (95 % interval {low:.2f} to {high:.2f})"
        )
    console.note(windows_proof(exported))
    with written(out, "wb") as file:
        file.write(exported.SerializeToString())
    columns = ("model", "largest difference of log-probs", "WER %", "real-time factor, one thread")
    console.table(out.name, columns, proof)
    print(out)
