"""What a user names to be transcribed: recordings, folders of recordings, manifests, and which of their channels."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from carnelian.console import note, track
from carnelian.data.audio import AudioInfo, audio_info
from carnelian.data.recording import AUDIO_SUFFIXES, UNREAD_SUFFIXES
from carnelian.data.utterance import Manifest, Utterance
from carnelian.errors import AudioError, CarnelianError
from carnelian.files import one_line
from carnelian.parallel import in_parallel

MANIFEST_SUFFIXES = (".jsonl", ".json")


def channel_choice(option: str) -> int | str:
    """What `--channels` asks for: a channel's number from 0 on, "separate", or "mix"; AudioError for anything else."""
    if option in ("separate", "mix", ""):
        return option or "mix"
    if option.isdecimal() and 0 < int(option) <= 26:
        return int(option) - 1
    raise AudioError(f'--channels "{option}": not known. Give 1, 2, ..., mix (the average) or separate')


def walk_recordings(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The recordings below a folder, linked folders included, and how many files have which suffix of recordings that are not read."""
    found: list[Path] = []
    others: Counter[str] = Counter()
    for parent, names in walk_files(folder):
        for path in (parent / name for name in names):
            suffix = path.suffix.lower()
            if suffix in AUDIO_SUFFIXES:
                found.append(path)
            elif suffix in UNREAD_SUFFIXES:
                others[suffix] += 1
    return sorted(found), others


def walk_files(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """(folder, names of its files in order) of a folder and all below it; links are followed, each folder is visited once."""
    visited = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders.sort()
        yield Path(parent), sorted(names)


def list_utterances(sources: Sequence[Path]) -> list[Utterance]:
    """The utterances of files, folders and manifests; the durations of files and folders are not known yet (0)."""
    listed: list[Utterance] = []
    for source in sources:
        if source.suffix in MANIFEST_SUFFIXES:
            listed += Manifest(source)
        elif source.is_dir():
            listed += [Utterance(str(path), 0.0) for path in recordings_of(source)]
        else:
            listed.append(Utterance(str(source), 0.0))
    return listed


def recordings_of(folder: Path) -> list[Path]:
    """The recordings below a folder; a note says which others are left out. Raises CarnelianError where there are none."""
    paths, others = walk_recordings(folder)
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common())
        note(f"{folder}: {kinds} left out; convert them (ffmpeg -i FILE out.wav)")
    if not paths:
        raise CarnelianError(f"{folder}: no recordings in this folder. Looked for {', '.join(sorted(AUDIO_SUFFIXES))}")
    return paths


def measure_utterances(
    listed: Sequence[Utterance], channel: int | str = "mix"
) -> tuple[list[Utterance], list[int], list[str]]:
    """(utterances, indices, unread): the listed ones with their durations, on the chosen channels; which of the list each is; and a
    line for each that cannot be opened, which is also noted."""

    def measured(path: str) -> AudioInfo | CarnelianError:
        try:
            return audio_info(path)
        except CarnelianError as error:
            return error

    utterances: list[Utterance] = []
    indices: list[int] = []
    unread: list[str] = []
    mixed = set()
    paths = list(dict.fromkeys(each.audio_filepath for each in listed if not is_in_shard(each)))
    infos = dict(zip(paths, track(in_parallel(measured, paths), "reading headers", len(paths))))
    for index, each in enumerate(listed):
        info = infos.get(each.audio_filepath)
        try:
            if info is None:  # in a shard, which is read once, in order
                info = AudioInfo(each.duration, 1, 1, 1)
            if isinstance(info, CarnelianError):
                raise info
            if not each.duration:
                each = replace(each, duration=max(0.0, info.duration - each.offset))
            if channel == "mix" and info.channels > 1 and "channel" not in each.more:
                mixed.add(each.audio_filepath)
            sides = on_channels(each, info.channels, channel)
            utterances += sides
            indices += [index] * len(sides)
        except CarnelianError as error:
            note(f"carnelian: {one_line(str(error))}")
            unread.append(one_line(str(error)))
    if mixed:
        note(f"{len(mixed)} recordings have several channels, which are averaged. See --channels")
    return utterances, indices, unread


def is_in_shard(utterance: Utterance) -> bool:
    """Whether an utterance lies in a tar shard or at a URL."""
    path = utterance.audio_filepath
    return "shard_id" in utterance.more or ".tar/" in path or "://" in path


def on_channels(utterance: Utterance, channels: int, chosen: int | str) -> list[Utterance]:
    """An utterance for the chosen channel, or for each one that is to be transcribed separately."""
    if chosen == "mix" or "channel" in utterance.more or (chosen == "separate" and channels == 1):
        return [utterance]
    if isinstance(chosen, int) and chosen >= channels:
        raise AudioError(f"{utterance.audio_filepath}: no channel {chosen + 1}; it has {channels}. Give --channels mix")
    numbers = range(channels) if chosen == "separate" else [chosen]
    return [replace(utterance, more=utterance.more | {"channel": number}) for number in numbers]


def conversations(utterances: Iterable[Utterance]) -> list[list[Utterance]]:
    """The utterances, those that are the channels of one segment together."""
    found: list[list[Utterance]] = []
    for utterance in utterances:
        if found and same_conversation(found[-1][-1], utterance):
            found[-1].append(utterance)
        else:
            found.append([utterance])
    return found


def same_conversation(first: Utterance, second: Utterance) -> bool:
    """Whether the second is a further channel of what the first is a channel of."""
    if "channel" not in first.more or "channel" not in second.more:
        return False
    parts = [(each.audio_filepath, each.offset, each.duration) for each in (first, second)]
    return parts[0] == parts[1] and first.more["channel"] < second.more["channel"]


def by_recording(utterances: Iterable[Utterance]) -> list[list[Utterance]]:
    """The utterances, all segments and channels of one recording together."""
    found: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        found.setdefault(utterance.audio_filepath, []).append(utterance)
    return list(found.values())


def distinct_stems(paths: Sequence[str]) -> list[str]:
    """A name for each of several recordings' outputs: the stem, or where two are equal the whole name, or with its folders."""
    names = [Path(path).stem for path in paths]
    if len(set(map(str.casefold, names))) < len(names):
        names = [Path(path).name for path in paths]
    if len(set(map(str.casefold, names))) < len(names):
        shared = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
        relative = [os.path.relpath(os.path.abspath(path), shared) for path in paths]
        names = [os.path.splitext(path)[0].replace(os.sep, "-") for path in relative]
    if len(set(map(str.casefold, names))) < len(names):
        names = [path.replace(os.sep, "-") for path in relative]
    twice = [name for name, count in Counter(map(str.casefold, names)).items() if count > 1]
    if twice:
        raise CarnelianError(f'two recordings would be written as "{twice[0]}". Give them in two calls')
    return names
