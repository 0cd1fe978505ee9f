"""What recordings say: `carnelian transcribe MODEL FILES|FOLDER|MANIFEST...`."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from carnelian.commands.options import RecognizerOptions
from carnelian.console import note, track
from carnelian.data.audio import AUDIO_SUFFIXES, audio_info
from carnelian.data.text.captions import FORMATS
from carnelian.data.utterance import Manifest, Utterance
from carnelian.errors import AudioError, CarnelianError
from carnelian.files import written

WINDOW = 256  # utterances sorted by length together: enough for full batches, few enough that results come soon


def transcribe(
    model: Annotated[Path, "the checkpoint"],
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
