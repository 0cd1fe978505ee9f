"""Checkpoints of NVIDIA's DeepLearningExamples, PyTorch/SpeechRecognition/{Jasper,QuartzNet}.

Their convolutions are padded by (kernel // 2) * dilation, which for odd kernels is our padding; log-mel energies get 1e-20
before the logarithm, and frames are counted up.
"""

from pathlib import Path
from typing import Any, Literal

from carnelian.errors import CheckpointError
from carnelian.formats.nemo.checkpoint import foreign_model
from carnelian.formats.nemo.pair import without_configuration
from carnelian.formats.safe_loading import ForeignModel, check_tensors

LOG_GUARD = 1e-20


def as_nemo(configuration: dict[str, Any]) -> dict[str, Any]:
    """A configuration of theirs (configs/*.yaml) in NeMo's words."""
    network = configuration.get("jasper") or configuration.get("quartznet")
    encoder = network.get("encoder") if isinstance(network, dict) else None
    inputs = configuration.get("input_val")
    features = inputs.get("filterbank_features") if isinstance(inputs, dict) else None
    blocks = encoder.get("blocks") if isinstance(encoder, dict) else None
    if not (isinstance(encoder, dict) and isinstance(features, dict) and isinstance(blocks, list)):
        return configuration
    return {
        "nemo_version": "0.11",
        "labels": configuration.get("labels"),
        "decoder": {},
        "encoder": {
            "feat_in": encoder.get("in_feats"),
            "activation": encoder.get("activation"),
            "conv_mask": encoder.get("use_conv_masks"),
            "jasper": [{**b, "kernel": b.get("kernel_size")} if isinstance(b, dict) else b for b in blocks],
        },
        "preprocessor": {
            **features,
            "features": features.get("n_filt"),
            "pad_to": features.get("pad_align"),
            "log_zero_guard_value": LOG_GUARD,
        },
    }


def read_deep_learning_examples(
    path: Path, content: dict[str, Any], weights: Literal["average", "last"], configuration: dict[str, Any] | None
) -> ForeignModel:
    """The model of a checkpoint; its running average of weights, with which they evaluate, or the last step's.

    Without a configuration, what the shapes do not tell is assumed, and the remarks say so.
    """
    key = {"average": "ema_state_dict", "last": "state_dict"}[weights]
    if weights == "average" and not content.get(key):
        key = "state_dict"
    if not isinstance(content.get(key), dict):
        raise CheckpointError(f"{path}: has no {key}. Is it a checkpoint of Jasper or QuartzNet?")
    if configuration is not None:
        model = foreign_model(path, as_nemo(configuration), content[key], {})
    else:
        model = without_configuration(path, check_tensors(str(path), content[key]), log_guard=LOG_GUARD)
    kernels = {row["kernel"] for row in model.recipe["encoder"]["blocks"]}
    if any(kernel % 2 == 0 for kernel in kernels):
        raise CheckpointError(
            f"{path}: has even kernels ({sorted(kernels)}); only odd ones are padded alike there and here"
        )
    return ForeignModel(
        model.recipe, model.alphabet, model.weights, (f"the weights of {key} were taken", *model.remarks)
    )
