"""What a user names to be transcribed: recordings, folders of recordings, manifests, and which of their channels."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from carnelian.console import note
from carnelian.data.audio import audio_info
from carnelian.data.recording import AUDIO_SUFFIXES
from carnelian.data.utterance import Manifest, Utterance
from carnelian.errors import AudioError, CarnelianError


def channel_choice(option: str) -> int | str:
    """What `--channel` asks for: a channel's number from 0 on, "separate", or "mix"; AudioError for anything else."""
    if option in ("separate", "mix", ""):
        return option or "mix"
    if option.isdecimal() and 0 < int(option) <= 26:
        return int(option) - 1
    raise AudioError(f'--channel "{option}": not known. Give 1, 2, ..., mix (the average) or separate')


def find_utterances(sources: list[Path], channel: int | str = "mix") -> tuple[list[Utterance], list[str]]:
    """The utterances of files, folders and manifests, and a line for each recording that cannot be opened.

    channel: as `channel_choice` returns it; a manifest's own "channel" stands.
    """
    utterances: list[Utterance] = []
    unread = []
    mixed = 0
    for source in sources:
        if source.suffix in (".jsonl", ".json"):
            for utterance in Manifest(source):
                if channel == "mix" or "channel" in utterance.more:
                    utterances.append(utterance)
                else:
                    utterances += on_channels(utterance, audio_info(utterance.audio_filepath).channels, channel)
            continue
        paths = (
            sorted(path for path in source.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
            if source.is_dir()
            else [source]
        )
        if not paths:
            raise CarnelianError(
                f"{source}: no recordings in this folder. Looked for {', '.join(sorted(AUDIO_SUFFIXES))}"
            )
        for path in paths:
            try:
                info = audio_info(path)
                utterances += on_channels(Utterance(str(path), info.duration), info.channels, channel)
                mixed += channel == "mix" and info.channels > 1
            except AudioError as error:
                note(f"carnelian: {error}")
                unread.append(str(error))
    if mixed:
        note(f"{mixed} recordings have several channels, which are averaged. See --channel")
    return utterances, unread


def on_channels(utterance: Utterance, channels: int, chosen: int | str) -> list[Utterance]:
    """An utterance for the chosen channel, or for each one that is to be transcribed separately."""
    if chosen == "mix" or (chosen == "separate" and channels == 1):
        return [utterance]
    if isinstance(chosen, int) and chosen >= channels:
        raise AudioError(f"{utterance.audio_filepath}: no channel {chosen + 1}; it has {channels}. Give --channel mix")
    numbers = range(channels) if chosen == "separate" else [chosen]
    return [replace(utterance, more=utterance.more | {"channel": number}) for number in numbers]


def conversations(utterances: Iterable[Utterance]) -> list[list[Utterance]]:
    """The utterances, those that are the channels of one recording together."""
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
