"""What recordings say: `carnelian transcribe MODEL FILES|FOLDER|MANIFEST...`."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from carnelian.console import note, track
from carnelian.data.audio import audio_info
from carnelian.data.captions import FORMATS
from carnelian.data.utterance import Manifest, Utterance
from carnelian.decoding.settings import STRETCH, make_decoding
from carnelian.errors import AudioError, CarnelianError
from carnelian.files import written
from carnelian.recognizer import Recognizer

AUDIO = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".sph", ".aif", ".aiff", ".au"}
WINDOW = 256  # utterances sorted by length together: enough for full batches, few enough that results come soon


def transcribe(
    model: Annotated[Path, "the checkpoint"],
    sources: Annotated[list[Path], "recordings, folders of recordings, or manifests (.jsonl, .json)"],
    *,
    format: Annotated[str, f"one of {', '.join(FORMATS)}"] = "text",
    out: Annotated[
        Path | None, "a file, or for subtitles of many recordings a folder; by default standard output"
    ] = None,
    language_model: Annotated[Path | None, "decode with this n-gram model (ARPA, binary, or KenLM's binary)"] = None,
    decoding: Annotated[Path | None, "decoding settings as `carnelian tune` wrote them"] = None,
    alpha: Annotated[float | None, "weight of the language model"] = None,
    beta: Annotated[float | None, "bonus for each word"] = None,
    beam_width: Annotated[int | None, "beams kept"] = None,
    closed_vocabulary: Annotated[bool | None, "find only words of the language model"] = None,
    stretch: Annotated[list[float], STRETCH] = [],  # noqa: B006
    hot_word: Annotated[list[str], "an expected word, as word or word=weight; may be given again"] = [],  # noqa: B006
    device: Annotated[str, "cpu or cuda; by default a GPU where there is one"] = "",
    precision: Annotated[str, "fp32 or bf16"] = "fp32",
    batch_seconds: Annotated[float, "seconds of audio in a batch"] = 120.0,
) -> None:
    """Write down what recordings say. A recording that cannot be read is named and left out; the exit code is then 2."""
    if format not in FORMATS:
        raise CarnelianError(f'--format "{format}": no such format. Known: {", ".join(FORMATS)}')
    settings = make_decoding(decoding, language_model, alpha, beta, beam_width, closed_vocabulary, stretch)
    recognizer = Recognizer.load(model, device=device, precision=precision, stretches=settings.stretches)
    recognizer.decoder = settings.decoder(
        recognizer.alphabet, recognizer.model.criterion, hot_words=dict(map(weighted, hot_word)) or None
    )
    utterances, unread = find(sources)
    write = FORMATS[format]
    many = format in ("srt", "vtt") and len(utterances) > 1
    if many and out is None:
        raise CarnelianError(
            f"--format {format}: subtitles of {len(utterances)} recordings need a folder. Give --out FOLDER"
        )
    with written(out) if out and not many else nullcontext(sys.stdout) as file:
        for start in range(0, len(utterances), WINDOW):
            window = utterances[start : start + WINDOW]
            recognized = recognizer.recognize(window, batch_seconds=batch_seconds)
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


def weighted(hot_word: str) -> tuple[str, float]:
    """A hot word and its weight, from `word` or `word=weight`."""
    word, _, weight = hot_word.partition("=")
    try:
        return word, float(weight or 10.0)
    except ValueError:
        raise CarnelianError(
            f'--hot-word {hot_word}: "{weight}" is not a number. Write word=weight, such as anna=8'
        ) from None


def find(sources: list[Path]) -> tuple[list[Utterance], list[str]]:
    """The utterances of files, folders and manifests, and a line for each recording that cannot be opened."""
    utterances, unread = [], []
    for source in sources:
        if source.suffix in (".jsonl", ".json"):
            utterances += list(Manifest(source))
            continue
        paths = (
            sorted(path for path in source.rglob("*") if path.suffix.lower() in AUDIO) if source.is_dir() else [source]
        )
        if not paths:
            raise CarnelianError(f"{source}: no recordings in this folder. Looked for {', '.join(sorted(AUDIO))}")
        for path in paths:
            try:
                utterances.append(Utterance(str(path), audio_info(path).duration))
            except AudioError as error:
                note(f"carnelian: {error}")
                unread.append(str(error))
    return utterances, unread
