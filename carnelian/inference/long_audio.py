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
from carnelian.inference.unfinished import UnfinishedRecording
from carnelian.inference.voice_activity import VoiceActivity

#: gives the waveform from a second on, in chunks (S,); called once for each pass over the recording
Chunks = Callable[[int], Iterable[np.ndarray]]
CHUNK_SECONDS = 20.0
STATISTICS_SHARE = 0.1  # of the work, in the first pass
#: of a model that looks at the whole recording: the audio that it is given at once, and what of it at each inner edge is not used
WINDOW_SECONDS, MARGIN_SECONDS = 60.0, 10.0


def long_log_probs(engine: Any, chunks: Chunks, *, statistics: Any = None, first_step: int = 0) -> Iterator[np.ndarray]:
    """Yields the model's log-probabilities (O, V) of a recording from a step on, piece by piece, O also 0.

    All together they are those of the whole. engine: of a checkpoint or an exported model; of a model that looks at the whole
    recording they are those of windows. statistics: those of `recording_statistics`, where it gives some.
    """
    if not is_exact(engine):
        yield from window_log_probs(engine, chunks, first_step=first_step)
        return
    begin = engine.restart_step(first_step) if first_step else 0
    stream, fed, skipped = engine.stream(statistics and statistics.normalize), False, first_step - begin
    for chunk in audio_from(chunks, begin, engine):
        fed = True
        piece = stream.step(chunk)
        yield piece[skipped:]
        skipped = max(0, skipped - len(piece))
    if fed:
        yield stream.finish()[skipped:]


def is_exact(engine: Any) -> bool:
    """Whether a model is fed piece by piece with the result of the whole; others, and exported ones, take windows."""
    return not getattr(engine, "why_not_in_pieces", "exported models take whole recordings")


def recording_statistics(engine: Any, chunks: Iterable[np.ndarray]) -> Any:
    """The statistics of a recording's features, where a model needs them to be fed piece by piece; else None."""
    return engine.statistics(chunks) if is_exact(engine) and engine.needs_statistics else None


def audio_from(chunks: Chunks, step: int, engine: Any) -> Iterator[np.ndarray]:
    """A recording's waveform from an output step's audio on, in chunks.

    It is read from a full second on, one before, so that another sample rate is converted as from the beginning.
    """
    first = step * round(engine.seconds_per_step * engine.sample_rate)
    second = max(0, first // engine.sample_rate - 1)
    left_out = first - second * engine.sample_rate
    for chunk in chunks(second):
        yield chunk[left_out:]
        left_out = max(0, left_out - len(chunk))


def window_log_probs(
    engine: Any,
    chunks: Chunks,
    *,
    window: float = WINDOW_SECONDS,
    margin: float = MARGIN_SECONDS,
    first_step: int = 0,
) -> Iterator[np.ndarray]:
    """The log-probabilities of windows that overlap by twice the margin (seconds), the margins cut away, from a step on."""
    rate, per_step = engine.sample_rate, engine.seconds_per_step
    edge = max(1, round(margin / per_step))  # steps of the margin
    moved = max(1, round(window / per_step) - 2 * edge)  # steps from one window to the next
    samples = round(per_step * rate)  # of a step
    begin = max(0, first_step - edge) // moved * moved  # the first step of a window
    used = edge if begin else 0  # the window's first step whose log-probabilities are used
    skipped = first_step - begin - used  # used steps that lie before `first_step`
    audio = np.zeros(0, np.float32)
    for chunk in audio_from(chunks, begin, engine):
        audio = np.concatenate([audio, chunk])
        # one that is not the last has audio behind it, so that the last one is never a short rest
        while len(audio) > (moved + 4 * edge) * samples:
            log_probs = log_probs_of(engine, audio[: (moved + 2 * edge) * samples])
            yield log_probs[used + skipped : moved + edge]
            audio, used, skipped = audio[moved * samples :], edge, 0
    if len(audio):
        yield log_probs_of(engine, audio)[used + skipped :]


def window_difference(engine: Any) -> float:
    """The largest difference between the log-probabilities of windows and of the whole, for 90 s of noise that comes and goes."""
    time = np.arange(90 * engine.sample_rate) / engine.sample_rate
    noise = np.random.default_rng(0).standard_normal(len(time)) * (np.sin(7 * time) > 0) * (np.sin(time / 2) > -0.8)
    audio = (0.1 * noise).astype(np.float32)
    windows = np.concatenate(list(window_log_probs(engine, lambda begin: [audio])))
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
    kept: UnfinishedRecording | None = None,
    activity: VoiceActivity | None = None,
) -> Transcript:
    """Returns the transcript of a recording of any length, with words in the recording's time, in flat memory.

    advance: called with the seconds of audio of each chunk that is done. kept: where what is finished is kept, and gone on from.
    activity: finds the recording's silences.
    """
    rate, per_step, samples = engine.sample_rate, engine.seconds_per_step, 0

    def chunks(second: int, share: float = 1 - STATISTICS_SHARE) -> Iterator[np.ndarray]:
        nonlocal samples
        samples = second * rate
        for chunk in chunks_of(recording, rate, chunk_seconds, begin=second):
            if activity and share > STATISTICS_SHARE:
                activity.accept(chunk, samples)
            samples += len(chunk)
            yield chunk
            advance(share * len(chunk) / rate)

    stream = decoding_stream(decoder)
    state = kept.load() if kept else {}
    step, statistics = int(state.get("step", 0)), None
    if state:
        stream.restore(state)
        if activity:
            activity.restore(state)
        statistics = engine.restored_statistics(state) if "count" in state else None
        advance(step * per_step)
    else:
        statistics = recording_statistics(engine, chunks(0, STATISTICS_SHARE))

    def current() -> tuple[dict[str, np.ndarray], str]:
        found = {"step": np.array(step), **stream.state(), **(statistics.state() if statistics else {})}
        found |= activity.kept() if activity else {}
        return found, stream.hypotheses()[0].text

    for piece in long_log_probs(engine, chunks, statistics=statistics, first_step=step):
        stream.accept(piece)
        step += len(piece)
        if kept and kept.is_due():
            kept.save(*current())
    silences = activity.silences() if activity else None
    return transcript(stream.hypotheses(), seconds_per_step=per_step, duration=samples / rate, silences=silences)


def chunks_of(
    recording: Utterance | str | Path | np.ndarray,
    sample_rate: int,
    chunk_seconds: float = CHUNK_SECONDS,
    *,
    begin: int = 0,
) -> Iterator[np.ndarray]:
    """Yields a recording, an utterance's part of one, or a waveform at `sample_rate`, as chunks (S,) of about `chunk_seconds`.

    begin: the second of it from which on.
    """
    if isinstance(recording, np.ndarray):
        size = max(1, round(chunk_seconds * sample_rate))
        yield from (recording[first : first + size] for first in range(begin * sample_rate, len(recording), size))
        return
    utterance = recording if isinstance(recording, Utterance) else None
    with open_audio(recording) as file:
        yield from audio_blocks(file, sample_rate, seconds=chunk_seconds, utterance=utterance, begin=begin)
