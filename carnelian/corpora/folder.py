"""One's own recordings: a tree of audio with `.txt` beside it, or a CSV or TSV that lists them."""

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any, TextIO

from carnelian.console import note
from carnelian.data.recording import AUDIO_SUFFIXES
from carnelian.data.sources import channel_choice
from carnelian.data.text.text_files import read_corpus_lines
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError

LISTS = {".csv", ".tsv"}
SUBSETS = {"train", "dev", "valid", "validation", "test", "eval"}
PATHS = ("audio_filepath", "wav_filename", "path", "audio", "audio_path", "file", "file_name", "filename", "wav")
TEXT_COLUMNS = ("text", "transcript", "transcription", "sentence")
SPEAKERS = ("speaker", "speaker_id", "client_id")
TURN = re.compile(r"(?P<side>[A-Z]|\d{1,2})\s*:\s*(?P<words>.*)")  # "A: hello", in the text of a conversation
BESIDE = ("", "clips", "wavs", "wav", "audio")  # where the recordings lie, seen from their list


def folder(source: Path, *, channel: str = "") -> dict[str, Iterator[Utterance]]:
    """The subsets of one's own recordings.

    A CSV or TSV is a subset with its file's name; a tree's subsets are its folders train, dev, test, or else it is the
    subset "all". A folder with lists in it is read by its lists; those without recordings or texts are skipped, and noted.

    channel: of every recording take "1", "2", ... or the average ("mix", the default); "separate" makes an utterance of each
    channel for which there is a text of its own (see `texts_of_channels`). A list's column "channel" says it for each line.
    """
    chosen = channel_choice(channel)
    subsets = read_subsets(source, chosen == "separate")
    if isinstance(chosen, int):
        return {name: with_channel(utterances, chosen) for name, utterances in subsets.items()}
    return subsets


def with_channel(utterances: Iterator[Utterance], channel: int) -> Iterator[Utterance]:
    """The utterances, read from one channel (0 is the first) where their list names none."""
    return (replace(each, more={"channel": channel} | each.more) for each in utterances)


def read_subsets(source: Path, separate: bool) -> dict[str, Iterator[Utterance]]:
    """The subsets of a list, a folder of lists, or a tree."""
    if source.suffix.lower() in LISTS:
        return {source.stem: read_list(source)}
    if not source.is_dir():
        raise ManifestError(f"{source}: no such folder. Give a tree of audio with .txt files, or a CSV or TSV")
    lists = sorted(path for path in source.iterdir() if path.suffix.lower() in LISTS)
    if lists:
        useful = [path for path in lists if {"audio", "text"} <= open_list(path, close=True).columns.keys()]
        if skipped := [path.name for path in lists if useful and path not in useful]:
            note(f"{source}: {', '.join(skipped)} list no recordings with texts and are skipped")
        return {path.stem: read_list(path) for path in useful or lists}
    subsets = sorted(path for path in source.iterdir() if path.is_dir() and path.name.lower() in SUBSETS)
    return {path.name: read_tree(path, separate) for path in subsets} or {"all": read_tree(source, separate)}


def read_tree(source: Path, separate: bool = False) -> Iterator[Utterance]:
    """An utterance for each recording in the tree with a `.txt` of the same name beside it; or, separate, for each channel."""
    silent, found = [], 0
    for parent, folders, names in os.walk(source):
        folders.sort()
        for path in (Path(parent, name) for name in sorted(names) if Path(name).suffix.lower() in AUDIO_SUFFIXES):
            sides = texts_of_channels(path) if separate else {}
            for number, words in sorted(sides.items()):  # each side of a conversation is a speaker
                more = {"channel": number, "speaker": f"{path.stem}-{ascii_uppercase[number]}"}
                yield Utterance(str(path), 0.0, words, more=more)
            if not sides and (text := path.with_suffix(".txt")).is_file():
                sides = {0: " ".join(read_corpus_lines(text))}
                yield Utterance(str(path), 0.0, sides[0])
            found += len(sides)
            if not sides:
                silent.append(path)
    if not found:
        raise ManifestError(f"{source}: {len(silent)} recordings and no text. Put NAME.txt beside each NAME.wav")
    if silent:
        note(f"{source}: {len(silent)} recordings have no .txt beside them and are left out; the first is {silent[0]}")


def texts_of_channels(path: Path) -> dict[int, str]:
    """The text of each channel of a recording NAME.wav, by its number from 0 on.

    It is NAME.1.txt or NAME.A.txt for the first, or the lines of NAME.txt that begin with "A:" or "1:".
    """
    texts = {}
    for number, letter in enumerate(ascii_uppercase):
        for suffix in (f".{number + 1}.txt", f".{letter}.txt"):
            if path.with_suffix(suffix).is_file():
                texts[number] = " ".join(read_corpus_lines(path.with_suffix(suffix)))
    whole = path.with_suffix(".txt")
    lines = read_corpus_lines(whole) if whole.is_file() and not texts else []
    turns = [TURN.fullmatch(line) for line in lines]
    if turns and all(turns):
        for turn in filter(None, turns):
            number = channel_number(turn["side"])
            texts[number] = f"{texts.get(number, '')} {turn['words']}".strip()
    return texts


def channel_number(name: str) -> int:
    """The number from 0 on of a channel that is called 1, 2, ... or A, B, ...; -1 for another name."""
    name = name.strip().upper()
    return int(name) - 1 if name.isdecimal() else ascii_uppercase.find(name) if len(name) == 1 else -1


@dataclass(frozen=True, slots=True)
class RecordingList:
    """A CSV or TSV, open behind its first line: names of all columns, and those that are used (audio, text, speaker, channel)."""

    file: TextIO
    names: list[str]
    columns: dict[str, str]
    delimiter: str


def open_list(path: Path, *, close: bool = False) -> RecordingList:
    """A list of recordings, opened (or, to look at its columns only, closed again)."""
    try:
        file = open(path, encoding="utf-8-sig", newline="")  # noqa: SIM115
        header = file.readline().rstrip("\r\n")
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}. Give a CSV or TSV of recordings") from None
    except UnicodeDecodeError as error:
        file.close()
        raise ManifestError(f"{path}: byte {error.start} is not UTF-8. Save the list as UTF-8") from None
    delimiter = "\t" if "\t" in header else max(",;|", key=header.count)
    names = [column.strip().strip('"').lower() for column in header.split(delimiter)]
    wanted = {"audio": PATHS, "text": TEXT_COLUMNS, "speaker": SPEAKERS, "channel": ("channel",)}
    found = {use: next((name for name in some if name in names), "") for use, some in wanted.items()}
    if close:
        file.close()
    return RecordingList(file, names, {use: name for use, name in found.items() if name}, delimiter)


def read_list(path: Path) -> Iterator[Utterance]:
    """The utterances of a CSV or TSV with a line of column names, such as Common Voice's."""
    opened = open_list(path)
    columns, tabs = opened.columns, opened.delimiter == "\t"
    with opened.file as file:
        if "audio" not in columns or "text" not in columns:
            raise ManifestError(
                f"{path}: its columns are {', '.join(opened.names)}; expected one of {', '.join(PATHS)} "
                f"and one of {', '.join(TEXT_COLUMNS)}. Name them so in the first line"
            )
        rows = csv.DictReader(
            file, opened.names, delimiter=opened.delimiter, quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
        )
        for row in rows:
            line = f"{path}:{rows.line_num + 1}"
            audio, text = row[columns["audio"]], row[columns["text"]]
            if audio is None or text is None:
                raise ManifestError(f"{line}: {len(opened.names)} columns expected, fewer found. Fix the line")
            more: dict[str, Any] = {}
            if speaker := row.get(columns.get("speaker", "")):
                more["speaker"] = speaker
            if channel := row.get(columns.get("channel", "")):
                more["channel"] = channel_number(channel)
                if more["channel"] < 0:
                    raise ManifestError(f'{line}: channel "{channel}"; expected 1, 2, ... or A, B, .... Fix the line')
            yield Utterance(find_audio(path.parent, audio.strip()), 0.0, text.strip(), more=more)


def find_audio(folder: Path, name: str) -> str:
    """The path of a recording named in a list; where there is none, the path at which it was first sought."""
    paths = [folder / place / name for place in BESIDE]
    return str(next((path for path in paths if path.is_file()), paths[0]))
