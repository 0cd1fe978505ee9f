"""One's own recordings: a tree of audio with `.txt` beside it, or a CSV or TSV that lists them."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from carnelian.console import note
from carnelian.corpora.hold_out import with_speakers
from carnelian.data.recording import AUDIO_SUFFIXES, UNREAD_SUFFIXES
from carnelian.data.sources import channel_choice, distinct_stems, walk_files, walk_recordings
from carnelian.data.text.tables import PATHS, Table, read_listing
from carnelian.data.text.text_files import read_corpus_lines
from carnelian.data.utterance import LONGEST_DURATION, Utterance
from carnelian.errors import ManifestError
from carnelian.file_kinds import misplaced
from carnelian.files import is_file, one_line

LISTS = {".csv", ".tsv"}
NOT_AUDIO = {
    ".txt",
    ".json",
    ".jsonl",
    ".lab",
    ".textgrid",
    ".srt",
    ".vtt",
    ".ctm",
    ".csv",
    ".tsv",
    ".md",
    ".xml",
    ".html",
}
SUBSETS = {"train", "dev", "valid", "validation", "test", "eval"}
TEXT_COLUMNS = ("text", "transcript", "transcription", "sentence")
COLUMNS = {
    "audio": PATHS,
    "text": TEXT_COLUMNS,
    "speaker": ("speaker", "speaker_id", "client_id", "speaker_name", "spk", "spk_id", "reader", "user_id"),
    "channel": ("channel",),
    "offset": ("offset", "start", "start_time", "begin"),
    "duration": ("duration",),
    "end": ("end", "end_time", "stop"),
}
TURN = re.compile(r"(?P<side>[A-Z]|\d{1,2})\s*:\s*(?P<words>.*)")  # "A: hello", in the text of a conversation
AUDIO_FOLDERS = ("", "clips", "wavs", "wav", "audio")  # where the recordings lie, seen from their list


def folder(source: Path, *, channels: str = "", speaker_pattern: str = "") -> dict[str, Iterator[Utterance]]:
    """The subsets of one's own recordings.

    A CSV or TSV is a subset with its file's name; a tree's subsets are its folders train, dev, test, or else it is the
    subset "all". A folder with lists in it is read by its lists; those without recordings or texts are skipped, and noted.

    channels: of every recording take "1", "2", ... or the average ("mix", the default); "separate" makes an utterance of each
    channel for which there is a text of its own (see `texts_of_channels`). A list's column "channel" says it for each line.
    speaker_pattern: finds the speaker in each recording's path (see `with_speakers`); without one it is in a list's column, or the
    name of the folder in which a tree has the recording.
    """
    chosen = channel_choice(channels)
    subsets = read_subsets(source, chosen == "separate")
    if speaker_pattern:
        root = source if source.is_dir() else source.parent
        subsets = {name: with_speakers(each, speaker_pattern, root) for name, each in subsets.items()}
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
        if other := misplaced(source, "a tree of audio or a CSV"):
            raise ManifestError(one_line(other))
        raise ManifestError(f"{source}: no such folder. Give a tree of audio with .txt files, or a CSV or TSV")
    lists = sorted(path for path in source.iterdir() if path.suffix.lower() in LISTS and path.is_file())
    if lists:
        useful = [path for path in lists if {"audio", "text"} <= columns_of(read_listing(path)).keys()]
        if skipped := [path.name for path in lists if useful and path not in useful]:
            note(one_line(f"{source}: {', '.join(skipped)} list no recordings with texts and are skipped"))
        names = distinct_stems([str(path) for path in useful or lists])
        return {name.replace(".", "-"): read_list(path) for name, path in zip(names, useful or lists)}
    subsets = sorted(path for path in source.iterdir() if path.is_dir() and path.name.lower() in SUBSETS)
    if not subsets:
        return {"all": read_tree(source, separate)}
    others = len(walk_recordings(source)[0]) - sum(len(walk_recordings(path)[0]) for path in subsets)
    if others > 0:
        note(
            f"{source}: {others} recordings are in none of {', '.join(path.name for path in subsets)} and are left out"
        )
    return {path.name: read_tree(path, separate) for path in subsets}


def read_tree(source: Path, separate: bool = False) -> Iterator[Utterance]:
    """An utterance for each recording in the tree with a `.txt` of the same name beside it; or, separate, for each channel.

    Where recordings lie in folders, the name of the folder is the speaker. What is left out is counted in a note.
    """
    silent: list[Path] = []
    others: Counter[str] = Counter()
    found = 0
    for parent, names in walk_files(source):
        texts = {Path(name).stem: parent / name for name in names if Path(name).suffix.lower() == ".txt"}
        speaker = {"speaker": parent.name} if parent != source else {}
        for path in (parent / name for name in names):
            suffix = path.suffix.lower()
            if suffix not in AUDIO_SUFFIXES:
                if suffix in UNREAD_SUFFIXES or (path.stem in texts and suffix not in NOT_AUDIO):
                    others[suffix or "without suffix"] += 1
                continue
            sides = texts_of_channels(path) if separate else {}
            for number, words in sorted(sides.items()):  # each side of a conversation is a speaker
                more = {"channel": number, "speaker": f"{path.stem}-{ascii_uppercase[number]}"}
                yield Utterance(str(path), 0.0, words, more=more)
            if not sides and path.stem in texts:
                sides = {0: " ".join(read_corpus_lines(texts[path.stem]))}
                yield Utterance(str(path), 0.0, sides[0], more=dict(speaker))
            found += len(sides)
            if not sides:
                silent.append(path)
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common())
    if not found:
        unread = f" ({kinds} cannot be read: convert them)" if kinds else ""
        raise ManifestError(
            f"{source}: {len(silent)} recordings and no text{unread}. Put NAME.txt beside each NAME.wav"
        )
    if silent:
        first = one_line(str(silent[0]))
        note(f"{source}: {len(silent)} recordings have no .txt beside them and are left out; the first is {first}")
    if kinds:
        note(f"{source}: {kinds} left out, which cannot be read; convert them (ffmpeg -i FILE out.wav)")


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
    return (
        int(name) - 1 if name.isdecimal() and len(name) < 10 else ascii_uppercase.find(name) if len(name) == 1 else -1
    )


def columns_of(table: Table) -> dict[str, str]:
    """The columns of a list that are used: what each is for, and its name."""
    found = {use: next((name for name in some if name in table.names), "") for use, some in COLUMNS.items()}
    return {use: name for use, name in found.items() if name}


def read_list(path: Path) -> Iterator[Utterance]:
    """The utterances of a CSV or TSV with a line of column names, such as Common Voice's.

    A segment is in columns offset and duration, or start and end (seconds); a channel is a number or a letter. Numbers of channels
    count from 0 where a 0 is among them, from 1 otherwise.
    """
    table = read_listing(path)
    columns = columns_of(table)
    if "audio" not in columns or "text" not in columns:
        raise ManifestError(
            one_line(
                f"{path}: its columns are {one_line(', '.join(table.names), 80)}; expected one of path, audio, file_name, ... "
                f"and one of {', '.join(TEXT_COLUMNS)}. Name them so in the first line"
            )
        )
    rows = list(table.rows(columns["text"]))
    first = 0 if any(row.get(columns.get("channel", ""), "").strip() == "0" for _, row in rows) else 1
    for number, row in rows:
        given = {use: row[name].strip() for use, name in columns.items()}
        offset, duration = segment_of(given, f"{path}:{number}")
        more: dict[str, Any] = {"speaker": given["speaker"]} if given.get("speaker") else {}
        if channel := given.get("channel"):
            more["channel"] = (
                int(channel) - first if channel.isdecimal() and len(channel) < 10 else channel_number(channel)
            )
            if more["channel"] < 0:
                raise ManifestError(
                    one_line(f'{path}:{number}: channel "{channel}"; expected 1, 2, ... or A, B, .... Fix the line')
                )
        audio = find_audio(path.parent, given["audio"])
        yield Utterance(audio, duration, given["text"], offset, more)


def segment_of(given: Mapping[str, str], line: str) -> tuple[float, float]:
    """(offset, duration) in seconds of a row's segment; a duration of 0 lasts to the end of the recording. Raises ManifestError."""
    seconds = {}
    for use in ("offset", "duration", "end"):
        if given.get(use):
            try:
                parts = [float(part.replace(",", ".")) for part in given[use].split(":")]
                seconds[use] = sum(part * 60**power for power, part in enumerate(reversed(parts)))
            except ValueError:
                seconds[use] = math.nan
            if not 0 <= seconds[use] < LONGEST_DURATION:
                raise ManifestError(one_line(f'{line}: {use} "{given[use]}"; expected seconds. Fix the line'))
    offset = seconds.get("offset", 0.0)
    if "end" in seconds and "duration" not in seconds:
        if seconds["end"] <= offset:
            raise ManifestError(
                f"{line}: it ends at {seconds['end']:g} s, before it begins at {offset:g} s. Fix the line"
            )
        return offset, round(seconds["end"] - offset, 6)
    return offset, seconds.get("duration", 0.0)


def find_audio(folder: Path, name: str) -> str:
    """The path of a recording named in a list; where there is none, the path at which it was first sought."""
    paths = [folder / place / name for place in AUDIO_FOLDERS]
    return str(next((path for path in paths if is_file(str(path))), paths[0]))
