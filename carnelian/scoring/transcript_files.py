"""Files of transcripts of any origin: text, TRN, STM, CTM, manifests and other JSON lines, TSV, Kaldi's `text`."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from carnelian.errors import ScoringError
from carnelian.files import one_line, reason_of
from carnelian.scoring.sclite.ctm import read_ctm
from carnelian.scoring.sclite.network import first_reading, parse_transcript
from carnelian.scoring.sclite.stm import read_stm, read_text
from carnelian.scoring.sclite.trn import read_trn

TRANSCRIPT_FORMATS = ("text", "trn", "stm", "ctm", "json", "tsv", "kaldi")
SUFFIXES = {".trn": "trn", ".stm": "stm", ".ctm": "ctm", ".jsonl": "json", ".json": "json", ".tsv": "tsv"}
REFERENCE_KEYS = ("text", "reference", "ref", "transcript")
HYPOTHESIS_KEYS = ("pred_text", "hypothesis", "hyp", "pred", "prediction", "transcript", "text")
NAME_KEYS = ("audio_filepath", "id", "utterance_id", "utt_id", "utt", "key", "audio", "file", "path")


@dataclass(frozen=True, slots=True)
class TranscriptFile:
    """Transcripts by name; `named` is false where the file has no names, only an order."""

    path: Path
    texts: dict[str, str]
    named: bool = True
    speakers: dict[str, str] = field(default_factory=dict)


def format_of(path: Path, encoding: str = "utf-8") -> str:
    """The format of a file by its ending, or by its first lines."""
    if path.suffix.lower() in SUFFIXES:
        return SUFFIXES[path.suffix.lower()]
    lines = [line for line in read_text(path, encoding).split("\n", 50)[:50] if line.strip()]
    if lines and lines[0].lstrip().startswith(("{", "[{")) and '"' in lines[0]:
        return "json"
    names = [found[1] for line in lines if (found := re.search(r"\(([^()\s]+)\)\s*$", line))]
    if lines and len(set(names)) == len(lines):
        return "trn"
    if lines and all("\t" in line for line in lines):
        return "tsv"
    return "kaldi" if path.name == "text" else "text"


def read_transcripts(
    path: Path, format_name: str = "", *, hypothesis: bool = False, encoding: str = "utf-8", beside: bool = False
) -> TranscriptFile:
    """The transcripts of a file; `hypothesis` says which of two texts in a line of JSON is meant.

    beside: the lines hold references too, so that "text" is not the hypothesis.

    STM and CTM give one text for each recording.
    """
    kind = format_name or format_of(path, encoding)
    if kind == "trn":
        return TranscriptFile(path, read_trn(path, encoding))
    if kind == "stm":
        segments = (each for each in read_stm(path, encoding).segments if not each.ignored)
        return TranscriptFile(path, joined_by_recording((each.recording, each.text) for each in segments))
    if kind == "ctm":
        words = (each for each in read_ctm(path, encoding) if not each.mark)
        return TranscriptFile(path, joined_by_recording((each.recording, each.word) for each in words))
    if kind == "json":
        keys = HYPOTHESIS_KEYS if hypothesis else REFERENCE_KEYS
        return read_json_transcripts(path, HYPOTHESIS_KEYS[:-2] if hypothesis and beside else keys, encoding)
    lines = read_text(path, encoding).removesuffix("\n").split("\n")
    if kind == "text":
        return TranscriptFile(path, {f"line {n}": line.strip() for n, line in enumerate(lines, 1)}, named=False)
    texts: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            name, *rest = line.rstrip("\r").split("\t" if kind == "tsv" else None, 2 if kind == "tsv" else 1)
            if texts.setdefault(name, rest[0] if rest else "") != (rest[0] if rest else ""):
                raise ScoringError(
                    f'{path}:{number}: "{one_line(name, 60)}" is there twice with other words. Leave one of them'
                )
    return TranscriptFile(path, texts)


def first_readings(file: TranscriptFile) -> TranscriptFile:
    """The file with the first of all alternates, and without the parentheses of deletable words."""
    texts = {
        name: " ".join(re.sub(r"^\((.+)\)$", r"\1", word.text) for word in first_reading(parse_transcript(text)))
        for name, text in file.texts.items()
    }
    return replace(file, texts=texts)


def joined_by_recording(parts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The texts of each recording, one after the other."""
    texts: dict[str, list[str]] = {}
    for recording, text in parts:
        texts.setdefault(recording, []).append(text)
    return {recording: " ".join(each) for recording, each in texts.items()}


def read_json_transcripts(path: Path, keys: tuple[str, ...], encoding: str = "utf-8") -> TranscriptFile:
    """Transcripts from JSON lines, or from a JSON array, of objects that have a text under one of the keys."""
    text = read_text(path, encoding)
    whole = text.lstrip().startswith("[")
    texts: dict[str, str] = {}
    speakers: dict[str, str] = {}
    named = True
    for number, line in enumerate([text] if whole else text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ScoringError(f"{path}:{number}: not JSON ({reason_of(error)}). Give one object a line") from None
        for place, each in enumerate(found if whole else [found], 1):
            where = f"{path}:{place if whole else number}"
            name, words = named_text(each, keys, where)
            named = named and bool(name)
            name = name or f"line {place if whole else number}"
            if texts.setdefault(name, words) != words:
                raise ScoringError(
                    f'{where}: "{one_line(name, 60)}" is there twice with other words. Leave one of them'
                )
            if isinstance(each.get("speaker"), str | int):
                speakers[name] = str(each["speaker"])
    return TranscriptFile(path, texts, named, speakers)


def named_text(each: Any, keys: tuple[str, ...], where: str) -> tuple[str, str]:
    """The name ("" where there is none) and the text of a JSON object."""
    if not isinstance(each, Mapping):
        raise ScoringError(f"{where}: a JSON {type(each).__name__}, expected an object with {' or '.join(keys[:2])}")
    words = next((each[key] for key in keys if isinstance(each.get(key), str)), None)
    if words is None:
        raise ScoringError(f'{where}: no text. Expected one of the keys "{keys[0]}", "{keys[1]}", "{keys[2]}"')
    name = next((str(each[key]) for key in NAME_KEYS if isinstance(each.get(key), str | int)), "")
    parts = [f"{key} {each[key]}" for key in ("offset", "channel") if each.get(key)]
    return " ".join([name, *parts]) if name else "", words


def paired_transcripts(
    reference: TranscriptFile, hypothesis: TranscriptFile
) -> tuple[list[str], list[str], list[str], int]:
    """Names, references and hypotheses in the reference's order, and how many references have no hypothesis.

    A missing hypothesis is an empty one: all its words count as deleted. Files with names are paired by them, by the
    last part of paths where whole paths differ; others by their order.
    """
    if not any(reference.texts.values()):
        raise ScoringError(f"{reference.path}: it has no words. Give a file of transcripts")
    if not (reference.named and hypothesis.named):
        if len(reference.texts) != len(hypothesis.texts):
            raise ScoringError(
                f"{hypothesis.path}: {len(hypothesis.texts)} lines, {reference.path} has {len(reference.texts)}. "
                "Files without names must have a line for each other's"
            )
        names = reference.texts if reference.named else hypothesis.texts
        return list(names), list(reference.texts.values()), list(hypothesis.texts.values()), 0
    found: dict[str, str] = hypothesis.texts
    if not found.keys() & reference.texts.keys():
        found = renamed(found, reference.texts)
    if extra := [name for name in found if name not in reference.texts]:
        raise ScoringError(
            f"{hypothesis.path}: {len(extra)} utterances have no reference in {reference.path}, "
            f'the first is "{one_line(extra[0], 60)}"'
        )
    missing = sum(name not in found for name in reference.texts)
    ordered = list(reference.texts)
    return ordered, list(reference.texts.values()), [found.get(name, "") for name in ordered], missing


def renamed(found: dict[str, str], names: Iterable[str]) -> dict[str, str]:
    """The texts under those of the names whose last part, without ending and capitals, is that of their own."""

    def short(name: str) -> str:
        return PurePath(name).stem.lower()

    full = {short(name): name for name in names}
    texts = {short(name): text for name, text in found.items()}
    if len(texts) < len(found) or not texts.keys() & full.keys():
        return found
    return {full.get(name, name): text for name, text in texts.items()}


def hidden_names(*files: TranscriptFile) -> bool:
    """Whether the lines of text files begin with the same names: words with a digit in them, each once."""
    firsts = [[text.split(None, 1)[0] for text in file.texts.values() if text] for file in files]
    named = all(len(set(each)) == len(each) and all(re.search(r"\d", word) for word in each) for each in firsts)
    return named and set(firsts[0]) == set(firsts[1]) and len(firsts[0]) > 1
