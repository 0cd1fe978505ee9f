"""What recordings say: `carnelian transcribe MODEL FILES|FOLDER|MANIFEST...`."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from carnelian.commands.options import RecognizerOptions
from carnelian.console import track
from carnelian.data.text.captions import FORMATS
from carnelian.errors import AudioError, CarnelianError
from carnelian.files import written

if TYPE_CHECKING:
    from carnelian.data.utterance import Utterance
    from carnelian.inference.recognizer import Recognized

CHANNEL_HELP = "of recordings with several: 1, 2, ..., mix (the average), or separate (a speaker on each)"
WINDOW = 256  # utterances sorted by length together: enough for full batches, few enough that results come soon


def transcribe(
    model: Annotated[Path, "a checkpoint, a run's folder for its last one, or an exported .onnx model"],
    sources: Annotated[list[Path], "recordings, folders of recordings, or manifests (.jsonl, .json)"],
    *,
    format: Annotated[str, f"one of {', '.join(FORMATS)}"] = "text",
    out: Annotated[
        Path | None, "a file, or for subtitles of many recordings a folder; by default standard output"
    ] = None,
    channel: Annotated[str, CHANNEL_HELP] = "mix",
    options: RecognizerOptions = RecognizerOptions(),  # noqa: B008
) -> None:
    """Write down what recordings say. A recording that cannot be read is named and left out; the exit code is then 2.

    Example: carnelian transcribe runs/an4 recording.wav --format srt
    """
    if format not in FORMATS:
        raise CarnelianError(f'--format "{format}": no such format. Known: {", ".join(FORMATS)}')
    from carnelian.data.sources import (
        channel_choice,
        conversations,
        find_utterances,
    )  # here: --help must not wait for numpy

    chosen = channel_choice(channel)
    recognizer = options.load(model)
    utterances, unread = find_utterances(sources, chosen)
    groups = conversations(utterances)
    count = len(groups)
    many = format in ("srt", "vtt") and count > 1
    if many and out is None:
        raise CarnelianError(f"--format {format}: subtitles of {count} recordings need a folder. Give --out FOLDER")
    with written(out) if out and not many else nullcontext(sys.stdout) as file:
        for window in cut_windows(groups):
            together = list(chain.from_iterable(window))
            recognized = recognizer.recognize(together, batch_seconds=options.batch_seconds)
            results = iter(sorted(track(recognized, "transcribing", len(together)), key=lambda each: each.index))
            for sides in window:
                name, piece = write_conversation(list(islice(results, len(sides))), format)
                if many:
                    assert out
                    with written(out / f"{Path(name).stem}.{format}") as own:
                        own.write(piece)
                else:
                    prefix = f"{name}\t" if format == "text" and count > 1 else ""
                    file.write("".join(prefix + line for line in piece.splitlines(keepends=True)))
            file.flush()
    if unread:
        raise AudioError(
            f"{len(unread)} of {len(unread) + len(utterances)} recordings left out: {'; '.join(unread[:3])}"
        )


def cut_windows(groups: "list[list[Utterance]]") -> "Iterator[list[list[Utterance]]]":
    """The conversations in windows of about WINDOW utterances."""
    window: list[list[Utterance]] = []
    for sides in groups:
        window.append(sides)
        if sum(map(len, window)) >= WINDOW:
            yield window
            window = []
    if window:
        yield window


def write_conversation(sides: "list[Recognized]", format: str) -> tuple[str, str]:
    """A recording's name, and what was recognized on its channels in a format.

    A CTM is for scoring: a part of a recording counts its times from the recording's start, and a recording of which a channel was
    chosen has the name that references use, without folder and suffix.
    """
    first = sides[0].utterance
    transcripts = [each.transcript for each in sides]
    channels = [each.utterance.more["channel"] for each in sides] if "channel" in first.more else []
    name = first.audio_filepath
    if format == "ctm":
        transcripts = [each.shifted(first.offset) for each in transcripts]
        name = Path(name).stem if channels else name
    return first.audio_filepath, FORMATS[format](name, *transcripts, channels=channels)
