"""Audio to transcripts: an acoustic model and a decoder. Validation, evaluation, transcription and serving all go through here."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Union, overload

import numpy as np

from carnelian.console import bar, note
from carnelian.data.alphabet import Alphabet
from carnelian.data.audio import as_waveform, load_audio
from carnelian.data.batch import load_waveforms, plan_batches
from carnelian.data.recording import open_audio
from carnelian.data.transcript import Hypothesis, Transcript, transcript
from carnelian.data.utterance import Utterance
from carnelian.decoding.settings import DecodingConfig, RescoringConfig
from carnelian.errors import EXTRA_OF, AudioError, CarnelianError, MissingExtraError
from carnelian.inference.emissions import Emissions
from carnelian.inference.live_stream import RecognizerStream
from carnelian.inference.long_audio import transcribe_long
from carnelian.inference.unfinished import UnfinishedRecordings
from carnelian.inference.voice_activity import make_voice_activity

if TYPE_CHECKING:
    import torch

#: one recording: its path, an utterance of a manifest, or samples as (S,) or (channels, S)
Audio = Union[str, os.PathLike, Utterance, np.ndarray, "torch.Tensor"]

#: seconds; a longer recording is recognized in chunks, in flat memory
LONG_RECORDING = 300.0


class Decoder(Protocol):
    """Log-probabilities (O, V) of one utterance to hypotheses, best first. May also have `batch`, for many utterances on all cores."""

    def __call__(self, log_probs: np.ndarray) -> list[Hypothesis]: ...


#: texts of transcripts -> as many corrected texts, such as a `Corrector`
Correct = Callable[[Sequence[str]], Sequence[str]]


class Engine(Protocol):
    """An acoustic model with its alphabet, ready to run: `TorchEngine` for a checkpoint, `OnnxEngine` for an exported model."""

    alphabet: Alphabet
    sample_rate: int
    #: the recipe's, used where none are asked for
    time_stretches: tuple[float, ...]
    #: what the model was trained by, which decides how it is decoded; None is CTC
    criterion: Any

    @property
    def seconds_per_step(self) -> float:
        """The seconds of audio that an output step covers."""
        ...

    def emissions(self, audio: Sequence[np.ndarray], time_stretches: Sequence[float]) -> list[list[Emissions]]:
        """Returns the model's output for each waveform (S,), once for each time stretch."""
        ...


@dataclass(frozen=True, slots=True)
class Recognized:
    """One result of `Recognizer.recognize`: the utterance, its index in the list, and its transcript."""

    index: int
    utterance: Utterance
    transcript: Transcript


class Recognizer:
    """Turns audio into transcripts with an acoustic model, its alphabet and a decoder (by default greedy).

    With several `time_stretches` (by default those of the model's recipe) each recording is decoded once for each factor, with its
    features interpolated to that many times their length, and the result whose best path has the highest probability is kept.
    This helps with speakers faster or slower than those of the training data, and costs the encoder as many passes. The method
    of choosing by likelihood is that of vocal tract length normalization (Lee and Rose, 1996).
    """

    def __init__(
        self,
        engine: Engine,
        decoder: Decoder | None = None,
        *,
        time_stretches: Sequence[float] = (),
        correct: Correct | None = None,
        voice_activity: str = "none",
    ):
        """correct: is given the texts of transcripts, and returns as many that replace them. voice_activity: what finds the silences
        of transcripts, at which subtitles and paragraphs are cut: "energy", "silero" or "none"."""
        self.correct, self.voice_activity = correct, voice_activity
        if voice_activity != "none":
            make_voice_activity(voice_activity, engine.sample_rate)  # raises CarnelianError kinds
        self.engine, self.alphabet, self.sample_rate = engine, engine.alphabet, engine.sample_rate
        self.decoder: Decoder = decoder or DecodingConfig().decoder(engine.alphabet, engine.criterion)
        asked = DecodingConfig(time_stretches=tuple(time_stretches)).time_stretches
        self.time_stretches = asked or tuple(engine.time_stretches)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        decoding: DecodingConfig | None = None,
        hot_words: Mapping[str, float] | None = None,
        device: str = "",
        precision: str = "fp32",
        threads: int = 0,
        correct: Correct | None = None,
        voice_activity: str = "none",
    ) -> "Recognizer":
        """Returns the recognizer of a checkpoint, of the last one in a run's folder, of a pretrained model by its name, or of an
        exported .onnx model.

        decoding: how to decode (by default greedy). hot_words: expected words with their weights (natural logarithms). device: "cpu"
        or "cuda"; by default a GPU where there is one; an .onnx model runs on the CPU. precision: "fp32", "bf16", or "auto", the
        fastest on this processor; an .onnx model has its own, and "auto" is the fastest of model.onnx and model.int8.onnx. threads: by
        default one for each core. correct: what corrects the transcripts, such as a `Corrector`. voice_activity: what
        finds the silences at which subtitles and paragraphs are cut: "energy", "silero" or "none". Raises CarnelianError kinds.
        """
        engine = load_engine(path, device=device, precision=precision, threads=threads)
        decoding = decoding or DecodingConfig()
        rescoring = decoding.rescoring
        count = rescoring.hypotheses if rescoring else 1
        decoder = decoding.decoder(engine.alphabet, engine.criterion, hypotheses=count, hot_words=hot_words)
        if rescoring:
            decoder = rescoring_decoder(decoder, rescoring, engine.alphabet, device)
        stretches = decoding.time_stretches
        return cls(engine, decoder, time_stretches=stretches, correct=correct, voice_activity=voice_activity)

    @overload  # a string is a path, never a list of characters
    def __call__(self, audio: Audio, sample_rate: int | None = None) -> Transcript: ...  # type: ignore[overload-overlap]

    @overload  # a string is a path, never a list of characters
    def __call__(self, audio: Sequence[Audio], sample_rate: int | None = None) -> list[Transcript]: ...

    def __call__(self, audio, sample_rate=None):
        """Returns the transcript of one recording, or of each in a list, in the order of the list.

        audio: paths, utterances, or samples as numpy arrays or tensors, float in [-1, 1] or integers, (S,) or (1, S). sample_rate:
        samples per second of arrays and tensors, by default the model's. Raises AudioError for several channels in an array.
        """
        if isinstance(audio, list | tuple):
            return [self(each, sample_rate) for each in audio]
        if isinstance(audio, np.ndarray) or is_tensor(audio):
            audio = as_waveform(np.asarray(audio), sample_rate or self.sample_rate, self.sample_rate)
        elif isinstance(audio, str | os.PathLike | Utterance):
            if self.in_chunks and duration_of(audio) > LONG_RECORDING:
                return self.transcribe_long(audio if isinstance(audio, Utterance) else os.fspath(audio))
            audio = load_audio(audio, self.sample_rate)
        else:
            raise CarnelianError(
                f"audio: {type(audio).__name__} cannot be transcribed. Give a path, an utterance, an array, or a list of these"
            )
        if self.in_chunks and len(audio) > LONG_RECORDING * self.sample_rate:
            return self.transcribe_long(audio)
        [emissions] = self.emissions([audio])
        return self.corrected([self.transcript(self.decoder(emissions.log_probs), emissions, audio)])[0]

    def transcript(self, hypotheses: list[Hypothesis], emissions: Emissions, audio: np.ndarray) -> Transcript:
        """Returns the transcript of a waveform (S,) from its hypotheses and the emissions that they were decoded from."""
        return transcript(
            hypotheses,
            seconds_per_step=emissions.seconds_per_step,
            duration=len(audio) / self.sample_rate,
            silences=None if self.voice_activity == "none" else self.silences(audio),
        )

    def silences(self, audio: np.ndarray) -> tuple[tuple[float, float], ...] | None:
        """Returns where nobody speaks in a waveform (S,), as (start, end) in seconds; None without `voice_activity`."""
        activity = make_voice_activity(self.voice_activity, self.sample_rate)
        if activity is None:
            return None
        activity.accept(audio, 0)
        return activity.silences()

    def transcribe_long(self, recording: Utterance | str | np.ndarray, **more: Any) -> Transcript:
        """Returns the transcript of a recording of any length, in chunks; `more`: as of `long_audio.transcribe_long`."""
        activity = make_voice_activity(self.voice_activity, self.sample_rate)
        return self.corrected([transcribe_long(self.engine, self.decoder, recording, activity=activity, **more)])[0]

    def corrected(self, transcripts: Sequence[Transcript]) -> list[Transcript]:
        """Returns transcripts with their texts corrected, where the recognizer has a correction."""
        if self.correct is None:
            return list(transcripts)
        texts = self.correct([each.text for each in transcripts])
        return [each.with_text(text) for each, text in zip(transcripts, texts, strict=True)]

    @property
    def in_chunks(self) -> bool:
        """Whether long recordings are recognized in chunks: one time stretch is chosen for a whole recording."""
        return self.time_stretches == (1.0,)

    def stream(self, **settings: Any) -> RecognizerStream:
        """Returns a recognition of audio as it comes: `accept` chunks, `finish` at the end. Settings: those of `RecognizerStream`."""
        return RecognizerStream(self.engine, self.decoder, **settings)

    def emissions(self, audio: Sequence[np.ndarray]) -> list[Emissions]:
        """Returns the model's output for each waveform (S,) at the model's sample rate, at the time stretch of the best path."""
        candidates = self.engine.emissions(audio, self.time_stretches)
        if len(candidates) == 1:
            return candidates[0]
        return [max(each, key=lambda emissions: emissions.best_path_score) for each in zip(*candidates)]

    def batches(
        self,
        utterances: Sequence[Utterance],
        *,
        batch_seconds: float = 120.0,
        workers: int = 2,
        unread: Callable[[int, CarnelianError], None] | None = None,
    ) -> Iterator[tuple[list[int], list[Utterance], list[Emissions], list[np.ndarray]]]:
        """Yields batches of utterances of similar length, short ones first.

        Each is (indices into `utterances`, the utterances, their emissions, their waveforms).
        """
        durations = np.array([utterance.duration for utterance in utterances])
        plan = plan_batches(durations, batch_seconds=batch_seconds, shuffle=False) if len(durations) else []
        loaded = load_waveforms(utterances, plan, sample_rate=self.sample_rate, workers=workers, unread=unread)
        for batch in filter(None, loaded):
            indices, audio = [index for index, _ in batch], [each for _, each in batch]
            yield indices, [utterances[index] for index in indices], self.emissions(audio), audio

    def recognize(
        self,
        utterances: Sequence[Utterance],
        *,
        batch_seconds: float = 120.0,
        workers: int = 2,
        unread: Callable[[int, CarnelianError], None] | None = None,
        long_seconds: float = LONG_RECORDING,
        unfinished: UnfinishedRecordings | None = None,
    ) -> Iterator[Recognized]:
        """Yields the transcript of each utterance as soon as it is ready: in batches by length, so not in the order of the list.

        unread: called with the index and the error of each utterance that cannot be read, which is left out; else it is raised.
        long_seconds: longer utterances come last, one by one, in chunks (`long_audio`), unless there are several time stretches.
        unfinished: where their finished parts are kept, so that another call goes on from there.
        """
        long = [index for index, each in enumerate(utterances) if self.in_chunks and each.duration > long_seconds]
        places = sorted(set(range(len(utterances))).difference(long))
        short = [utterances[index] for index in places]
        short_unread = unread and (lambda index, error: unread(places[index], error))
        batches = self.batches(short, batch_seconds=batch_seconds, workers=workers, unread=short_unread)
        for indices, batch, rows, audio in batches:
            decoded = self.decode(emissions.log_probs for emissions in rows)
            found = list(map(self.transcript, decoded, rows, audio))
            for index, utterance, each in zip(indices, batch, self.corrected(found)):
                yield Recognized(places[index], utterance, each)
        yield from self._recognize_long(utterances, long, unread, unfinished)

    def _recognize_long(
        self,
        utterances: Sequence[Utterance],
        indices: Sequence[int],
        unread: Callable[[int, CarnelianError], None] | None,
        unfinished: UnfinishedRecordings | None,
    ) -> Iterator[Recognized]:
        """The transcripts of long utterances, in chunks, with a bar for each."""
        for index in indices:
            utterance = utterances[index]
            kept = unfinished.of(utterance, self.identity) if unfinished and self.identity else None
            try:
                with bar(Path(utterance.audio_filepath).name, round(utterance.duration)) as advance:
                    found = self.transcribe_long(utterance, advance=advance, kept=kept)
            except AudioError as error:
                if unread is None:
                    raise
                unread(index, error)
            except KeyboardInterrupt:
                if kept and kept.text_path.exists():
                    note(
                        f"{utterance.audio_filepath}: its transcript so far is in {kept.text_path}; the same call goes on from there"
                    )
                raise
            else:
                yield Recognized(index, utterance, found)

    @cached_property
    def identity(self) -> str:
        """Tells recognizers apart whose results may differ; empty where the decoder or the engine cannot say."""
        parts = [getattr(each, "identity", "") for each in (self.engine, self.decoder)]
        return ", ".join([*parts, self.voice_activity]) if all(parts) else ""

    def decode(self, log_probs: Iterable[np.ndarray]) -> list[list[Hypothesis]]:
        """Returns the hypotheses of each utterance; uses all cores where the decoder has `batch`."""
        batch: Callable | None = getattr(self.decoder, "batch", None)
        return batch(log_probs) if batch else [self.decoder(each) for each in log_probs]


def load(
    model: str | Path,
    *,
    decoding: DecodingConfig | None = None,
    hot_words: Mapping[str, float] | None = None,
    device: str = "",
    precision: str = "fp32",
    correct: Correct | None = None,
) -> Recognizer:
    """Returns the recognizer of a model: `carnelian.load("model")("recording.wav").text`. As `Recognizer.load`."""
    return Recognizer.load(
        model, decoding=decoding, hot_words=hot_words, device=device, precision=precision, correct=correct
    )


def duration_of(audio: str | os.PathLike | Utterance) -> float:
    """The seconds of a recording, or of a part of one."""
    if isinstance(audio, Utterance) and audio.duration:
        return audio.duration
    with open_audio(audio if isinstance(audio, Utterance) else os.fspath(audio)) as file:
        return file.frames / file.sample_rate - (audio.offset if isinstance(audio, Utterance) else 0.0)


def is_tensor(audio: object) -> bool:
    """Whether audio is a PyTorch tensor; PyTorch need not be installed."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(audio, torch.Tensor)


def rescoring_decoder(decoder: Any, rescoring: RescoringConfig, alphabet: Alphabet, device: str) -> Decoder:
    """Returns a decoder whose hypotheses are rescored. Raises MissingExtraError where PyTorch is not installed."""
    try:
        from carnelian.rescoring.rescorer import RescoringDecoder, load_rescorer
    except ModuleNotFoundError as error:
        if error.name not in EXTRA_OF:
            raise
        raise MissingExtraError(error.name, EXTRA_OF[error.name], f"{rescoring.model}: rescoring") from None
    return RescoringDecoder(decoder, load_rescorer(rescoring, alphabet, device=device))


def load_engine(path: str | Path, *, device: str = "", precision: str = "fp32", threads: int = 0) -> Engine:
    """Returns the engine of a checkpoint or run's folder (PyTorch) or of an .onnx model (ONNX Runtime), by the path's suffix."""
    if Path(path).suffix == ".onnx":
        from carnelian.inference.onnx_engine import load_onnx_engine

        if device not in ("", "cpu"):
            raise CarnelianError(
                f"{path}: an .onnx model runs on the CPU. Leave out device {device}, or give the checkpoint"
            )
        return load_onnx_engine(path, precision=precision, threads=threads)
    try:
        from carnelian.inference.torch_engine import load_torch_engine
    except ModuleNotFoundError as error:
        if error.name not in EXTRA_OF:
            raise
        raise MissingExtraError(error.name, EXTRA_OF[error.name], f"{path}: a checkpoint") from None
    return load_torch_engine(path, device=device, precision=precision, threads=threads)
