"""The ONNX graph of a whole acoustic model: waveforms in, log-probabilities out."""

import hashlib
import json
from collections.abc import Callable

from carnelian.checkpoint import Checkpoint
from carnelian.errors import CarnelianError
from carnelian.inference.export.conformer import conformer_encoder
from carnelian.inference.export.encoders import convolution_encoder
from carnelian.inference.export.front_end import STRETCH_INPUT, Rows, front_end
from carnelian.inference.export.graph import FLOAT, INT64, Graph, OnnxModel
from carnelian.inference.export.recurrent import recurrent_encoder
from carnelian.inference.onnx_engine import ONNX_FORMAT
from carnelian.models.acoustic import AcousticModel
from carnelian.models.encoders.conformer import Conformer
from carnelian.models.encoders.deepspeech2 import DeepSpeech2
from carnelian.models.layers import ConvolutionalEncoder
from carnelian.models.losses.ctc import CTC

#: kinds of encoders, and the function that adds each to a graph
EXPORTED_ENCODERS: dict[type, Callable[..., tuple[str, str]]] = {
    ConvolutionalEncoder: convolution_encoder,
    Conformer: conformer_encoder,
    DeepSpeech2: recurrent_encoder,
}


def onnx_model(model: AcousticModel, checkpoint: Checkpoint) -> OnnxModel:
    """The graph of a model in evaluation, float32; see `docs/inference.md` for inputs, outputs and metadata."""
    if not isinstance(model.criterion, CTC):
        raise CarnelianError("a model trained by ASG cannot be exported to ONNX. Export a model trained by CTC")
    graph = Graph("carnelian")
    add_encoder = next((add for kind, add in EXPORTED_ENCODERS.items() if isinstance(model.encoder, kind)), None)
    if add_encoder is None:
        known = ", ".join(kind.__name__ for kind in EXPORTED_ENCODERS)
        raise CarnelianError(f"{type(model.encoder).__name__}: this encoder cannot be exported to ONNX. Known: {known}")
    rows = Rows(graph, "audio_lengths", mask=getattr(model.encoder, "mask", True))
    graph.default(STRETCH_INPUT, 1.0)
    graph.scope = ["front_end"]
    features, frames = front_end(graph, rows, model.features, "audio", "audio_lengths")
    graph.scope = ["encoder"]
    encoded, steps = add_encoder(graph, rows, model.encoder, features, frames)
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
        "weights": digest(model),
        "recipe": json.dumps(checkpoint.recipe, ensure_ascii=False),
        "step": str(checkpoint.step),
    }


def digest(model: AcousticModel) -> str:
    """A short name of a model's weights, by which two files exported from them are known to be of one model."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return found.hexdigest()[:16]
