"""wav2vec 2.0 and HuBERT with a CTC head, as Hugging Face's folders and fairseq's checkpoints name their weights."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carnelian.errors import CheckpointError
from carnelian.formats.nemo.configuration import Section
from carnelian.models.encoders.wav2vec2 import wav2vec2

#: our names of a layer's parts, with Hugging Face's and fairseq's
LAYER_PARTS = {
    "query": ("attention.q_proj", "self_attn.q_proj"),
    "key": ("attention.k_proj", "self_attn.k_proj"),
    "value": ("attention.v_proj", "self_attn.v_proj"),
    "out": ("attention.out_proj", "self_attn.out_proj"),
    "attention_norm": ("layer_norm", "self_attn_layer_norm"),
    "expand": ("feed_forward.intermediate_dense", "fc1"),
    "contract": ("feed_forward.output_dense", "fc2"),
    "feedforward_norm": ("final_layer_norm", "final_layer_norm"),
}
OTHER_PARTS = {
    "feature_norm": ("feature_projection.layer_norm", "layer_norm"),
    "projection": ("feature_projection.projection", "post_extract_proj"),
    "norm": ("encoder.layer_norm", "encoder.layer_norm"),
}
#: weights of pre-training that a recognizer does not use
PRE_TRAINING_PARTS = re.compile(
    "quantizer|project_q|project_hid|final_proj|target_glu|label_embs_concat|masked_spec_embed|mask_emb"
)


def wav2vec2_table(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Returns the recipe's [encoder] for a Hugging Face configuration; CheckpointError for settings that are not followed here."""
    section = Section(folder, "config.json", config)
    section.expect(
        hidden_act="gelu",
        feat_extract_activation="gelu",
        add_adapter=False,
        conv_pos_batch_norm=False,
        feat_proj_layer_norm=True,
        layer_norm_eps=1e-5,
    )
    if config.get("adapter_attn_dim"):
        raise CheckpointError(
            f"{folder}: has an adapter for each of several languages (MMS). Give a model without adapters"
        )
    widths = config.get("conv_dim", [512] * 7)
    if len(set(widths)) > 1:
        raise CheckpointError(f"{folder}: conv_dim is {widths}; one width for all convolutions is supported")
    return {
        "name": "wav2vec2",
        "channels": section.get("hidden_size", int, 768),
        "layers": section.get("num_hidden_layers", int, 12),
        "heads": section.get("num_attention_heads", int, 12),
        "feedforward": section.get("intermediate_size", int, 3072),
        "width": widths[0],
        "kernels": config.get("conv_kernel", [10, 3, 3, 3, 3, 2, 2]),
        "strides": config.get("conv_stride", [5, 2, 2, 2, 2, 2, 2]),
        "feature_norm": section.get("feat_extract_norm", str, "group"),
        "bias": section.get("conv_bias", bool, False),
        "pre_norm": section.get("do_stable_layer_norm", bool, False),
        "position_kernel": section.get("num_conv_pos_embeddings", int, 128),
        "position_groups": section.get("num_conv_pos_embedding_groups", int, 16),
    }


def weight_pairs(table: Mapping[str, Any], style: int) -> Iterator[tuple[str, str]]:
    """Yields (our name, theirs) of every tensor of the encoder; style: 0 Hugging Face, 1 fairseq."""
    leaves = ("weight", "bias")
    convolution = ("conv", "0")[style]
    norm = "layer_norm" if style == 0 else "2.1" if table["feature_norm"] == "layer" else "2"
    for index in range(len(table["kernels"])):
        theirs = f"feature_extractor.conv_layers.{index}"
        yield f"convolutions.{index}.convolution.weight", f"{theirs}.{convolution}.weight"
        if table.get("bias"):
            yield f"convolutions.{index}.convolution.bias", f"{theirs}.{convolution}.bias"
        if table["feature_norm"] == "layer" or index == 0:
            yield from ((f"convolutions.{index}.norm.{leaf}", f"{theirs}.{norm}.{leaf}") for leaf in leaves)
    for ours, names in OTHER_PARTS.items():
        yield from ((f"{ours}.{leaf}", f"{names[style]}.{leaf}") for leaf in leaves)
    position = ("encoder.pos_conv_embed.conv", "encoder.pos_conv.0")[style]
    yield "position.bias", f"{position}.bias"
    yield "position.parametrizations.weight.original0", f"{position}.weight_g"
    yield "position.parametrizations.weight.original1", f"{position}.weight_v"
    for layer in range(table["layers"]):
        for ours, names in LAYER_PARTS.items():
            theirs = f"encoder.layers.{layer}.{names[style]}"
            yield from ((f"layers.{layer}.{ours}.{leaf}", f"{theirs}.{leaf}") for leaf in leaves)


def wav2vec2_weights(
    where: str | Path, given: Mapping[str, Tensor], table: Mapping[str, Any], style: int
) -> dict[str, Tensor]:
    """Returns the encoder's weights under our names; CheckpointError for one that is missing, of another shape, or left over.

    given: without the prefix of the model. The two spellings of weight norm are the same to us.
    """
    spelled = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    named = {}
    for name, tensor in given.items():
        for new, old in spelled.items():
            name = name.replace(new, old)
        named[name] = tensor
    with torch.device("meta"):
        expected = wav2vec2(1, **{key: value for key, value in table.items() if key != "name"}).state_dict()
    weights: dict[str, Tensor] = {}
    for ours, theirs in weight_pairs(table, style):
        if theirs not in named:
            raise CheckpointError(f"{where}: the weight {theirs} is missing. Is it whole?")
        tensor = named.pop(theirs)
        if tensor.shape != expected[ours].shape:
            raise CheckpointError(
                f"{where}: the weight {theirs} is of shape {tuple(tensor.shape)}, expected {tuple(expected[ours].shape)}"
            )
        weights[ours] = tensor.float()
    mask = next((named[name] for name in ("masked_spec_embed", "mask_emb") if name in named), None)
    weights["mask_vector"] = torch.zeros(expected["mask_vector"].shape) if mask is None else mask.float()
    left = sorted(name for name in named if not PRE_TRAINING_PARTS.match(name))
    if left:
        raise CheckpointError(f"{where}: holds {left[0]} ({len(left)} such tensors), of a module that is unknown here")
    return weights
