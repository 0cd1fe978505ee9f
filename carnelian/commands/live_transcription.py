"""`carnelian transcribe MODEL --live -`: PCM from standard input or a recording, recognized as it comes."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from carnelian.console import printable, stderr
from carnelian.data.text.captions import json_line
from carnelian.errors import CarnelianError

if TYPE_CHECKING:
    import numpy as np

    from carnelian.inference.recognizer import Recognizer

READ_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """Options of live recognition; the command line makes one option of each field."""

    live: Annotated[bool, "recognize as the audio comes: 16-bit mono PCM from standard input (-), or a recording"] = (
        False
    )
    live_rate: Annotated[int, "samples a second of the PCM; by default the model's"] = 0
    live_silence: Annotated[float, "seconds of silence after speech that end an utterance"] = 0.5
    live_prior: Annotated[
        Path | None, "a recording like those to come, for the features' normalization to begin with"
    ] = None


def transcribe_live(recognizer: "Recognizer", sources: list[Path], format: str, options: LiveOptions) -> None:
    """Prints each utterance when it has ended, as text or JSON lines; what it says so far stands on standard error."""
    from carnelian.data.transcript import Transcript
    from carnelian.inference.endpointing import KALDI_RULES, EndpointSettings
    from carnelian.inference.live_stream import is_fed
    from carnelian.inference.long_audio import chunks_of

    if len(sources) != 1 or format not in ("text", "jsonl"):
        raise CarnelianError("--live: expected one source, - or a recording, and --format text or jsonl")
    if options.live_rate < 0 or not options.live_silence > 0:
        raise CarnelianError("--live-rate, --live-silence: expected numbers above 0")
    rate = options.live_rate or recognizer.sample_rate
    chunks = pcm_chunks(rate)
    if str(sources[0]) != "-":
        rate, chunks = recognizer.sample_rate, chunks_of(sources[0], recognizer.sample_rate, READ_SECONDS)
    rules = tuple(
        replace(rule, silence=options.live_silence) if rule == KALDI_RULES[1] else rule for rule in KALDI_RULES
    )
    prior = None
    if options.live_prior is not None:
        engine: Any = recognizer.engine
        if not is_fed(engine):
            raise CarnelianError(
                "--live-prior: this model recognizes each utterance anew, with its own statistics. Leave it out"
            )
        prior = engine.statistics(chunks_of(options.live_prior, recognizer.sample_rate))
    stream = recognizer.stream(sample_rate=rate, endpoints=EndpointSettings(rules), prior=prior)

    def show(results: list) -> None:
        for result in results:
            if not result.final:
                partial(result.text)
                continue
            partial("")
            found = Transcript(result.text, result.words, (), result.words[-1].end if result.words else 0.0)
            print(json_line("live", found) if format == "jsonl" else f"{result.text}\n", end="", flush=True)

    try:
        for chunk in chunks:
            show(stream.accept(chunk))
    except KeyboardInterrupt:  # how a microphone is stopped: what was spoken is kept
        pass
    show(stream.finish())


def partial(text: str) -> None:
    """Shows in the last line of a terminal what an utterance says so far."""
    if stderr.is_terminal:
        room = max(1, stderr.width - 1)
        stderr.file.write(f"\r\x1b[K{printable(text)[-room:]}")
        stderr.file.flush()


def pcm_chunks(rate: int) -> "Iterator[np.ndarray]":
    """Yields 16-bit little-endian mono PCM from standard input as it comes, as (S,) int16; half a sample at the end is left out."""
    import numpy as np

    rest = b""
    while content := sys.stdin.buffer.read1(2 * max(1, round(READ_SECONDS * rate))):  # type: ignore[union-attr]
        content = rest + content
        whole = len(content) // 2 * 2
        rest = content[whole:]
        yield np.frombuffer(content[:whole], "<i2")
