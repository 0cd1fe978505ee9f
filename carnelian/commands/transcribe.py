"""Transcripts of recordings: `carnelian transcribe MODEL FILES|FOLDER|MANIFEST...`."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

from carnelian.commands.live_transcription import LiveOptions, transcribe_live
from carnelian.commands.options import RecognizerOptions
from carnelian.commands.transcript_output import OutputOptions
from carnelian.console import bar, note
from carnelian.errors import AudioError, CarnelianError
from carnelian.files import cache_folder, one_line

if TYPE_CHECKING:
    from carnelian.data.utterance import Utterance
    from carnelian.inference.recognizer import Recognized, Recognizer

CHANNEL_HELP = "of recordings with several: 1, 2, ..., mix (the average), or separate (a speaker on each)"
WINDOW = 256  # utterances sorted by length together: enough for full batches, few enough that results come soon
WINDOW_SECONDS = 900.0


def transcribe(
    model: Annotated[Path, "a checkpoint, a run's folder for its last one, or an exported .onnx model"],
    sources: Annotated[
        list[Path], "recordings, folders of recordings, manifests (.jsonl, .json), or - for standard input"
    ],
    *,
    output: OutputOptions = OutputOptions(),  # noqa: B008
    channel: Annotated[str, CHANNEL_HELP] = "mix",
    long_seconds: Annotated[float, "a longer recording is recognized in chunks, in flat memory"] = 300.0,
    options: RecognizerOptions = RecognizerOptions(),  # noqa: B008
    live_options: LiveOptions = LiveOptions(),  # noqa: B008
) -> None:
    """Write down what recordings say. A recording that cannot be read is named and left out; the exit code is then 2.

    Transcripts are written as they come; those of a call that was stopped are kept, in FILE.partial or in the folder, and the same
    call with --resume goes on. Of a long recording that was stopped, the same call goes on from its finished part. Times are those
    of the recording, also for the segments of a manifest. With --live: arecord -f S16_LE -r 16000 -t raw | carnelian transcribe
    runs/an4 --live -

    Example: carnelian transcribe runs/an4 recording.wav --format srt
    """
    from carnelian.data.sources import channel_choice, find_utterances  # here: --help must not wait for numpy
    from carnelian.inference.unfinished import UnfinishedRecordings

    if live_options.live and options.correct:
        raise CarnelianError("--correct: has no effect with --live, whose words are final when they come. Leave it out")
    if live_options.live:
        return transcribe_live(options.load(model), sources, output.format, live_options)
    chosen = channel_choice(channel)
    output.check()
    recognizer = options.load(model, output.used_activity)
    unfinished = None if Path("-") in sources else UnfinishedRecordings(cache_folder() / "unfinished")
    settings = {"batch_seconds": options.batch_seconds, "long_seconds": long_seconds, "unfinished": unfinished}
    changing = {"model": str(model), "--channel": channel, "--long-seconds": long_seconds}
    changing |= options.changing_transcripts()
    with ExitStack() as stack:
        paths = [stdin_recording(stack) if str(source) == "-" else source for source in sources]
        utterances, unread = find_utterances(paths, chosen)
        count = len(utterances) + len(unread)
        names = {str(path): "stdin" for path, source in zip(paths, sources) if str(source) == "-"}
        recognize = partial(recognize_groups, recognizer, unread=unread, settings=settings)
        output.write(utterances, recognize, changing, names)
    if unfinished:
        unfinished.remove()
    if unread:
        raise AudioError(f"{len(unread)} of {count} recordings left out, for the reasons above")


def stdin_recording(stack: ExitStack) -> Path:
    """The recording on standard input, as a file that is there until the stack closes."""
    content = sys.stdin.buffer.read()
    if not content:
        raise AudioError("standard input: nothing came. Give a recording: carnelian transcribe MODEL - < a.wav")
    path = Path(stack.enter_context(TemporaryDirectory()), "stdin")
    path.write_bytes(content)
    return path


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
