"""Where transcripts go, and in which format: the options that say so, and the writing."""

import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from carnelian.data.text.captions import FORMATS
from carnelian.errors import CarnelianError
from carnelian.files import check_outputs, one_line, written

if TYPE_CHECKING:
    from carnelian.data.transcript import Transcript
    from carnelian.data.utterance import Utterance
    from carnelian.inference.recognizer import Recognized

OUT_HELP = "a file; or a folder, for a file of each recording. By default standard output"
FILE_SUFFIXES = {"text": "txt", "jsonl": "json"}  # of a file for each recording; the others are called as their format
SUBTITLES = ("srt", "vtt")
#: groups of utterances to their results, in order; those of a group that cannot be read are left out
RecognizeGroups = Callable[["list[list[Utterance]]"], "Iterable[list[Recognized]]"]


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Options of the output of `transcribe`; the command line makes one option of each field."""

    format: Annotated[str, f"one of {', '.join(FORMATS)}, or all: a file of each kind for each recording"] = "text"
    out: Annotated[Path | None, OUT_HELP] = None
    ctm_file: Annotated[str, "the CTM's first column: stem (the recording's name without suffix) or path"] = "stem"
    overwrite: Annotated[bool, "replace outputs that exist"] = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS and self.format != "all":
            raise CarnelianError(f'--format "{self.format}": no such format. Known: {", ".join(FORMATS)}, all')
        if self.ctm_file not in ("stem", "path"):
            raise CarnelianError(f'--ctm-file "{self.ctm_file}": expected stem or path')

    @property
    def in_folder(self) -> bool:
        """Whether each recording gets files of its own, however many there are."""
        return self.format == "all" or (self.out is not None and self.out.is_dir())

    def check(self) -> None:
        """Raises CarnelianError for an output that is known to be one file and cannot be written."""
        check_outputs(None if self.in_folder or self.format in SUBTITLES else self.out, overwrite=self.overwrite)

    def write(self, utterances: "list[Utterance]", recognize: RecognizeGroups) -> None:
        """Writes the transcripts of all utterances: to files for each recording, to one file, or to standard output."""
        from carnelian.data.sources import by_recording, conversations

        recordings = by_recording(utterances)
        if self.in_folder or (self.format in SUBTITLES and len(recordings) > 1):
            files = self.files([each[0].audio_filepath for each in recordings])
            for results in recognize(recordings):
                self.write_files(results, files[results[0].utterance.audio_filepath])
            return
        check_outputs(self.out, overwrite=self.overwrite)
        groups = recordings if self.format in SUBTITLES else conversations(utterances)
        with written(self.out, errors="backslashreplace") if self.out else nullcontext(sys.stdout) as file:
            for results in recognize(groups):
                file.write(self.lines(results, prefixed=self.format == "text" and len(groups) > 1))
                file.flush()

    def files(self, names: list[str]) -> dict[str, list[Path]]:
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
        check_outputs(*(path for paths in files.values() for path in paths), overwrite=self.overwrite)
        return files

    def write_files(self, results: "list[Recognized]", paths: list[Path]) -> None:
        """Writes a recording's transcript to its files, each in the format that its suffix says."""
        kinds = {FILE_SUFFIXES.get(each, each): each for each in FORMATS}
        for path in paths:
            with written(path, errors="backslashreplace") as file:
                file.write(self.piece(results, kinds[path.suffix[1:]] if self.format == "all" else self.format))

    def lines(self, results: "list[Recognized]", *, prefixed: bool) -> str:
        """The transcript of a group among others in one file, each line with the recording's name before it if `prefixed`."""
        prefix = f"{one_line(results[0].utterance.audio_filepath, 4096)}\t" if prefixed else ""
        lines = self.piece(results, self.format).removesuffix("\n").split("\n")
        return "".join(f"{prefix}{line}\n" for line in lines)

    def piece(self, results: "list[Recognized]", format: str) -> str:
        """What was recognized in a recording, or in a segment of it, in a format; a speaker for each channel that was chosen."""
        from carnelian.data.transcript import merge_segments

        first = results[0].utterance
        sides: dict[int | None, list[Transcript]] = {}
        for each in results:
            side = sides.setdefault(each.utterance.more.get("channel"), [])
            side.append(each.transcript.shifted(each.utterance.offset))
        channels = [channel for channel in sides if channel is not None]
        name = Path(first.audio_filepath).stem if format == "ctm" and self.ctm_file == "stem" else first.audio_filepath
        offset = {"offset": first.offset} if format == "jsonl" and len(results) == len(sides) else {}
        return FORMATS[format](name, *map(merge_segments, sides.values()), channels=channels, **offset)
