"""Our wav2vec front ends as checkpoints in fairseq's layout."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carnelian.checkpoint import Checkpoint
from carnelian.errors import CheckpointError
from carnelian.files import written
from carnelian.formats.fairseq import fairseq_names
from carnelian.models.encoders.wav2vec import wav2vec
from carnelian.recipe import choose


def fairseq_weights(weights: Mapping[str, Tensor], encoder: int, aggregator: int) -> dict[str, Tensor]:
    """Returns a front end's weights under fairseq's names, with the head of pre-training where there is one."""
    named = {}
    for ours, theirs in fairseq_names(encoder, aggregator):
        tensor = weights[f"features.{ours}"]
        named[theirs] = tensor.flatten() if ".norm." in ours else tensor
    if "contrast.weight" in weights:
        named["wav2vec_predictions.project_to_steps.weight"] = weights["contrast.weight"].permute(2, 1, 0).unsqueeze(2)
        named["wav2vec_predictions.project_to_steps.bias"] = weights["contrast.bias"]
    return {name: tensor.float().contiguous() for name, tensor in named.items()}


def write_fairseq(path: str | Path, checkpoint: Checkpoint) -> None:
    """Writes the wav2vec front end of a checkpoint as fairseq's `.pt`: `args` and `model`. Raises CheckpointError for another."""
    table: dict[str, Any] = dict(checkpoint.recipe.get("features", {}))
    if table.get("name") != "wav2vec":
        raise CheckpointError(
            f"{path}: the front end is {table.get('name', 'log_mel')!r}; fairseq's layout is written for wav2vec"
        )
    with torch.device("meta"):
        front_end = choose({"wav2vec": wav2vec}, table, where="features")
    sizes = [(layer.kernel, layer.stride) for layer in front_end.encoder]
    contrast = checkpoint.recipe.get("contrast", {})
    settings = {
        "arch": "wav2vec",
        "conv_feature_layers": str([(front_end.channels, kernel, stride) for kernel, stride in sizes]),
        "conv_aggregator_layers": str([(front_end.channels, kernel, 1) for kernel in front_end.context]),
        "skip_connections_agg": front_end.skip,
        "skip_connections_feat": False,
        "residual_scale": 0.5,
        "log_compression": True,
        "activation": "relu",
        "aggregator": "cnn",
        "agg_zero_pad": False,
        "no_conv_bias": False,
        "non_affine_group_norm": False,
        "offset": "auto",
        "prediction_steps": contrast.get("steps", 12),
        "num_negatives": contrast.get("negatives", 10),
        "cross_sample_negatives": 0,
        "sample_distance": None,
        "balanced_classes": False,
        "infonce": False,
        "dropout": 0.0,
        "dropout_features": 0.0,
        "dropout_agg": 0.0,
        "project_features": "none",
        "vq_type": "none",
    }
    weights = fairseq_weights(checkpoint.weights, len(sizes), len(front_end.context))
    content = {"args": Namespace(**settings), "model": weights, "optimizer_history": [], "extra_state": {}}
    with written(path, "wb") as file:
        torch.save(content, file)
