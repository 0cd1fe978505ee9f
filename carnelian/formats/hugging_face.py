"""Folders of Hugging Face with a CTC model: Wav2Vec2ForCTC and ParakeetForCTC."""

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from carnelian.data.alphabet import Alphabet, WordPieces
from carnelian.errors import CheckpointError, MissingExtraError
from carnelian.formats.safe_loading import ForeignModel, read_file
from carnelian.models.encoders.hugging_face import ARCHITECTURES, pretrained

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


def read_hugging_face(folder: Path) -> ForeignModel:
    """The model of a folder with config.json, its weights and its tokenizer, through transformers."""
    config = read_json(folder / "config.json")
    kind = next(
        (kind for kind, (name, _) in ARCHITECTURES.items() if name in (config.get("architectures") or [])), None
    )
    if kind is None:
        found, names = (
            ", ".join(config.get("architectures") or ["model"]),
            " and ".join(name for name, _ in ARCHITECTURES.values()),
        )
        raise CheckpointError(f"{folder}: a {found}, which is unknown here. {names} are read")
    try:
        settings, encoder, head = pretrained(folder, kind)
    except MissingExtraError:
        raise
    except Exception as error:  # transformers raise many kinds for a folder that is not whole
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"{folder}: transformers cannot read it ({reason[0][:200]}). Is the folder whole?"
        ) from None
    settings = json.loads(json.dumps({key: value for key, value in settings.items() if value is not None}, default=str))
    blank = int(config.get("pad_token_id") or 0)
    prepared = folder / "preprocessor_config.json"
    given = read_json(prepared) if prepared.exists() else {}
    alphabet: Alphabet
    if kind == "wav2vec2":
        tokenizer = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
        alphabet, outputs = characters_of(folder / "vocab.json", blank, tokenizer.get("word_delimiter_token") or "|")
        features = {
            "name": "waveform",
            "sample_rate": given.get("sampling_rate", 16_000),
            "normalize": bool(given.get("do_normalize", True)),
        }
    else:
        alphabet = pieces_of(folder / "tokenizer.json", blank)
        outputs = [index for index in range(len(alphabet) + 1) if index != blank]
        features = {
            "name": "log_mel",
            "features": settings["num_mel_bins"],
            "sample_rate": given.get("sampling_rate", 16_000),
            "window": given.get("win_length", 400) / given.get("sampling_rate", 16_000),
            "hop": given.get("hop_length", 160) / given.get("sampling_rate", 16_000),
            "pad_to": 0,
        }
    order = torch.tensor([*outputs, blank])
    if int(order.max()) >= len(head["bias"]):
        raise CheckpointError(
            f"{folder}: its vocabulary has {int(order.max()) + 1} symbols, its head {len(head['bias'])} outputs"
        )
    weights = {f"encoder.{name}": tensor for name, tensor in encoder.items()}
    weights |= {f"head.{name}": tensor[order] for name, tensor in head.items()}
    recipe = {"features": features, "encoder": {"name": "hugging_face", "kind": kind, "config": settings}}
    return ForeignModel(
        recipe, alphabet, weights, ("the encoder is built by transformers, which must be installed to use it",)
    )
