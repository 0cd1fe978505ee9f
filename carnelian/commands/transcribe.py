"""What recordings say: `carnelian transcribe MODEL FILES|FOLDER|MANIFEST...`."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from carnelian.commands.options import RecognizerOptions
from carnelian.console import track
from carnelian.data.text.captions import FORMATS
from carnelian.errors import AudioError, CarnelianError
from carnelian.files import written

WINDOW = 256  # utterances sorted by length together: enough for full batches, few enough that results come soon


def transcribe(
    model: Annotated[Path, "a checkpoint, a run's folder for its last one, or an exported .onnx model"],
    sources: Annotated[list[Path], "recordings, folders of recordings, or manifests (.jsonl, .json)"],
    *,
    format: Annotated[str, f"one of {', '.join(FORMATS)}"] = "text",
    out: Annotated[
        Path | None, "a file, or for subtitles of many recordings a folder; by default standard output"
    ] = None,
    options: RecognizerOptions = RecognizerOptions(),  # noqa: B008
) -> None:
    """Write down what recordings say. A recording that cannot be read is named and left out; the exit code is then 2."""
    if format not in FORMATS:
        raise CarnelianError(f'--format "{format}": no such format. Known: {", ".join(FORMATS)}')
    from carnelian.data.sources import find_utterances  # here, so that --help does not wait for numpy

    recognizer = options.load(model)
    utterances, unread = find_utterances(sources)
    write = FORMATS[format]
    many = format in ("srt", "vtt") and len(utterances) > 1
    if many and out is None:
        raise CarnelianError(
            f"--format {format}: subtitles of {len(utterances)} recordings need a folder. Give --out FOLDER"
        )
    with written(out) if out and not many else nullcontext(sys.stdout) as file:
        for start in range(0, len(utterances), WINDOW):
            window = utterances[start : start + WINDOW]
            recognized = recognizer.recognize(window, batch_seconds=options.batch_seconds)
            for each in sorted(track(recognized, "transcribing", len(window)), key=lambda each: each.index):
                name = each.utterance.audio_filepath
                if many:
                    assert out
                    with written(out / f"{Path(name).stem}.{format}") as own:
                        own.write(write(name, each.transcript))
                else:
                    prefix = f"{name}\t" if format == "text" and len(utterances) > 1 else ""
                    file.write(prefix + write(name, each.transcript))
            file.flush()
    if unread:
        raise AudioError(
            f"{len(unread)} of {len(unread) + len(utterances)} recordings left out: {'; '.join(unread[:3])}"
        )
