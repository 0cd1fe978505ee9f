"""One's own recordings: a tree of audio with `.txt` beside it, or a CSV or TSV that lists them."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from carnelian.console import note
from carnelian.data.audio import AUDIO_SUFFIXES
from carnelian.data.text.text_files import read_corpus_lines
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError

LISTS = {".csv", ".tsv"}
SUBSETS = {"train", "dev", "valid", "validation", "test", "eval"}
PATHS = ("audio_filepath", "wav_filename", "path", "audio", "audio_path", "file", "file_name", "filename", "wav")
TEXT_COLUMNS = ("text", "transcript", "transcription", "sentence")
SPEAKERS = ("speaker", "speaker_id", "client_id")
BESIDE = ("", "clips", "wavs", "wav", "audio")  # where the recordings lie, seen from their list


def folder(source: Path) -> dict[str, Iterator[Utterance]]:
    """The subsets of one's own recordings.

    A CSV or TSV is a subset with its file's name; a tree's subsets are its folders train, dev, test, or else it is the
    subset "all". A folder with lists in it is read by its lists.
    """
    if source.suffix.lower() in LISTS:
        return {source.stem: read_list(source)}
    if not source.is_dir():
        raise ManifestError(f"{source}: no such folder. Give a tree of audio with .txt files, or a CSV or TSV")
    lists = sorted(path for path in source.iterdir() if path.suffix.lower() in LISTS)
    if lists:
        return {path.stem: read_list(path) for path in lists}
    subsets = sorted(path for path in source.iterdir() if path.is_dir() and path.name.lower() in SUBSETS)
    return {path.name: read_tree(path) for path in subsets} or {"all": read_tree(source)}


def read_tree(source: Path) -> Iterator[Utterance]:
    """An utterance for each recording in the tree with a `.txt` of the same name beside it."""
    silent, found = [], 0
    for parent, folders, names in os.walk(source):
        folders.sort()
        for path in (Path(parent, name) for name in sorted(names) if Path(name).suffix.lower() in AUDIO_SUFFIXES):
            if (text := path.with_suffix(".txt")).is_file():
                found += 1
                yield Utterance(str(path), 0.0, " ".join(read_corpus_lines(text)))
            else:
                silent.append(path)
    if not found:
        raise ManifestError(f"{source}: {len(silent)} recordings and no text. Put NAME.txt beside each NAME.wav")
    if silent:
        note(f"{source}: {len(silent)} recordings have no .txt beside them and are left out; the first is {silent[0]}")


def read_list(path: Path) -> Iterator[Utterance]:
    """The utterances of a CSV or TSV with a line of column names, such as Common Voice's."""
    try:
        file = open(path, encoding="utf-8-sig", newline="")  # noqa: SIM115
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}. Give a CSV or TSV of recordings") from None
    with file:
        header = file.readline().rstrip("\r\n")
        tabs = "\t" in header
        delimiter = "\t" if tabs else max(",;|", key=header.count)
        columns = [column.strip().strip('"').lower() for column in header.split(delimiter)]
        audio, text, speaker = (
            next((name for name in names if name in columns), "") for names in (PATHS, TEXT_COLUMNS, SPEAKERS)
        )
        if not audio or not text:
            raise ManifestError(
                f"{path}: its columns are {', '.join(columns)}; expected one of {', '.join(PATHS)} "
                f"and one of {', '.join(TEXT_COLUMNS)}. Name them so in the first line"
            )
        rows = csv.DictReader(file, columns, delimiter=delimiter, quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL)
        for row in rows:
            if row[audio] is None or row[text] is None:
                raise ManifestError(
                    f"{path}:{rows.line_num + 1}: {len(columns)} columns expected, fewer found. Mend it"
                )
            more = {"speaker": row[speaker]} if speaker and row[speaker] else {}
            yield Utterance(find_audio(path.parent, row[audio].strip()), 0.0, row[text].strip(), more=more)


def find_audio(folder: Path, name: str) -> str:
    """The path of a recording named in a list; where there is none, the path at which it was first sought."""
    paths = [folder / place / name for place in BESIDE]
    return str(next((path for path in paths if path.is_file()), paths[0]))
