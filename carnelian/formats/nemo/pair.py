"""Pairs of NeMo 0.x (JasperEncoder-STEP-N.pt and JasperDecoderForCTC-STEP-N.pt), and weights without a configuration."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.errors import CheckpointError
from carnelian.formats.convolutional import block_specs, model_weights, standard_names
from carnelian.formats.nemo.checkpoint import block_tables, foreign_model
from carnelian.formats.safe_loading import ForeignModel, check_tensors, read_file, read_pickle


def other_half(path: Path, own: str, other: str) -> Path:
    """The other half of a pair of NeMo 0.x: the file of the same step, with another module's name."""
    step = re.search(r"STEP-\d+", path.name)
    found = sorted(path.parent.glob(f"{other}*{step[0] if step else ''}.pt"))
    if len(found) != 1:
        names = f"{other}-{step[0]}.pt" if step else f"{other}*.pt"
        raise CheckpointError(
            f"{path}: the {own} alone is no recognizer; it needs its {'encoder' if own == 'decoder' else 'decoder'}. "
            f"Expected {names} beside it, found {len(found)}"
        )
    return found[0]


def read_pair(path: Path, content: Mapping[str, Any], configuration: dict[str, Any] | None) -> ForeignModel:
    """The model of a NeMo 0.x pair, from either of its files; without a configuration, what shapes do not tell is assumed."""
    own, other = "encoder", "JasperDecoderForCTC"
    if any("decoder_layers" in name for name in content):
        own, other = "decoder", "JasperEncoder"
    twin = other_half(path, own, other)
    weights = {**check_tensors(str(path), content), **check_tensors(str(twin), read_pickle(str(twin), read_file(twin)))}
    if configuration is not None:
        return foreign_model(path, configuration, weights, {})
    return without_configuration(path, weights, log_guard=2.0**-24)


def without_configuration(path: Path, weights: Mapping[str, Tensor], *, log_guard: float) -> ForeignModel:
    """A model from its weights alone: NVIDIA's usual front end of that time, English letters, the papers' stride and dilation."""
    named = standard_names(path, weights)
    features, specs = block_specs(path, named)
    alphabet = Alphabet(ENGLISH)
    recipe = {
        "features": {
            "name": "log_mel",
            "features": features,
            "frame_count": "ceil",
            "edge": "reflect",
            "log_guard": log_guard,
        },
        "encoder": {"name": "convolutional", "blocks": block_tables(specs)},
    }
    remarks = (
        "the file has no configuration. Assumed as in the papers: stride 2 in the first block, dilation 2 in the last with a kernel, "
        f'relu, no dropout; 16 kHz, {features} mel bands, the alphabet "{ENGLISH}". Give another with --config FILE.yaml',
    )
    return ForeignModel(recipe, alphabet, model_weights(path, named, features, specs, len(alphabet)), remarks)
