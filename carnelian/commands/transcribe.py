"""Transcripts of recordings: `carnelian transcribe MODEL FILES|FOLDER|MANIFEST...`."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from carnelian.commands.live_transcription import LiveOptions, transcribe_live
from carnelian.commands.options import RecognizerOptions
from carnelian.console import note, track
from carnelian.data.text.captions import FORMATS
from carnelian.errors import AudioError, CarnelianError
from carnelian.files import check_outputs, one_line, written

if TYPE_CHECKING:
    from carnelian.data.transcript import Transcript
    from carnelian.data.utterance import Utterance
    from carnelian.inference.recognizer import Recognized, Recognizer

CHANNEL_HELP = "of recordings with several: 1, 2, ..., mix (the average), or separate (a speaker on each)"
OUT_HELP = "a file; or a folder, for a file of each recording. By default standard output"
WINDOW = 256  # utterances sorted by length together: enough for full batches, few enough that results come soon
FILE_SUFFIXES = {"text": "txt", "jsonl": "json"}  # of a file for each recording; the others are called as their format
SUBTITLES = ("srt", "vtt")


def transcribe(
    model: Annotated[Path, "a checkpoint, a run's folder for its last one, or an exported .onnx model"],
    sources: Annotated[
        list[Path], "recordings, folders of recordings, manifests (.jsonl, .json), or - for standard input"
    ],
    *,
    format: Annotated[str, f"one of {', '.join(FORMATS)}, or all: a file of each kind for each recording"] = "text",
    out: Annotated[Path | None, OUT_HELP] = None,
    channel: Annotated[str, CHANNEL_HELP] = "mix",
    ctm_file: Annotated[str, "the CTM's first column: stem (the recording's name without suffix) or path"] = "stem",
    overwrite: Annotated[bool, "replace outputs that exist"] = False,
    long_seconds: Annotated[float, "a longer recording is recognized in chunks, in flat memory"] = 300.0,
    options: RecognizerOptions = RecognizerOptions(),  # noqa: B008
    live_options: LiveOptions = LiveOptions(),  # noqa: B008
) -> None:
    """Write down what recordings say. A recording that cannot be read is named and left out; the exit code is then 2.

    Times are those of the recording, also for the segments of a manifest. With --live: arecord -f S16_LE -r 16000 -t raw |
    carnelian transcribe runs/an4 --live -

    Example: carnelian transcribe runs/an4 recording.wav --format srt
    """
    if format not in FORMATS and format != "all":
        raise CarnelianError(f'--format "{format}": no such format. Known: {", ".join(FORMATS)}, all')
    if ctm_file not in ("stem", "path"):
        raise CarnelianError(f'--ctm-file "{ctm_file}": expected stem or path')
    from carnelian.data import sources as found  # here: --help must not wait for numpy

    if live_options.live and options.correct:
        raise CarnelianError("--correct: has no effect with --live, whose words are final when they come. Leave it out")
    if live_options.live:
        return transcribe_live(options.load(model), sources, format, live_options)
    chosen = found.channel_choice(channel)
    apart = format == "all" or (out is not None and out.is_dir())
    check_outputs(None if apart or format in SUBTITLES else out, overwrite=overwrite)
    recognizer = options.load(model)
    with ExitStack() as stack:
        paths = [stdin_recording(stack) if str(source) == "-" else source for source in sources]
        utterances, unread = found.find_utterances(paths, chosen)
        count = len(utterances) + len(unread)
        recordings = found.by_recording(utterances)
        apart = apart or (format in SUBTITLES and len(recordings) > 1)
        files = output_files([each[0].audio_filepath for each in recordings], format, out, overwrite) if apart else {}
        check_outputs(None if apart else out, overwrite=overwrite)
        groups = recordings if apart or format in SUBTITLES else found.conversations(utterances)
        prefixed = format == "text" and len(groups) > 1
        kept = out and not apart
        with written(out, errors="backslashreplace") if kept else nullcontext(sys.stdout) as file:  # type: ignore[arg-type]
            for results in recognize_groups(recognizer, groups, unread, options.batch_seconds, long_seconds):
                name = results[0].utterance.audio_filepath
                for path in files.get(name, []):
                    with written(path, errors="backslashreplace") as own:
                        own.write(piece_of(results, kind_of_file(path, format), ctm_file))
                if not apart:
                    prefix = f"{one_line(name, 4096)}\t" if prefixed else ""
                    piece = piece_of(results, format, ctm_file).removesuffix("\n")
                    file.write("".join(f"{prefix}{line}\n" for line in piece.split("\n")))
                    file.flush()
    if unread:
        raise AudioError(f"{len(unread)} of {count} recordings left out: {one_line('; '.join(unread[:3]), 200)}")


def stdin_recording(stack: ExitStack) -> Path:
    """The recording on standard input, as a file that is there until the stack closes."""
    content = sys.stdin.buffer.read()
    if not content:
        raise AudioError("standard input: nothing came. Give a recording: carnelian transcribe MODEL - < a.wav")
    path = Path(stack.enter_context(TemporaryDirectory()), "stdin")
    path.write_bytes(content)
    return path


def output_files(names: list[str], format: str, out: Path | None, overwrite: bool) -> dict[str, list[Path]]:
    """The files to write for each recording, none of which exists; CarnelianError where two would be one."""
    from carnelian.data.sources import distinct_stems

    if out is None:
        raise CarnelianError(
            f"--format {format}: subtitles of {len(names)} recordings need a folder. Give --out FOLDER"
        )
    suffixes = [FILE_SUFFIXES.get(each, each) for each in (FORMATS if format == "all" else [format])]
    stems = distinct_stems(names)
    files = {name: [out / f"{stem}.{suffix}" for suffix in suffixes] for name, stem in zip(names, stems)}
    check_outputs(*(path for paths in files.values() for path in paths), overwrite=overwrite)
    return files


def kind_of_file(path: Path, format: str) -> str:
    """The format of one of a recording's files."""
    kinds = {FILE_SUFFIXES.get(each, each): each for each in FORMATS}
    return kinds[path.suffix[1:]] if format == "all" else format


def recognize_groups(
    recognizer: "Recognizer",
    groups: "list[list[Utterance]]",
    unread: list[str],
    batch_seconds: float,
    long_seconds: float,
) -> "Iterator[list[Recognized]]":
    """Yields the results of each group, in order; recordings that cannot be read are named, and added to `unread`."""
    for window in cut_windows(groups):
        together = [utterance for group in window for utterance in group]

        def leave_out(index: int, error: CarnelianError) -> None:
            unread.append(one_line(str(error)))
            note(f"carnelian: {unread[-1]}")

        found = recognizer.recognize(together, batch_seconds=batch_seconds, unread=leave_out, long_seconds=long_seconds)
        by_index = {each.index: each for each in track(found, "transcribing", len(together))}
        first = 0
        for group in window:
            results = [by_index[index] for index in range(first, first + len(group)) if index in by_index]
            first += len(group)
            if results:
                yield results


def cut_windows(groups: "list[list[Utterance]]") -> "Iterator[list[list[Utterance]]]":
    """The groups in windows of about WINDOW utterances."""
    window: list[list[Utterance]] = []
    for group in groups:
        window.append(group)
        if sum(map(len, window)) >= WINDOW:
            yield window
            window = []
    if window:
        yield window


def piece_of(results: "list[Recognized]", format: str, ctm_file: str) -> str:
    """What was recognized in a recording, or in a segment of it, in a format; a speaker for each channel that was chosen."""
    from carnelian.data.transcript import merge_segments

    first = results[0].utterance
    sides: dict[int | None, list[Transcript]] = {}
    for each in results:
        side = sides.setdefault(each.utterance.more.get("channel"), [])
        side.append(each.transcript.shifted(each.utterance.offset))
    channels = [channel for channel in sides if channel is not None]
    name = Path(first.audio_filepath).stem if format == "ctm" and ctm_file == "stem" else first.audio_filepath
    offset = {"offset": first.offset} if format == "jsonl" and len(results) == len(sides) else {}
    return FORMATS[format](name, *map(merge_segments, sides.values()), channels=channels, **offset)
