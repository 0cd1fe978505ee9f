"""Recordings of any length in flat memory: audio in chunks, through the model and the decoder, to one transcript.

A model whose every step sees a limited part of the recording gives exactly what it gives for the whole recording. Other models
(squeeze-and-excitation, attention, recurrent layers) take windows that overlap.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from carnelian.data.audio import audio_blocks
from carnelian.data.recording import open_audio
from carnelian.data.transcript import Hypothesis, Transcript, transcript
from carnelian.data.utterance import Utterance
from carnelian.errors import AudioError

#: gives the waveform from its beginning, in chunks (S,); called once for each pass over the recording
Chunks = Callable[[], Iterable[np.ndarray]]
CHUNK_SECONDS = 20.0
#: of a model that looks at the whole recording: the audio that it is given at once, and what of it at each inner edge is not used
WINDOW_SECONDS, MARGIN_SECONDS = 60.0, 10.0


def long_log_probs(engine: Any, chunks: Chunks) -> Iterator[np.ndarray]:
    """Yields the model's log-probabilities (O, V) of a recording piece by piece, O also 0; all together they are those of the whole.

    engine: of a checkpoint or an exported model. Of a model that looks at the whole recording they are those of windows.
    """
    if getattr(engine, "why_not_in_pieces", "exported models take whole recordings"):
        return window_log_probs(engine, chunks)
    return exact_log_probs(engine, chunks)


def exact_log_probs(engine: Any, chunks: Chunks) -> Iterator[np.ndarray]:
    """The log-probabilities of a model that can be fed piece by piece; a first pass takes the statistics of the features."""
    normalizer = None
    if engine.needs_statistics:
        normalizer = engine.statistics(chunks()).normalize
    stream, fed = engine.stream(normalizer), False
    for chunk in chunks():
        fed = True
        yield stream.step(chunk)
    if fed:
        yield stream.finish()


def window_log_probs(
    engine: Any, chunks: Chunks, *, window: float = WINDOW_SECONDS, margin: float = MARGIN_SECONDS
) -> Iterator[np.ndarray]:
    """The log-probabilities of windows that overlap by twice the margin (seconds), the margins cut away."""
    rate, per_step = engine.sample_rate, engine.seconds_per_step
    edge = max(1, round(margin / per_step))  # steps
    moved = max(1, round(window / per_step) - 2 * edge)
    samples = round(per_step * rate)
    audio, first = np.zeros(0, np.float32), True
    for chunk in chunks():
        audio = np.concatenate([audio, chunk])
        # one that is not the last has audio behind it, so that the last one is never a short rest
        while len(audio) > (moved + 4 * edge) * samples:
            log_probs = log_probs_of(engine, audio[: (moved + 2 * edge) * samples])
            yield log_probs[: moved + edge] if first else log_probs[edge : moved + edge]
            audio, first = audio[moved * samples :], False
    if len(audio):
        log_probs = log_probs_of(engine, audio)
        yield log_probs if first else log_probs[edge:]


def window_difference(engine: Any) -> float:
    """The largest difference between the log-probabilities of windows and of the whole, for 90 s of noise that comes and goes."""
    time = np.arange(90 * engine.sample_rate) / engine.sample_rate
    noise = np.random.default_rng(0).standard_normal(len(time)) * (np.sin(7 * time) > 0) * (np.sin(time / 2) > -0.8)
    audio = (0.1 * noise).astype(np.float32)
    windows = np.concatenate(list(window_log_probs(engine, lambda: [audio])))
    whole = log_probs_of(engine, audio)
    return float(np.abs(windows - whole).max()) if windows.shape == whole.shape else float("nan")


def log_probs_of(engine: Any, audio: np.ndarray) -> np.ndarray:
    """The log-probabilities (O, V) of a whole waveform."""
    return engine.emissions([audio], (1.0,))[0][0].log_probs


class CollectedLogProbs:
    """The stream of a decoder that takes whole utterances only."""

    def __init__(self, decoder: Any):
        self.decoder = decoder
        self.pieces: list[np.ndarray] = []

    def accept(self, log_probs: np.ndarray) -> None:
        """Goes on with the next log-probabilities (O, V)."""
        self.pieces.append(log_probs)

    def hypotheses(self) -> list[Hypothesis]:
        """The hypotheses if the utterance ended here; more may follow."""
        self.pieces = [np.concatenate(self.pieces)] if self.pieces else []
        return self.decoder(self.pieces[0]) if self.pieces else [Hypothesis("", 0.0, 0.0)]


def decoding_stream(decoder: Any) -> Any:
    """A decoder of one utterance whose log-probabilities come in pieces; the beam search runs on with its state."""
    return decoder.stream() if hasattr(decoder, "stream") else CollectedLogProbs(decoder)


def transcribe_long(
    engine: Any,
    decoder: Any,
    recording: Utterance | str | Path | np.ndarray,
    *,
    chunk_seconds: float = CHUNK_SECONDS,
    advance: Callable[[float], None] = lambda seconds: None,
) -> Transcript:
    """Returns the transcript of a recording of any length, with words in the recording's time, in flat memory.

    advance: called with the seconds of audio of each chunk that is recognized.
    """
    samples = 0

    def chunks() -> Iterator[np.ndarray]:
        nonlocal samples
        samples = 0
        for chunk in chunks_of(recording, engine.sample_rate, chunk_seconds):
            samples += len(chunk)
            yield chunk

    stream = decoding_stream(decoder)
    for piece in long_log_probs(engine, chunks):
        stream.accept(piece)
        advance(len(piece) * engine.seconds_per_step)
    duration = samples / engine.sample_rate
    return transcript(stream.hypotheses(), seconds_per_step=engine.seconds_per_step, duration=duration)


def chunks_of(
    recording: Utterance | str | Path | np.ndarray, sample_rate: int, chunk_seconds: float = CHUNK_SECONDS
) -> Iterator[np.ndarray]:
    """Yields a recording, an utterance's part of one, or a waveform at `sample_rate`, as chunks (S,) of about `chunk_seconds`."""
    if isinstance(recording, np.ndarray):
        size = max(1, round(chunk_seconds * sample_rate))
        yield from (recording[first : first + size] for first in range(0, len(recording), size))
        return
    utterance = recording if isinstance(recording, Utterance) else None
    with open_audio(recording) as file:
        for block in audio_blocks(file, sample_rate, seconds=chunk_seconds, utterance=utterance):
            if not np.isfinite(block.sum()):
                raise AudioError(f"{file.name}: some of its samples are NaN or infinite. Copy it again from its origin")
            yield block
