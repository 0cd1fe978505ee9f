"""NeMo's ConformerEncoder: its settings and its weights as ours, and back."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carnelian.checkpoint import check_weights
from carnelian.errors import CheckpointError, RecipeError
from carnelian.formats.nemo.configuration import Section
from carnelian.models.encoders.conformer import conformer
from carnelian.models.encoders.subsampling import SUBSAMPLINGS
from carnelian.recipe import check_keys

#: our setting -> NeMo's key and its default there, where both mean the same
SETTINGS: dict[str, tuple[str, Any]] = {
    "channels": ("d_model", 0),
    "layers": ("n_layers", 0),
    "heads": ("n_heads", 4),
    "expansion": ("ff_expansion_factor", 4),
    "kernel": ("conv_kernel_size", 31),
    "subsampling": ("subsampling", "striding"),
    "stride": ("subsampling_factor", 4),
    "causal_subsampling": ("causal_downsampling", False),
    "scale": ("xscaling", True),
    "bias": ("use_bias", True),
    "dropout": ("dropout", 0.1),
    "dropout_attention": ("dropout_att", 0.0),
}
NEMO_STYLES = {"regular": "regular", "chunked": "chunked_limited"}  # ours -> NeMo's
NEMO_NORMS = {"batch": "batch_norm", "layer": "layer_norm"}
POINTWISE = ("pointwise_conv1.weight", "pointwise_conv2.weight")
BIASES = ("pos_bias_u", "pos_bias_v")


def choice(section: Section, key: str, default: str, known: Mapping[str, str]) -> str:
    """Our name for one of NeMo's choices; CheckpointError for one that is not followed here."""
    found = section.get(key, str, default)
    for ours, theirs in known.items():
        if theirs == found:
            return ours
    raise CheckpointError(
        f'{section.where}: {section.name}.{key} is "{found}", which is unknown here. Read are {", ".join(known.values())}'
    )


def contexts(section: Section) -> list[list[int]]:
    """The pairs of steps before and after each that attention sees, the one of inference first."""
    found = section.get("att_context_size", list, [-1, -1])
    pairs = [found] if all(isinstance(item, int) for item in found) else found
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(item, int) for item in pair):
            raise CheckpointError(
                f"{section.where}: {section.name}.att_context_size is {found!r}, expected pairs of numbers"
            )
    return [[int(left), int(right)] for left, right in pairs]


def conformer_settings(section: Section, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The recipe's [encoder] from NeMo's table, which is compared with the weights first, so that its sizes are bounded by them.

    Raises CheckpointError for what the Conformer here cannot follow.
    """
    section.expect(global_tokens=0, **({"reduction_factor": 1} if section.table.get("reduction") else {}))
    choice(section, "subsampling", "striding", {kind: kind for kind in SUBSAMPLINGS})
    settings = {ours: section.get(theirs, type(default), default) for ours, (theirs, default) in SETTINGS.items()}
    attention = choice(
        section, "self_attention_model", "rel_pos", {"rel_pos": "rel_pos", "local": "rel_pos_local_attn"}
    )
    style = choice(section, "att_context_style", "regular", NEMO_STYLES)
    settings["context"] = contexts(section)
    settings["context_style"] = "local" if attention == "local" else style
    settings["norm"] = choice(section, "conv_norm_type", "batch_norm", NEMO_NORMS)
    settings["subsampling_channels"] = max(0, section.get("subsampling_conv_channels", int, -1))
    settings["shared_biases"] = attention == "rel_pos" and not section.get("untie_biases", bool, True)
    kernel, outputs = settings["kernel"], section.get("feat_out", int, -1)
    causal = section.table.get("conv_context_size") == "causal"
    settings["convolution_context"] = [kernel - 1, 0] if causal else section.get("conv_context_size", list, [])
    settings["outputs"] = outputs if 0 < outputs != settings["channels"] else 0
    check_sizes(section, settings, weights)
    defaults = {key: parameter.default for key, parameter in inspect.signature(conformer).parameters.items()}
    return {"name": "conformer", **{key: value for key, value in settings.items() if value != defaults[key]}}


def check_sizes(section: Section, settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError where the sizes of the configuration are not those of the weights."""
    channels = settings["channels"]
    layer, width = "encoder.layers.0", settings["subsampling_channels"] or channels
    expected = {
        "encoder.pre_encode.conv.0.weight": (width, 1, 3, 3),
        f"{layer}.feed_forward1.linear1.weight": (channels * settings["expansion"], channels),
        f"{layer}.conv.depthwise_conv.weight": (channels, 1, settings["kernel"]),
    }
    if settings["outputs"]:
        expected["encoder.out_proj.weight"] = (settings["outputs"], channels)
    for name, shape in expected.items():
        found = tuple(weights[name].shape) if name in weights else None
        if found != shape:
            what = f"of shape {found}" if found else "missing"
            raise CheckpointError(
                f"{section.where}: {name} is {what}, by the configuration it is {shape}. Do weights and configuration belong "
                "together?"
            )
    layers = len({name.split(".")[2] for name in weights if name.startswith("encoder.layers.")})
    if settings["layers"] != layers:
        raise CheckpointError(
            f"{section.where}: weights of {layers} layers, by {section.name}.n_layers {settings['layers']}. "
            "Do weights and configuration belong together?"
        )


def conformer_weights(
    where: str | Path, weights: Mapping[str, Tensor], table: Mapping[str, Any], features: int
) -> dict[str, Tensor]:
    """The weights of a recipe's [encoder] under our names and in our shapes; CheckpointError where they are of another model."""
    ours = {
        name.removeprefix("encoder."): tensor.squeeze(-1) if name.endswith(POINTWISE) else tensor
        for name, tensor in weights.items()
        if not name.startswith("encoder.pos_enc.")
    }
    if table.get("shared_biases"):  # NeMo lists the shared ones with every layer
        first = {bias: ours[name] for bias in BIASES if (name := f"layers.0.self_attn.{bias}") in ours}
        ours = {name: tensor for name, tensor in ours.items() if not name.endswith(BIASES)} | first
    try:
        settings = {key: value for key, value in table.items() if key != "name"}
        check_keys(conformer, settings, where="encoder")
        with torch.device("meta"):
            encoder = conformer(features, **settings)
    except RecipeError as error:
        raise CheckpointError(f"{where}: {error}") from None
    check_weights(encoder, ours, where=where)
    return {f"encoder.{name}": tensor for name, tensor in ours.items()}


def conformer_table(settings: Mapping[str, Any], features: int) -> dict[str, Any]:
    """NeMo's table of an encoder from the keys of a recipe's [encoder]."""
    signature = inspect.signature(conformer).parameters
    settings = {key: parameter.default for key, parameter in signature.items()} | dict(settings)
    context, around = settings["context"], settings["convolution_context"]
    local = settings["context_style"] == "local"
    return {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "feat_in": features,
        "feat_out": settings["outputs"] or -1,
        **{theirs: settings[ours] for ours, (theirs, _) in SETTINGS.items()},
        "subsampling_conv_channels": settings["subsampling_channels"] or -1,
        "self_attention_model": "rel_pos_local_attn" if local else "rel_pos",
        "att_context_size": context[0] if len(context) == 1 else context,
        "att_context_style": NEMO_STYLES.get(settings["context_style"], "regular"),
        "untie_biases": not settings["shared_biases"],
        "conv_norm_type": NEMO_NORMS[settings["norm"]],
        "conv_context_size": list(around) or None,
        "pos_emb_max_len": 5000,
        "dropout_pre_encoder": settings["dropout"],
        "dropout_emb": 0.0,
    }


def nemo_weights(encoder: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Our encoder's weights under NeMo's names and in its shapes."""
    theirs = {
        f"encoder.{name}": tensor.unsqueeze(-1) if name.endswith(POINTWISE) else tensor
        for name, tensor in encoder.items()
        if name not in BIASES
    }
    for bias in BIASES:
        if bias in encoder:
            theirs |= {f"encoder.layers.{layer}.self_attn.{bias}": encoder[bias] for layer in range(layers)}
    return theirs
