"""What `transcribe` does to a list of recordings, on this machine or on one of many."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carnelian.commands.options import RecognizerOptions
from carnelian.commands.transcript_output import OutputOptions
from carnelian.console import bar, note
from carnelian.errors import CarnelianError
from carnelian.files import cache_folder, one_line, reading, written

if TYPE_CHECKING:
    from carnelian.data.utterance import Utterance
    from carnelian.inference.recognizer import Recognized, Recognizer

WINDOW = 256  # utterances sorted by length together: enough for full batches, few enough that results come soon
WINDOW_SECONDS = 900.0
#: of a list whose shards are given out to workers: utterances in a shard, unless that makes fewer shards than this
SHARD_UTTERANCES, FEWEST_SHARDS = 256, 64
FOLDER_FILE = "transcription.json"  # of the folder of all shards: what they were made with


@dataclass(frozen=True, slots=True)
class ListShard:
    """A part of a list of recordings: the one of number `index`, from 1 on, of `count`."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def select(self, listed: "list[Utterance]", whole_recordings: bool) -> "list[Utterance]":
        """The shard's utterances: every `count`-th of them, or those of every `count`-th recording."""
        from carnelian.data.sources import by_recording

        if not whole_recordings:
            return listed[self.index - 1 :: self.count]
        return [each for recording in by_recording(listed)[self.index - 1 :: self.count] for each in recording]


def parse_shard(text: str) -> ListShard:
    """Returns the shard that "3/8" names; CarnelianError for what names none."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise CarnelianError(f"--shard {text}: expected i/n, the part i from 1 on of n, such as 3/8")
    return ListShard(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class Transcription:
    """A call of `transcribe`: what is recognized with what, and where the transcripts go. Workers get it as it is."""

    model: Path
    sources: tuple[Path, ...]
    output: OutputOptions
    channels: str
    long_seconds: float
    options: RecognizerOptions
    #: recordings with the names under which they are shown, where these are not their paths
    names: Mapping[str, str] = field(default_factory=dict)

    def load(self) -> "Recognizer":
        """Returns the recognizer."""
        return self.options.load(self.model, self.output.used_activity)

    def listed(self) -> "list[Utterance]":
        """Returns the utterances of the sources; of recordings and folders their durations are not known yet."""
        from carnelian.data.sources import list_utterances

        return list_utterances(self.sources)

    def run(
        self, recognizer: "Recognizer", listed: "list[Utterance]", shard: ListShard | None = None
    ) -> tuple[int, int]:
        """Writes the transcripts of listed utterances, or of a shard of them; returns how many there were, and were left out.

        Those that cannot be read are named in notes.
        """
        from carnelian.data.sources import channel_choice, measure_utterances
        from carnelian.inference.unfinished import UnfinishedRecordings

        output = self.output
        recordings = list(dict.fromkeys(each.audio_filepath for each in listed))
        if shard is not None:
            listed = shard.select(listed, whole_recordings=output.file_each)
            output = output.of_shard(shard.index, shard.count)
        utterances, _, unread = measure_utterances(listed, channel_choice(self.channels))
        count = len(utterances) + len(unread)
        kept = None if self.names else UnfinishedRecordings(cache_folder() / "unfinished")
        settings = {"batch_seconds": self.options.batch_seconds, "long_seconds": self.long_seconds, "unfinished": kept}
        recognize = partial(recognize_groups, recognizer, unread=unread, settings=settings)
        output.write(utterances, recognize, self.changing(), recordings=recordings, names=self.names)
        if kept:
            kept.remove()
        return count, len(unread)

    def shard_count(self, listed: "list[Utterance]") -> int:
        """Returns in how many shards the list is given out to workers."""
        parts = len({each.audio_filepath for each in listed}) if self.output.file_each else len(listed)
        return max(1, min(parts, max(FEWEST_SHARDS, -(-len(listed) // SHARD_UTTERANCES))))

    def claim_folder(self, listed: "list[Utterance]", shards: int) -> None:
        """Makes the folder of all shards. Raises CarnelianError for one that was begun with another list, or other settings."""
        out = self.output.out
        if out is None or (out.exists() and not out.is_dir()):
            raise CarnelianError("--shard, --engine: the transcripts of all shards need a folder. Give --out FOLDER")
        digest = hashlib.blake2b(digest_size=8)
        for each in listed:
            digest.update(
                repr((each.audio_filepath, each.offset, each.duration, each.more.get("channel"))).encode(
                    "utf-8", "replace"
                )
            )
        wanted = {"shards": shards, "list": digest.hexdigest(), "--format": self.output.format, **self.changing()}
        path = out / FOLDER_FILE
        if path.exists():
            with reading(path, "the settings of a folder of transcripts"):
                found = json.loads(path.read_text(encoding="utf-8"))
            for key in {**wanted, **found}:
                if found.get(key) != wanted.get(key):
                    raise CarnelianError(
                        f"{one_line(str(out), 150)}: begun with {key} {found.get(key)}, not {wanted.get(key)}. Give another --out"
                    )
            return
        with written(path) as file:
            json.dump(wanted, file, indent=1)

    def changing(self) -> dict[str, Any]:
        """What changes the transcripts, so that a call with something else is not gone on with."""
        changing = {"model": str(self.model), "--channels": self.channels, "--long-seconds": self.long_seconds}
        return changing | self.options.changing_transcripts()


def recognize_groups(
    recognizer: "Recognizer",
    groups: "list[list[Utterance]]",
    unread: list[str],
    settings: dict[str, Any],
) -> "Iterator[list[Recognized]]":
    """Yields the results of each group, in order; recordings that cannot be read are named, and added to `unread`.

    settings: those of `Recognizer.recognize`.
    """

    def leave_out(index: int, error: CarnelianError) -> None:
        unread.append(one_line(str(error)))
        note(f"carnelian: {unread[-1]}")

    with bar("transcribing", sum(map(len, groups))) as advance:
        for window in cut_windows(groups):
            together = [utterance for group in window for utterance in group]
            by_index = {}
            for each in recognizer.recognize(together, unread=leave_out, **settings):
                by_index[each.index] = each
                advance()
            first = 0
            for group in window:
                results = [by_index[index] for index in range(first, first + len(group)) if index in by_index]
                first += len(group)
                if results:
                    yield results


def cut_windows(groups: "list[list[Utterance]]") -> "Iterator[list[list[Utterance]]]":
    """The groups in windows of about WINDOW utterances, or WINDOW_SECONDS of audio, whose results are written together."""
    window: list[list[Utterance]] = []
    count, seconds = 0, 0.0
    for group in groups:
        window.append(group)
        count, seconds = count + len(group), seconds + sum(utterance.duration for utterance in group)
        if count >= WINDOW or seconds >= WINDOW_SECONDS:
            yield window
            window, count, seconds = [], 0, 0.0
    if window:
        yield window
