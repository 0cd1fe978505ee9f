"""Checkpoints of NVIDIA's DeepLearningExamples, PyTorch/SpeechRecognition/{Jasper,QuartzNet}: weights without a configuration.

Their convolutions are padded by (kernel // 2) * dilation, which for odd kernels is our padding; log-mel energies get 1e-20
before the logarithm, and frames are counted up.
"""

from pathlib import Path
from typing import Any, Literal

from carnelian.errors import CheckpointError
from carnelian.formats.nemo import without_configuration
from carnelian.formats.reading import ForeignModel, check_tensors

LOG_GUARD = 1e-20


def read_deep_learning_examples(
    path: Path, content: dict[str, Any], weights: Literal["average", "last"]
) -> ForeignModel:
    """The model of a checkpoint; its running average of weights, with which they evaluate, or the last step's."""
    key = {"average": "ema_state_dict", "last": "state_dict"}[weights]
    if weights == "average" and not content.get(key):
        key = "state_dict"
    if not isinstance(content.get(key), dict):
        raise CheckpointError(f"{path}: has no {key}. Is it a checkpoint of Jasper or QuartzNet?")
    model = without_configuration(path, check_tensors(str(path), content[key]), log_guard=LOG_GUARD)
    kernels = {row["kernel"] for row in model.recipe["encoder"]["rows"]}
    if any(kernel % 2 == 0 for kernel in kernels):
        raise CheckpointError(
            f"{path}: has even kernels ({sorted(kernels)}); only odd ones are padded alike there and here"
        )
    return ForeignModel(
        model.recipe, model.alphabet, model.weights, (f"the weights of {key} were taken", *model.remarks)
    )
