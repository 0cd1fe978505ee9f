"""`carnelian export triton`: a model repository for NVIDIA's Triton Inference Server."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

from carnelian.checkpoint import load_model
from carnelian.errors import CarnelianError
from carnelian.files import written
from carnelian.formats.catalog import find_checkpoint
from carnelian.inference.onnx_engine import OnnxEngine

TRITON_TYPES = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64"}
CONFIG = """\
# A waveform at {sample_rate} Hz in, natural log-probabilities of {symbols} symbols out, the blank last; a step covers {step:g} s.
# Recordings of one length share a batch: pad with zeros to a common length and give the true one as audio_lengths.
name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: {batch_size}
input [
{inputs}
]
output [
{outputs}
]
dynamic_batching {{
  preferred_batch_size: [ {preferred} ]
  max_queue_delay_microseconds: {delay}
}}
parameters {{ key: "alphabet" value {{ string_value: {alphabet} }} }}
parameters {{ key: "sample_rate" value {{ string_value: "{sample_rate}" }} }}
parameters {{ key: "seconds_per_step" value {{ string_value: "{step!r}" }} }}
"""


def triton(
    model: Annotated[Path, "an exported .onnx model, a checkpoint, or a run's folder for its last one"],
    out: Annotated[Path, "the model repository to write, or to add the model to"],
    *,
    name: Annotated[str, "the model's name there; by default that of the file"] = "",
    batch_size: Annotated[int, "recordings in a batch, at most"] = 8,
    delay: Annotated[int, "microseconds that a recording waits for others"] = 5000,
    overwrite: Annotated[bool, "replace an existing model of that name"] = False,
) -> None:
    """Write a model as a Triton model repository: features and network as one ONNX model, with dynamic batching.

    Example: carnelian export triton an4.onnx model-repository
    """
    name = name or model.stem
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise CarnelianError(
            f'"{name}": not a name for a model in Triton. Give --name with letters, digits, "_", "." and "-"'
        )
    if batch_size < 1 or delay < 0:
        raise CarnelianError(f"--batch-size {batch_size}, --delay {delay}: expected 1 or more, and 0 or more")
    if (out / name / "config.pbtxt").exists() and not overwrite:
        raise CarnelianError(f"{out / name}: exists already. Give another --name, or --overwrite")
    content = onnx_content(model)
    config = triton_config(OnnxEngine(content, threads=1), name, batch_size, delay)
    with written(out / name / "1" / "model.onnx", "wb") as file:
        file.write(content)
    with written(out / name / "config.pbtxt") as file:
        file.write(config)
    print(out / name)


def onnx_content(model: Path) -> bytes:
    """Returns the bytes of an .onnx model, or of what a checkpoint is exported to."""
    if model.suffix == ".onnx":
        OnnxEngine(model, threads=1)  # refuses what is none of ours
        return model.read_bytes()
    from carnelian.inference.export.model import onnx_model

    return onnx_model(*load_model(find_checkpoint(model))).SerializeToString()


def triton_config(engine: OnnxEngine, name: str, batch_size: int, delay: int) -> str:
    """Returns the text of config.pbtxt for a model."""
    preferred = sorted({max(1, batch_size // 2), batch_size})
    return CONFIG.format(
        name=name,
        batch_size=batch_size,
        inputs=",\n".join(map(triton_tensor, engine.session.get_inputs())),
        outputs=",\n".join(map(triton_tensor, engine.session.get_outputs())),
        preferred=", ".join(map(str, preferred)),
        delay=delay,
        alphabet=json.dumps(engine.session.get_modelmeta().custom_metadata_map["alphabet"]),
        symbols=engine.symbols,
        sample_rate=engine.sample_rate,
        step=engine.seconds_per_step,
    )


def triton_tensor(tensor: Any) -> str:
    """Returns an input or output as Triton describes it: without the batch; a number for each recording as one dimension less."""
    dims = [size if isinstance(size, int) else -1 for size in tensor.shape[1:]]
    shape = ", ".join(map(str, dims)) or "1"
    reshape = "" if dims else " reshape { shape: [ ] }"
    return f'  {{ name: "{tensor.name}" data_type: {TRITON_TYPES[tensor.type]} dims: [ {shape} ]{reshape} }}'
