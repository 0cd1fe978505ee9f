"""Folders of Hugging Face with a CTC model: Wav2Vec2ForCTC and ParakeetForCTC."""

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carnelian.checkpoint import load_tensors
from carnelian.data.alphabet import Alphabet, WordPieces
from carnelian.errors import CheckpointError
from carnelian.formats.nemo.configuration import Section
from carnelian.formats.nemo.conformer import conformer_weights
from carnelian.formats.safe_loading import ForeignModel, check_tensors, read_file, read_pickle
from carnelian.formats.wav2vec2 import wav2vec2_table, wav2vec2_weights

NORMAL, UNKNOWN, CONTROL = 1, 2, 3  # kinds of pieces in a SentencePiece model
SPECIAL_TOKENS = ("<s>", "</s>", "<unk>", "<pad>", "[UNK]", "[PAD]", "[CLS]", "[SEP]")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a folder."""
    try:
        found = json.loads(read_file(path))
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: not JSON. Is the folder whole?") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: not a JSON object. Is the folder whole?")
    return found


def message(*fields: tuple[int, Any]) -> bytes:
    """A protocol-buffer message of (number, value) fields: text, bytes, whole numbers below 128, and floats."""
    encoded = b""
    for number, value in fields:
        if isinstance(value, float):
            encoded += bytes([number << 3 | 5]) + struct.pack("<f", value)
        elif isinstance(value, int):
            encoded += bytes([number << 3, value])
        else:
            data = value.encode() if isinstance(value, str) else value
            length, size = len(data), b""
            while length > 127:
                size, length = size + bytes([length & 127 | 128]), length >> 7
            encoded += bytes([number << 3 | 2]) + size + bytes([length]) + data
    return encoded


def sentencepiece_model(pieces: Iterable[tuple[str, float, int]], *, unigram: bool) -> bytes:
    """A SentencePiece model of (piece, score, kind), which splits text into them as the tokenizer it comes from does."""
    listed = [(1, message((1, piece), (2, float(score)), (3, kind))) for piece, score, kind in pieces]
    return message(*listed, (2, message((3, 1 if unigram else 2))))


def pieces_of(path: Path, blank: int) -> WordPieces:
    """The word pieces of a tokenizer.json, the blank left out."""
    model = read_json(path).get("model", {})
    vocabulary, merges = model.get("vocab"), model.get("merges") or []
    unigram = isinstance(vocabulary, list)
    if unigram:
        scored = [(str(piece), float(score)) for piece, score in vocabulary]
    elif isinstance(vocabulary, dict) and merges:
        parts = [merge if isinstance(merge, list) else merge.split(" ") for merge in merges]
        rank = {"".join(pair): -float(index) for index, pair in enumerate(parts)}
        ordered = sorted(vocabulary.items(), key=lambda item: item[1])
        scored = [(piece, rank.get(piece, -float(len(rank) + index))) for piece, index in ordered]
    else:
        raise CheckpointError(f"{path}: has neither a unigram vocabulary nor merges. Other tokenizers are not read")
    kinds = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL, "<pad>": CONTROL}
    listed = [(piece, score, kinds.get(piece, NORMAL)) for index, (piece, score) in enumerate(scored) if index != blank]
    return WordPieces(sentencepiece_model(listed, unigram=unigram))


def characters_of(path: Path, blank: int, delimiter: str) -> tuple[Alphabet, list[int]]:
    """(alphabet, the output of each of its symbols) of a vocab.json, in lower case where it has only capitals."""
    vocabulary = read_json(path)
    if not all(isinstance(index, int) for index in vocabulary.values()):
        raise CheckpointError(f"{path}: one vocabulary for each of several languages. Give a model of one language")
    kept = [(symbol, index) for symbol, index in vocabulary.items() if symbol not in SPECIAL_TOKENS and index != blank]
    kept.sort(key=lambda item: item[1])
    symbols = [" " if symbol == delimiter else symbol for symbol, _ in kept]
    lower = [symbol.lower() for symbol in symbols]
    if not any(symbol != symbol.upper() for symbol in symbols) and len(set(lower)) == len(lower):
        symbols = lower
    return Alphabet(symbols), [index for _, index in kept]


def folder_weights(folder: Path) -> dict[str, Tensor]:
    """All weights of a folder, from model.safetensors, its parts, or pytorch_model.bin."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        parts = sorted({Path(str(part)).name for part in read_json(index).get("weight_map", {}).values()})
        return {name: tensor for part in parts for name, tensor in load_tensors(folder / part)[0].items()}
    pickled = folder / "pytorch_model.bin"
    if pickled.exists() and not (folder / "model.safetensors").exists():
        return check_tensors(str(pickled), read_pickle(str(pickled), read_file(pickled)))
    return load_tensors(folder / "model.safetensors")[0]


#: what transformers call the parts of a Conformer -> our names, which are NeMo's
PARAKEET_NAMES = {
    "subsampling.layers.": "pre_encode.conv.",
    "subsampling.linear.": "pre_encode.out.",
    "self_attn.q_proj.": "self_attn.linear_q.",
    "self_attn.k_proj.": "self_attn.linear_k.",
    "self_attn.v_proj.": "self_attn.linear_v.",
    "self_attn.o_proj.": "self_attn.linear_out.",
    "self_attn.relative_k_proj.": "self_attn.linear_pos.",
    "self_attn.bias_": "self_attn.pos_bias_",
    "conv.norm.": "conv.batch_norm.",
}


def parakeet_table(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The recipe's [encoder] of a ParakeetForCTC; CheckpointError for settings that are not followed here."""
    section = Section(folder, "encoder_config", config.get("encoder_config"))
    channels, heads = section.get("hidden_size", int, 1024), section.get("num_attention_heads", int, 8)
    bias = section.get("attention_bias", bool, True)
    section.expect(
        hidden_act="silu",
        subsampling_conv_kernel_size=3,
        subsampling_conv_stride=2,
        convolution_bias=bias,
        num_key_value_heads=heads,
    )
    return {
        "name": "conformer",
        "channels": channels,
        "layers": section.get("num_hidden_layers", int, 24),
        "heads": heads,
        "expansion": section.get("intermediate_size", int, 4096) // max(1, channels),
        "kernel": section.get("conv_kernel_size", int, 9),
        "subsampling": "dw_striding",
        "stride": section.get("subsampling_factor", int, 8),
        "subsampling_channels": section.get("subsampling_conv_channels", int, 256),
        "scale": section.get("scale_input", bool, True),
        "bias": bias,
    }


def parakeet_weights(
    folder: Path, weights: Mapping[str, Tensor], table: Mapping[str, Any], features: int
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """(the encoder's weights under our names, the head's weight (V, D), its bias (V,)) of a ParakeetForCTC."""
    ours = {}
    for name, tensor in weights.items():
        for theirs, own in PARAKEET_NAMES.items():
            name = name.replace(theirs, own)
        ours[name] = tensor.float() if tensor.is_floating_point() else tensor
    try:
        head = ours.pop("ctc_head.weight").flatten(1), ours.pop("ctc_head.bias")
    except KeyError as missing:
        raise CheckpointError(f"{folder}: has no {missing.args[0]}. Is the folder whole?") from None
    layers = len({name.split(".")[2] for name in ours if name.startswith("encoder.layers.")})
    if table["layers"] != layers:
        raise CheckpointError(f"{folder}: weights of {layers} layers, by config.json {table['layers']}")
    return conformer_weights(folder, ours, table, features), *head


def read_hugging_face(folder: Path) -> ForeignModel:
    """The model of a folder with config.json, its weights and its tokenizer."""
    config = read_json(folder / "config.json")
    readers = {"Wav2Vec2ForCTC": read_wav2vec2, "HubertForCTC": read_wav2vec2, "ParakeetForCTC": read_parakeet}
    architectures = [str(name) for name in config.get("architectures") or []]
    reader = next((readers[name] for name in architectures if name in readers), None)
    if reader is None:
        raise CheckpointError(
            f"{folder}: a {', '.join(architectures) or 'model'}, which is unknown here. {' and '.join(readers)} are read"
        )
    prepared = folder / "preprocessor_config.json"
    return reader(folder, config, read_json(prepared) if prepared.exists() else {})


def read_parakeet(folder: Path, config: dict[str, Any], given: Mapping[str, Any]) -> ForeignModel:
    """NVIDIA's Parakeet, a Fast Conformer."""
    blank = int(config.get("pad_token_id") or 0)
    alphabet = pieces_of(folder / "tokenizer.json", blank)
    bands = Section(folder, "encoder_config", config.get("encoder_config")).get("num_mel_bins", int, 80)
    rate = given.get("sampling_rate", 16_000)
    features = {
        "name": "log_mel",
        "features": bands,
        "sample_rate": rate,
        "window": given.get("win_length", 400) / rate,
        "hop": given.get("hop_length", 160) / rate,
        "pad_to": 0,
    }
    table = parakeet_table(folder, config)
    weights, weight, bias = parakeet_weights(folder, folder_weights(folder), table, bands)
    order = outputs_in_order(folder, [index for index in range(len(alphabet) + 1) if index != blank], blank, len(bias))
    weights |= {"head.weight": weight[order], "head.bias": bias[order]}
    return ForeignModel({"features": features, "encoder": table}, alphabet, weights)


def outputs_in_order(folder: Path, outputs: Sequence[int], blank: int, count: int) -> Tensor:
    """The places of the alphabet's symbols among the head's outputs, the blank's last."""
    if max(*outputs, blank) >= count:
        raise CheckpointError(
            f"{folder}: its vocabulary has {max(*outputs, blank) + 1} symbols, its head {count} outputs"
        )
    return torch.tensor([*outputs, blank])


def read_wav2vec2(folder: Path, config: dict[str, Any], given: Mapping[str, Any]) -> ForeignModel:
    """A wav2vec 2.0 or HuBERT with its letters."""
    blank = int(config.get("pad_token_id") or 0)
    tokenizer = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    alphabet, outputs = characters_of(folder / "vocab.json", blank, tokenizer.get("word_delimiter_token") or "|")
    table = wav2vec2_table(folder, config)
    named, prefix = folder_weights(folder), f"{config.get('model_type', 'wav2vec2')}."
    for name in ("lm_head.weight", "lm_head.bias"):
        if name not in named:
            raise CheckpointError(f"{folder}: has no {name}, so it writes no text. Give a model with a CTC head")
    inner = {name.removeprefix(prefix): tensor for name, tensor in named.items() if name.startswith(prefix)}
    encoder = wav2vec2_weights(folder, inner, table, 0)
    order = outputs_in_order(folder, outputs, blank, len(named["lm_head.bias"]))
    weights = {f"encoder.{name}": tensor for name, tensor in encoder.items()}
    weights |= {f"head.{leaf}": named[f"lm_head.{leaf}"].float()[order] for leaf in ("weight", "bias")}
    features = {
        "name": "waveform",
        "sample_rate": given.get("sampling_rate", 16_000),
        "normalize": bool(given.get("do_normalize", True)),
    }
    return ForeignModel({"features": features, "encoder": table}, alphabet, weights)
