"""One file for the transcripts of all recordings, which keeps what is done when the call is stopped, and goes on."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from carnelian.console import note
from carnelian.errors import CarnelianError
from carnelian.files import one_line, reading, try_lock

if TYPE_CHECKING:
    from carnelian.data.utterance import Utterance

PARTIAL_SUFFIX, DONE_SUFFIX = ".partial", ".partial.done"


class OneFile:
    """A file made as FILE.partial, which holds whole pieces.

    FILE.partial.done says in JSON lines with which settings it was begun, and then of which group of utterances each piece is and
    where it ends: what follows the last of these ends was cut by a kill, and is written again.
    """

    def __init__(self, file: IO[bytes], done: IO[bytes], finished: "Counter[str]"):
        self.file, self.done, self.finished = file, done, finished
        self.count = finished.total()

    def left(self, groups: "list[list[Utterance]]") -> "list[list[Utterance]]":
        """Returns the groups of utterances that were not done before."""
        found, before = [], Counter(self.finished)
        for group in groups:
            if before[key := key_of_group(group)]:
                before[key] -= 1
            else:
                found.append(group)
        return found

    def add(self, group: "Sequence[Utterance]", piece: str) -> None:
        """Writes the piece of a group."""
        self.file.write(piece.encode("utf-8", "backslashreplace"))
        self.file.flush()
        self.done.write(json.dumps({"group": key_of_group(group), "end": self.file.tell()}).encode() + b"\n")
        self.done.flush()
        self.count += 1


def key_of_group(group: "Sequence[Utterance]") -> str:
    """Names the utterances that are written as one piece: those of a recording, or the channels of a segment."""
    first = group[0]
    return json.dumps([first.audio_filepath, round(first.offset, 6), round(first.duration, 6)])


def refuse_partial(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Raises CarnelianError where a call that was stopped has left transcripts, which are neither gone on with nor replaced."""
    partial = with_suffix(out, PARTIAL_SUFFIX)
    if overwrite or not partial.exists() or not partial.stat().st_size:
        return
    name = one_line(str(partial), 200)
    if not with_suffix(out, DONE_SUFFIX).exists():
        raise CarnelianError(f"{name}: exists, and nothing says what is in it. Move it away, or give --overwrite")
    if not resume:
        raise CarnelianError(
            f"{name}: a call that was stopped left it. Give --resume to go on, or --overwrite to begin anew"
        )


def is_complete(out: Path) -> bool:
    """Whether a file of transcripts is there, and none that is being made."""
    return out.is_file() and not with_suffix(out, PARTIAL_SUFFIX).exists()


def with_suffix(path: Path, suffix: str) -> Path:
    """Returns the path with more at the end of its name."""
    return path.with_name(path.name + suffix)


@contextmanager
def one_file(out: Path, settings: dict[str, Any], *, resume: bool) -> Iterator[OneFile]:
    """Gives the output that makes a file for all recordings; the file takes its name when the body has ended well.

    settings: what changes the transcripts; those of a call that is resumed must be the same. After an error, a signal or a kill
    FILE.partial keeps what was done.
    """
    partial, journal = with_suffix(out, PARTIAL_SUFFIX), with_suffix(out, DONE_SUFFIX)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with open(journal, "ab") as done, open(partial, "ab") as file:
            held = True
            with suppress(OSError):  # some network file systems have no locks
                held = try_lock(done.fileno())
            if not held:
                raise CarnelianError(
                    f"{one_line(str(partial), 200)}: another process writes it. Wait for it, or stop it"
                )
            finished, end, journal_end = read_journal(journal, settings, partial) if resume else (Counter[str](), 0, 0)
            file.truncate(end)
            done.truncate(journal_end)
            if not journal_end:
                done.write(json.dumps({"settings": settings}).encode() + b"\n")
                done.flush()
            output = OneFile(file, done, finished)
            try:
                yield output
            except BaseException:
                leave_partial(output.count, partial, journal)
                raise
            os.fsync(file.fileno())
        partial.replace(out)
        journal.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise CarnelianError(
            one_line(f"{partial}: could not be written ({reason}). Make room, and go on with --resume")
        ) from None


def leave_partial(count: int, partial: Path, journal: Path) -> None:
    """Says what a call that is stopped leaves; without a transcript it leaves nothing."""
    if count:
        note(f"{count} transcripts are kept in {partial}: the same command with --resume goes on")
        return
    for path in (partial, journal):
        with suppress(OSError):
            path.unlink()


def read_journal(journal: Path, settings: dict[str, Any], partial: Path) -> tuple["Counter[str]", int, int]:
    """Returns which groups are done, the end of the last one's piece, and the end of its line in the journal.

    Raises CarnelianError where the call was begun with other settings.
    """
    finished: Counter[str] = Counter()
    end, size = 0, partial.stat().st_size
    first, *lines = journal.read_bytes().split(b"\n")
    if not lines:  # killed before the first line was there
        return finished, 0, 0
    with reading(journal, "the log of a call that was stopped"):
        before, position = json.loads(first)["settings"], len(first) + 1
        for line in lines[:-1]:  # the last one is empty, or was cut
            entry = json.loads(line)
            if entry["end"] > size:  # after a power failure
                break
            finished[entry["group"]] += 1
            end, position = entry["end"], position + len(line) + 1
    for key in {**settings, **before}:
        if before.get(key) != settings.get(key):
            raise CarnelianError(
                f"{partial}: begun with {key} {before.get(key)}, not {settings.get(key)}. Give the same again, or --overwrite"
            )
    return finished, end, position
