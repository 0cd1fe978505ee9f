"""The ONNX graph of a whole acoustic model: waveforms in, log-probabilities out."""

import json
from pathlib import Path

from carnelian.checkpoint import Checkpoint
from carnelian.errors import CarnelianError
from carnelian.files import written
from carnelian.inference.export.conformer import conformer_encoder
from carnelian.inference.export.encoders import convolution_encoder
from carnelian.inference.export.front_end import STRETCH_INPUT, Rows, front_end
from carnelian.inference.export.graph import FLOAT, INT64, Graph, OnnxModel
from carnelian.inference.onnx_engine import ONNX_FORMAT
from carnelian.models.acoustic import AcousticModel
from carnelian.models.encoders.conformer import Conformer
from carnelian.models.layers import ConvolutionalEncoder
from carnelian.models.losses.ctc import CTC


def onnx_model(model: AcousticModel, checkpoint: Checkpoint) -> OnnxModel:
    """The graph of a model in evaluation, float32; see `docs/inference.md` for inputs, outputs and metadata."""
    if not isinstance(model.criterion, CTC):
        raise CarnelianError("a model trained by ASG cannot be exported to ONNX. Export a model trained by CTC")
    graph = Graph("carnelian")
    if not isinstance(model.encoder, ConvolutionalEncoder | Conformer):
        raise CarnelianError(f"{type(model.encoder).__name__}: this encoder cannot be exported to ONNX")
    rows = Rows(graph, "audio_lengths", mask=isinstance(model.encoder, Conformer) or model.encoder.mask)
    graph.default(STRETCH_INPUT, 1.0)
    graph.scope = ["front_end"]
    features, frames = front_end(graph, rows, model.features, "audio", "audio_lengths")
    graph.scope = ["encoder"]
    if isinstance(model.encoder, Conformer):
        encoded, steps = conformer_encoder(graph, rows, model.encoder, features, frames)
    else:
        encoded, steps = convolution_encoder(graph, rows, model.encoder, features, frames)
    graph.scope = ["head"]
    weight = graph.weight("weight", model.head.weight.detach().numpy()[:, :, None, None])
    scores = graph.add(
        "Conv", encoded, weight, graph.weight("bias", model.head.bias.detach().numpy()), kernel_shape=[1, 1]
    )
    scores = graph.add("Transpose", graph.add("Squeeze", scores, graph.ints(2)), perm=[0, 2, 1])
    graph.scope = []
    graph.add("LogSoftmax", scores, name="log_probs", axis=-1)
    graph.add("Identity", steps, name="steps")
    symbols = model.head.out_features
    return graph.model(
        [("audio", FLOAT, ["batch", "samples"]), ("audio_lengths", INT64, ["batch"]), (STRETCH_INPUT, FLOAT, [])],
        [("log_probs", FLOAT, ["batch", "steps", symbols]), ("steps", INT64, ["batch"])],
        metadata(model, checkpoint),
    )


def metadata(model: AcousticModel, checkpoint: Checkpoint) -> dict[str, str]:
    """What a recognizer must know besides the graph, as strings."""
    return {
        "format": ONNX_FORMAT,
        "alphabet": checkpoint.alphabet.saved(),
        "seconds_per_step": repr(model.seconds_per_step),
        "sample_rate": str(model.features.sample_rate),
        "time_stretches": json.dumps(model.time_stretches),
        "normalize": checkpoint.recipe.get("features", {}).get("normalize", "per_feature"),
        "precision": "fp32",
        "recipe": json.dumps(checkpoint.recipe, ensure_ascii=False),
        "step": str(checkpoint.step),
    }


def write_onnx(path: str | Path, model: OnnxModel) -> None:
    """Writes a model, all or nothing."""
    with written(path, "wb") as file:
        file.write(model.SerializeToString())
