"""Where transcripts go, and in which format: the options that say so, and the writing."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

from carnelian.commands.options import VOICE_ACTIVITY_HELP
from carnelian.commands.transcript_file import is_complete, one_file, refuse_partial
from carnelian.console import note
from carnelian.data.text.captions import FORMATS
from carnelian.errors import CarnelianError
from carnelian.files import check_outputs, one_line, written

if TYPE_CHECKING:
    from carnelian.data.transcript import Transcript
    from carnelian.data.utterance import Utterance
    from carnelian.inference.recognizer import Recognized

OUT_HELP = "a file; or a folder, for a file of each recording. By default standard output"
PARAGRAPH_HELP = "text: seconds without speech at which the next line begins; 0: a line for each recording"
FILE_SUFFIXES = {"text": "txt", "jsonl": "json"}  # of a file for each recording; the others are called as their format
SUBTITLES = ("srt", "vtt")
NO_NAMES: Mapping[str, str] = MappingProxyType({})
#: groups of utterances to their results, in order; those of a group that cannot be read are left out
RecognizeGroups = Callable[["list[list[Utterance]]"], "Iterable[list[Recognized]]"]


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Options of the output of `transcribe`; the command line makes one option of each field."""

    format: Annotated[str, f"one of {', '.join(FORMATS)}, or all: a file of each kind for each recording"] = "text"
    out: Annotated[Path | None, OUT_HELP] = None
    ctm_file: Annotated[str, "the CTM's first column: stem (the recording's name without suffix) or path"] = "stem"
    overwrite: Annotated[bool, "replace outputs that exist"] = False
    resume: Annotated[bool, "go on where a call with the same --out was stopped: what is done is not done again"] = (
        False
    )
    paragraph_pause: Annotated[float, PARAGRAPH_HELP] = 0.0
    voice_activity: Annotated[str, VOICE_ACTIVITY_HELP] = "energy"

    def __post_init__(self) -> None:
        if self.format not in FORMATS and self.format != "all":
            raise CarnelianError(f'--format "{self.format}": no such format. Known: {", ".join(FORMATS)}, all')
        if self.ctm_file not in ("stem", "path"):
            raise CarnelianError(f'--ctm-file "{self.ctm_file}": expected stem or path')
        if not self.paragraph_pause >= 0:
            raise CarnelianError(f"--paragraph-pause {self.paragraph_pause:g}: expected seconds, 0 or more")
        if self.voice_activity != "energy":  # also where the output needs none, so that a slip is told
            from carnelian.inference.voice_activity import VOICE_ACTIVITIES

            if self.voice_activity not in VOICE_ACTIVITIES:
                known = ", ".join(VOICE_ACTIVITIES)
                raise CarnelianError(f'--voice-activity "{self.voice_activity}": no such choice. Known: {known}')

    @property
    def used_activity(self) -> str:
        """The voice activity that the output needs."""
        cut = self.file_each or self.paragraph_pause
        return self.voice_activity if cut else "none"

    @property
    def file_each(self) -> bool:
        """Whether each recording gets files of its own because of the format."""
        return self.format in (*SUBTITLES, "all")

    def of_shard(self, index: int, count: int) -> "OutputOptions":
        """Returns the options for a shard of a list, whose transcripts go on where a call was stopped.

        They go to one file of the folder `out`, or as ever to files for each recording.
        """
        if self.file_each or self.out is None:
            return replace(self, resume=True)
        suffix = "txt" if self.format == "text" else self.format
        return replace(self, out=self.out / f"{index:05d}-of-{count:05d}.{suffix}", resume=True)

    @property
    def in_folder(self) -> bool:
        """Whether each recording gets files of its own, however many there are."""
        return self.format == "all" or (self.out is not None and self.out.is_dir())

    def check(self) -> None:
        """Raises CarnelianError for an output that is known to be one file and cannot be written, and for options that contradict."""
        if self.resume and (self.out is None or self.overwrite):
            reason = (
                "--overwrite begins anew. Leave one of them out" if self.out else "has no effect without --out FILE"
            )
            raise CarnelianError(f"--resume: {reason}")
        if self.out is not None and not self.in_folder and self.format not in SUBTITLES:
            self.check_file(self.out)

    def check_file(self, out: Path) -> None:
        """Raises CarnelianError for one file that exists or was begun, unless it is to be replaced or gone on with."""
        check_outputs(out, overwrite=self.overwrite or self.resume)
        refuse_partial(out, resume=self.resume, overwrite=self.overwrite)

    def write(
        self,
        utterances: "list[Utterance]",
        recognize: RecognizeGroups,
        settings: dict[str, Any],
        *,
        recordings: Sequence[str],
        names: Mapping[str, str] = NO_NAMES,
    ) -> None:
        """Writes the transcripts of all utterances: to files for each recording, to one file, or to standard output.

        settings: what changes the transcripts, so that a call with others is not gone on with. recordings: all whose transcripts go
        to the same place, also by other calls. names: those of recordings that are not shown by their paths.
        """
        from carnelian.data.sources import by_recording, conversations

        own = by_recording(utterances)
        if self.in_folder or (self.format in SUBTITLES and len(recordings) > 1):
            files = self.files(recordings)
            left = [each for each in own if not (self.resume and all_exist(files[each[0].audio_filepath]))]
            note_done(len(own) - len(left), len(own))
            for results in recognize(left):
                self.write_files(results, files[results[0].utterance.audio_filepath], names)
            return
        groups = own if self.format in SUBTITLES else conversations(utterances)
        prefixed = self.format == "text" and max(len(groups), len(recordings)) > 1
        if self.out is None:
            for results in recognize(groups):
                sys.stdout.write(self.lines(results, names, prefixed=prefixed))
                sys.stdout.flush()
            return
        self.check_file(self.out)
        if self.resume and is_complete(self.out):
            note(f"{self.out}: is complete. Remove it to make it anew")
            return
        settings = {"--format": self.format, "--ctm-file": self.ctm_file, "names before lines": prefixed, **settings}
        settings |= {"--paragraph-pause": self.paragraph_pause, "--voice-activity": self.used_activity}
        with one_file(self.out, settings, resume=self.resume) as file:
            left = file.left(groups)
            note_done(len(groups) - len(left), len(groups))
            for results in recognize(left):
                file.add([each.utterance for each in results], self.lines(results, names, prefixed=prefixed))

    def files(self, names: Sequence[str]) -> dict[str, list[Path]]:
        """The files to write for each recording, none of which exists; CarnelianError where two would be one."""
        from carnelian.data.sources import distinct_stems

        if self.out is None:
            raise CarnelianError(
                f"--format {self.format}: subtitles of {len(names)} recordings need a folder. Give --out FOLDER"
            )
        formats = FORMATS if self.format == "all" else [self.format]
        suffixes = [FILE_SUFFIXES.get(each, each) for each in formats]
        files = {
            name: [self.out / f"{stem}.{suffix}" for suffix in suffixes]
            for name, stem in zip(names, distinct_stems(names))
        }
        check_outputs(*(path for paths in files.values() for path in paths), overwrite=self.overwrite or self.resume)
        return files

    def write_files(self, results: "list[Recognized]", paths: list[Path], names: Mapping[str, str]) -> None:
        """Writes a recording's transcript to its files, each in the format that its suffix says."""
        kinds = {FILE_SUFFIXES.get(each, each): each for each in FORMATS}
        for path in paths:
            with written(path, errors="backslashreplace") as file:
                file.write(self.piece(results, kinds[path.suffix[1:]] if self.format == "all" else self.format, names))

    def lines(self, results: "list[Recognized]", names: Mapping[str, str], *, prefixed: bool) -> str:
        """The transcript of a group among others in one file, each line with the recording's name before it if `prefixed`."""
        path = results[0].utterance.audio_filepath
        prefix = f"{one_line(names.get(path, path), 4096)}\t" if prefixed else ""
        return "".join(f"{prefix}{line}\n" for line in self.piece(results, self.format, names).split("\n")[:-1])

    def piece(self, results: "list[Recognized]", format: str, names: Mapping[str, str]) -> str:
        """What was recognized in a recording, or in a segment of it, in a format; a speaker for each channel that was chosen."""
        from carnelian.data.transcript import merge_segments

        first = results[0].utterance
        sides: dict[int | None, list[Transcript]] = {}
        for each in results:
            side = sides.setdefault(each.utterance.more.get("channel"), [])
            side.append(each.transcript.shifted(each.utterance.offset))
        channels = [channel for channel in sides if channel is not None]
        name = names.get(first.audio_filepath, first.audio_filepath)
        if format == "ctm" and self.ctm_file == "stem":
            name = Path(name).stem
        more = {"offset": first.offset} if format == "jsonl" and len(results) == len(sides) else {}
        if format == "text":
            more = {"paragraph_pause": self.paragraph_pause}
        return FORMATS[format](name, *map(merge_segments, sides.values()), channels=channels, **more)


def all_exist(paths: Iterable[Path]) -> bool:
    """Whether there is a file at each of the paths."""
    return all(path.exists() for path in paths)


def note_done(count: int, total: int) -> None:
    """Says how many were done by a call that is gone on with."""
    if count:
        note(f"{count} of {total} were transcribed before")
