"""What a user names to be transcribed: recordings, folders of recordings, manifests."""

from pathlib import Path

from carnelian.console import note
from carnelian.data.audio import AUDIO_SUFFIXES, audio_info
from carnelian.data.utterance import Manifest, Utterance
from carnelian.errors import AudioError, CarnelianError


def find_utterances(sources: list[Path]) -> tuple[list[Utterance], list[str]]:
    """The utterances of files, folders and manifests, and a line for each recording that cannot be opened."""
    utterances, unread = [], []
    for source in sources:
        if source.suffix in (".jsonl", ".json"):
            utterances += list(Manifest(source))
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
                utterances.append(Utterance(str(path), audio_info(path).duration))
            except AudioError as error:
                note(f"carnelian: {error}")
                unread.append(str(error))
    return utterances, unread
