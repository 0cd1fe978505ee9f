"""A BERT in a folder of Hugging Face: config.json, vocab.txt, and model.safetensors or pytorch_model.bin."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carnelian.checkpoint import check_weights
from carnelian.data.alphabet import BertPieces
from carnelian.errors import CarnelianError, CheckpointError, MissingExtraError
from carnelian.files import reading
from carnelian.formats.hugging_face import folder_weights, read_json
from carnelian.formats.nemo.configuration import Section
from carnelian.models.text.bert import Bert, BertConfig

#: our names of a layer's parts, with Hugging Face's
BERT_LAYER_PARTS = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.out": "attention.output.dense",
    "attention.norm": "attention.output.LayerNorm",
    "feed_forward.expand": "intermediate.dense",
    "feed_forward.contract": "output.dense",
    "feed_forward.norm": "output.LayerNorm",
}
BERT_EMBEDDINGS = {
    "word.weight": "embeddings.word_embeddings.weight",
    "embeddings.position.weight": "embeddings.position_embeddings.weight",
    "embeddings.token_type.weight": "embeddings.token_type_embeddings.weight",
    "embeddings.norm.weight": "embeddings.LayerNorm.weight",
    "embeddings.norm.bias": "embeddings.LayerNorm.bias",
}
#: what a BERT's folder holds besides: the heads of its training, and a list of positions that some versions save
OTHER_HEADS = re.compile(r"(bert\.)?(pooler\.|embeddings\.position_ids$)|cls\.|classifier\.|qa_outputs\.")


@dataclass(frozen=True)
class PretrainedBert:
    """A BERT that was read: its sizes, its weights under our names, and its pieces."""

    sizes: dict[str, Any]
    weights: dict[str, Tensor]
    pieces: BertPieces


def read_bert(folder: str | Path) -> PretrainedBert:
    """Returns the BERT in a folder. Raises CheckpointError where one of its files is missing, or does not fit the others."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no folder of a BERT. Expected one with config.json, vocab.txt and weights")
    with reading(folder, "a BERT", CheckpointError):
        sizes = bert_sizes(folder, read_json(folder / "config.json"))
        pieces = read_vocabulary(folder)
        weights = bert_weights(folder, folder_weights(folder), sizes, len(pieces))
    return PretrainedBert(sizes, weights, pieces)


def bert_sizes(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of `BertConfig` in a config.json; CheckpointError for a model that is no BERT."""
    section = Section(folder, "config.json", config)
    section.expect(model_type="bert", hidden_act="gelu", position_embedding_type="absolute", is_decoder=False)
    return {
        "channels": section.get("hidden_size", int, 768),
        "layers": section.get("num_hidden_layers", int, 12),
        "heads": section.get("num_attention_heads", int, 12),
        "feedforward": section.get("intermediate_size", int, 3072),
        "positions": section.get("max_position_embeddings", int, 512),
        "types": section.get("type_vocab_size", int, 2),
        "epsilon": section.get("layer_norm_eps", float, 1e-12),
    }


def read_vocabulary(path: str | Path) -> BertPieces:
    """Returns the pieces in a vocab.txt, or in that of a BERT's folder, whose tokenizer_config.json says whether it has capitals."""
    path = Path(path)
    folder, file = (path, path / "vocab.txt") if path.is_dir() else (path.parent, path)
    with reading(file, "a vocabulary of BERT (vocab.txt)", CheckpointError):
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    settings = folder / "tokenizer_config.json"
    lower = read_json(settings).get("do_lower_case") if settings.exists() else None
    symbols = [line.removesuffix("\r") for line in lines]
    if not isinstance(lower, bool):
        words = [symbol for symbol in symbols if not symbol.startswith("[")]
        lower = all(word == word.lower() for word in words)
    try:
        return BertPieces(symbols, lower_case=lower)
    except MissingExtraError:
        raise
    except CarnelianError as error:
        raise CheckpointError(f"{file}: {error}") from None


def bert_names(layers: int) -> dict[str, str]:
    """Returns Hugging Face's name of each weight of a BERT, by ours."""
    parts = {
        f"{ours}.{leaf}": f"{theirs}.{leaf}" for ours, theirs in BERT_LAYER_PARTS.items() for leaf in ("weight", "bias")
    }
    inner = {
        f"layers.{layer}.{ours}": f"encoder.layer.{layer}.{theirs}"
        for layer in range(layers)
        for ours, theirs in parts.items()
    }
    return BERT_EMBEDDINGS | inner


def bert_weights(folder: Path, given: Mapping[str, Tensor], sizes: dict[str, Any], pieces: int) -> dict[str, Tensor]:
    """Returns a BERT's weights under our names; CheckpointError for one that is missing, left over or of another shape."""
    ours = {theirs: name for name, theirs in bert_names(sizes["layers"]).items()}
    named: dict[str, Tensor] = {}
    for name, tensor in given.items():
        if not OTHER_HEADS.match(name):
            theirs = name.removeprefix("bert.")
            for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
                theirs = theirs.replace(old, new)  # the names of checkpoints from TensorFlow
            named[ours.get(theirs, theirs)] = tensor.float()
    rows = len(named["word.weight"]) if "word.weight" in named else pieces
    if rows != pieces:
        raise CheckpointError(
            f"{folder}: its vocab.txt has {pieces:,} pieces, its weights are of {rows:,}: of another vocabulary. "
            "Give the vocab.txt that came with the weights"
        )
    with torch.device("meta"):
        check_weights(Bert(pieces, BertConfig(**sizes)), named, where=folder)
    return named
