"""Checkpoints of fairseq: wav2vec 1.0 (a front end) and wav2vec 2.0 (an encoder, with its head where it was fine-tuned)."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.errors import CheckpointError
from carnelian.files import reading
from carnelian.formats.safe_loading import ForeignModel, check_tensors, plain
from carnelian.formats.wav2vec2 import wav2vec2_weights
from carnelian.models.encoders.wav2vec import wav2vec

PRE_TRAINING = ("wav2vec_predictions.", "vector_quantizer.", "project_features.")


def layers(where: Path, text: Any) -> list[tuple[int, int, int]]:
    """(channels, kernel, stride) of each layer, from text such as "[(512, 10, 5)] + [(512, 4, 2)] * 3", which fairseq runs as code."""

    def value(node: ast.AST) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.List | ast.Tuple):
            return [value(part) for part in node.elts]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
            left, right = value(node.left), value(node.right)
            if isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list):
                return left + right
            if isinstance(node.op, ast.Mult) and isinstance(left, list) and isinstance(right, int) and right < 100:
                return left * right
        raise ValueError

    try:
        found = [tuple(layer) for layer in value(ast.parse(str(text), mode="eval").body)]
        if found and len(found) < 100 and all(len(layer) == 3 and min(layer) > 0 for layer in found):
            return found
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        pass
    raise CheckpointError(
        f"{where}: its layers are given as {str(text)[:80]!r}, expected a list of (channels, kernel, stride)"
    )


def fairseq_names(encoder: int, aggregator: int) -> Iterator[tuple[str, str]]:
    """(our name, fairseq's) of every tensor."""
    for ours, theirs, count, first, leaves in (
        ("encoder", "feature_extractor", encoder, 0, ("weight",)),
        ("aggregator", "feature_aggregator", aggregator, 1, ("weight", "bias")),
    ):
        for layer in range(count):
            for leaf in leaves:
                yield f"{ours}.{layer}.convolution.{leaf}", f"{theirs}.conv_layers.{layer}.{first}.{leaf}"
            for leaf in ("weight", "bias"):
                yield f"{ours}.{layer}.norm.{leaf}", f"{theirs}.conv_layers.{layer}.{first + 2}.{leaf}"


def model_settings(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The model's settings: `args` of old checkpoints, `cfg.model` of newer ones."""
    for found in (plain(content.get("args")), (plain(content.get("cfg")) or {}).get("model")):
        if isinstance(found, dict) and "conv_feature_layers" in found:
            kind = found.get("arch") or found.get("_name") or "wav2vec"
            if ("conv_aggregator_layers" in found and kind == "wav2vec") or kind in ("wav2vec2", "wav2vec_ctc"):
                return {**found, "kind": kind}
            raise CheckpointError(f'{path}: a fairseq model "{kind}"; wav2vec 1.0 and 2.0 are read')
        if isinstance(found, dict) and found.get("_name") == "wav2vec_ctc":
            inner = plain(found.get("w2v_args"))
            inner = inner.get("model", inner) if isinstance(inner, dict) else {}
            if "conv_feature_layers" in inner:
                return {**inner, "kind": "wav2vec_ctc"}
    raise CheckpointError(
        f"{path}: a fairseq checkpoint without the settings of a wav2vec model. wav2vec 1.0 and 2.0 are read"
    )


def read_fairseq(path: Path, content: Mapping[str, Any]) -> ForeignModel:
    """Returns the front end of a wav2vec 1.0 checkpoint, or the encoder of wav2vec 2.0 (with its CTC head, where it was fine-tuned).

    Without a head it writes no text: it is for training upon.
    """
    settings = model_settings(path, content)
    if settings["kind"] != "wav2vec":
        return read_fairseq_wav2vec2(path, content, settings)
    encoder, aggregator = (layers(path, settings[f"conv_{part}_layers"]) for part in ("feature", "aggregator"))
    skip = bool(settings.get("skip_connections_agg", False))
    expected = {
        "log_compression": True,
        "activation": "relu",
        "aggregator": "cnn",
        "agg_zero_pad": False,
        "skip_connections_feat": False,
        "no_conv_bias": False,
        "non_affine_group_norm": False,
        **({"residual_scale": 0.5} if skip else {}),
    }
    for key, value in expected.items():
        if settings.get(key, value) != value:
            raise CheckpointError(f"{path}: {key} is {settings[key]!r}; only {value!r} is supported here")
    channels = {layer[0] for layer in encoder + aggregator}
    if len(channels) > 1 or any(layer[2] != 1 for layer in aggregator):
        raise CheckpointError(
            f"{path}: several widths or strides in the aggregator; one width and no strides are supported"
        )
    table = {
        "kernels": [layer[1] for layer in encoder],
        "strides": [layer[2] for layer in encoder],
        "context": [layer[1] for layer in aggregator],
        "channels": encoder[0][0],
        "skip": skip,
    }
    weights = wav2vec_weights(path, check_tensors(str(path), content["model"]), table)
    remark = (
        "a front end, no recognizer: it writes no text. Train an encoder upon it, with [initialize] checkpoint and "
        'parts = ["features"] in the recipe'
    )
    recipe = {"features": {"name": "wav2vec", **table}}
    return ForeignModel(
        recipe, Alphabet(ENGLISH), {f"features.{name}": tensor for name, tensor in weights.items()}, (remark,)
    )


def wav2vec_weights(path: Path, given: Mapping[str, Tensor], table: dict[str, Any]) -> dict[str, Tensor]:
    """Our front end's weights; CheckpointError for one missing, of another shape, or left over."""
    with torch.device("meta"):
        expected = wav2vec(**table).state_dict()
    pairs = dict(fairseq_names(len(table["kernels"]), len(table["context"])))
    weights = {}
    for ours, theirs in pairs.items():
        if theirs not in given:
            raise CheckpointError(f"{path}: the weight {theirs} is missing. Is the file whole?")
        tensor, shape = given[theirs], expected[ours].shape
        if tensor.numel() != shape.numel() or tensor.shape != shape[: tensor.ndim]:
            raise CheckpointError(
                f"{path}: the weight {theirs} is of shape {tuple(tensor.shape)}, expected {tuple(shape)}"
            )
        weights[ours] = tensor.float().reshape(shape)
    left = sorted(name for name in given.keys() - set(pairs.values()) if not name.startswith(PRE_TRAINING))
    if left:
        raise CheckpointError(f"{path}: holds {left[0]} ({len(left)} such), of a module that is unknown here")
    return weights


def read_fairseq_wav2vec2(path: Path, content: Mapping[str, Any], settings: Mapping[str, Any]) -> ForeignModel:
    """Returns wav2vec 2.0 from fairseq; of a fine-tuned one with its head, whose letters stand in dict.ltr.txt beside the file."""
    convolutions = layers(path, settings["conv_feature_layers"])
    if len({layer[0] for layer in convolutions}) > 1:
        raise CheckpointError(f"{path}: several widths of convolutions; one width is supported")
    table = {
        "name": "wav2vec2",
        "channels": int(settings.get("encoder_embed_dim", 768)),
        "layers": int(settings.get("encoder_layers", 12)),
        "heads": int(settings.get("encoder_attention_heads", 12)),
        "feedforward": int(settings.get("encoder_ffn_embed_dim", 3072)),
        "width": convolutions[0][0],
        "kernels": [layer[1] for layer in convolutions],
        "strides": [layer[2] for layer in convolutions],
        "feature_norm": "layer" if settings.get("extractor_mode") == "layer_norm" else "group",
        "bias": bool(settings.get("conv_bias", False)),
        "pre_norm": bool(settings.get("layer_norm_first", False)),
        "position_kernel": int(settings.get("conv_pos", 128)),
        "position_groups": int(settings.get("conv_pos_groups", 16)),
    }
    given = check_tensors(str(path), content["model"])
    inner = {
        name.removeprefix("w2v_encoder.w2v_model."): tensor
        for name, tensor in given.items()
        if "w2v_encoder.proj" not in name
    }
    weights = {f"encoder.{name}": tensor for name, tensor in wav2vec2_weights(path, inner, table, 1).items()}
    features = {
        "name": "waveform",
        "normalize": bool(settings.get("normalize", False) or table["feature_norm"] == "layer"),
    }
    recipe = {"features": features, "encoder": table}
    if "w2v_encoder.proj.weight" not in given:
        remark = 'an encoder without a head: it writes no text. Train upon it, with [initialize] checkpoint and parts = ["encoder"]'
        return ForeignModel(recipe, Alphabet(ENGLISH), weights, (remark,))
    alphabet, outputs = read_letters(path.with_name("dict.ltr.txt"))
    if max(outputs) >= len(given["w2v_encoder.proj.weight"]):
        raise CheckpointError(
            f"{path}: its head has {len(given['w2v_encoder.proj.weight'])} outputs, dict.ltr.txt has more letters"
        )
    order = torch.tensor([*outputs, 0])  # fairseq's blank is <s>, the first output
    weights |= {f"head.{leaf}": given[f"w2v_encoder.proj.{leaf}"].float()[order] for leaf in ("weight", "bias")}
    return ForeignModel(recipe, alphabet, weights)


def read_letters(path: Path) -> tuple[Alphabet, list[int]]:
    """Returns the alphabet of a fairseq dictionary, and the output of each of its letters; <s>, <pad>, </s> and <unk>
    come before them."""
    if not path.exists():
        raise CheckpointError(f"{path}: the letters of the model are not beside it. Put fairseq's dict.ltr.txt there")
    with reading(path, "a fairseq dictionary", CheckpointError):
        found = [line.split()[0] for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    letters = [" " if letter == "|" else letter.lower() for letter in found]
    return Alphabet(letters), list(range(4, 4 + len(letters)))
