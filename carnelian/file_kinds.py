"""What a file is, by its first bytes: so that a file given in the place of another is named as what it is."""

import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

LOOKED_AT = 4096  # bytes that are looked at
TEXT_READERS = ("manifest", "recipe", "decoding settings", "CSV", "ARPA", "text", "words", "dictionary", "log")


@dataclass(frozen=True, slots=True)
class FileKind:
    """What is done with files of a kind, and the words for what may be read from them: their own readers explain their faults."""

    use: str
    read_as: tuple[str, ...] = ()


KINDS = {
    "a language model": FileKind(
        "Give it as --language-model FILE", ("language model", "ARPA", "KenLM binary", "words", "text")
    ),
    "a checkpoint": FileKind(
        "Give it as the MODEL, before the other files; a neural language model as --rescore MODEL", ("checkpoint",)
    ),
    "a .nemo archive": FileKind('Use "carnelian import FILE" first', ("another toolkit",)),
    "a checkpoint of another toolkit": FileKind('Use "carnelian import FILE" first', ("another toolkit",)),
    "an exported model (ONNX)": FileKind(
        "Give it to transcribe, evaluate or serve; here, the checkpoint that it was exported from", ("ONNX",)
    ),
    "a manifest": FileKind("Give it after the MODEL, or as [train] manifests", ("manifest", "log of a run")),
    "a recipe": FileKind('Train it: "carnelian train RECIPE --out RUN"', ("recipe",)),
    "decoding settings": FileKind("Give them as --decoding FILE", ("decoding settings",)),
    "a recording": FileKind('Give it to "carnelian transcribe MODEL FILE"', ("recording",)),
    "word pieces": FileKind('Name them in the recipe: alphabet = "FILE"', ("SentencePiece",)),
    "a table of recordings": FileKind(
        'Make a manifest of it: "carnelian prepare folder FILE OUT"', ("CSV", "text", "words")
    ),
    "a tar archive": FileKind(
        'A manifest for shards: "carnelian shard FILE --out FOLDER"; others must be unpacked', ("another toolkit",)
    ),
    "a zip archive": FileKind("Unpack it", ("another toolkit",)),
    "a web page": FileKind("The download did not give the file"),
    "a pointer of Git LFS": FileKind('Fetch the file itself: "git lfs pull"'),
    "an empty file": FileKind("Copy it again from its origin", (*TEXT_READERS, "recording")),
    "a text": FileKind('For a language model of it: "carnelian language-model build FILE"', TEXT_READERS),
}
MAGIC = (
    (b"\\data\\", "a language model"),
    (b"mmap lm ", "a language model"),
    (b"carnelian n-gram", "a language model"),
    (b"version https://git-lfs", "a pointer of Git LFS"),
    (b"RIFF", "a recording"),
    (b"RIFX", "a recording"),
    (b"riff", "a recording"),  # W64
    (b"RF64", "a recording"),
    (b"FORM", "a recording"),
    (b"fLaC", "a recording"),
    (b"OggS", "a recording"),
    (b"ID3", "a recording"),
    (b".snd", "a recording"),
    (b"caff", "a recording"),
    (b"NIST_1A", "a recording"),
    (b"\xff\xfb", "a recording"),
    (b"\xff\xf3", "a recording"),
    (b"\x80\2", "a checkpoint of another toolkit"),  # a pickle, as torch.save wrote it before 1.6
)
KIND_OF_SUFFIX = {
    ".nemo": "a .nemo archive",
    ".onnx": "an exported model (ONNX)",
    ".model": "word pieces",
    ".csv": "a table of recordings",
    ".tsv": "a table of recordings",
    ".jsonl": "a manifest",
}
#: text under such a name is a damaged file, not text for anything
WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
#: that no recipe has
DECODING_KEYS = ("language_model", "alpha", "beta", "beam_width", "closed_vocabulary", "rescoring", "[rescoring]")


def misplaced(path: str | Path, expected: str) -> str:
    """Returns "FILE: a language model, not a checkpoint. What to do" for a file of another kind than `expected`; "" where there is
    no telling, or where the reader of such files explains better what is wrong."""
    kind, wanted = file_kind(path), re.split(r" \(|, |: ", expected)[0]
    if not kind or any(words in wanted for words in KINDS[kind].read_as):
        return ""
    return f"{path}: {kind}, not {wanted}. {KINDS[kind].use}"


def file_kind(path: str | Path) -> str:
    """Returns what a regular file holds, a key of KINDS; "" for what is not known, and for what is no file."""
    try:
        if not os.path.isfile(path):
            return ""
        with open(path, "rb") as file:
            opening = file.read(LOOKED_AT)
    except (OSError, ValueError):
        return ""
    suffix = Path(path).suffix.lower()
    if opening.startswith(b"\x1f\x8b"):
        suffix = Path(Path(path).stem).suffix.lower() if suffix == ".gz" else suffix
        try:
            opening = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(opening, LOOKED_AT)
        except zlib.error:
            opening = b"\0"
    return kind_of_bytes(opening, suffix)


def kind_of_bytes(opening: bytes, suffix: str) -> str:
    """Returns what begins with these bytes under a name with this suffix: by content first, by name where content says little."""
    if not opening:
        return "an empty file"
    for magic, kind in MAGIC:
        if opening.startswith(magic):
            return kind
    if b"\n\\data\\" in opening:
        return "a language model"
    if opening[257:262] == b"ustar":
        return "a .nemo archive" if suffix == ".nemo" or b"model_" in opening[:100] else "a tar archive"
    if opening.startswith(b"PK\3\4"):
        # torch.save writes zip archives
        return "a zip archive" if suffix in (".zip", ".npz") else "a checkpoint of another toolkit"
    if opening[8:10] == b'{"' and not any(opening[5:8]):  # the header's size in 8 bytes, then JSON
        return "a checkpoint"
    if opening[:512].lstrip().lower().startswith((b"<html", b"<!doctype")):
        return "a web page"
    if opening.startswith(b"{") and b'"audio_filepath"' in opening:
        return "a manifest"
    if suffix == ".toml":
        lines = [line.partition(b"=")[0].strip().decode("utf-8", "replace") for line in opening.splitlines()]
        if any(key in DECODING_KEYS for key in lines):
            return "decoding settings"
        return "a recipe" if any(key.startswith("[") for key in lines) else ""
    return KIND_OF_SUFFIX.get(suffix) or ("a text" if suffix not in WEIGHTS and is_text(opening) else "")


def is_text(opening: bytes) -> bool:
    """Whether bytes are UTF-8 without control characters; the last character may be cut."""
    try:
        text = opening.decode("utf-8", "strict" if len(opening) < LOOKED_AT else "ignore")
    except UnicodeDecodeError:
        return False
    return all(each.isprintable() or each in "\t\n\r\f" for each in text)
