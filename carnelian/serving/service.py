"""The service behind every protocol: recordings in, pieces of transcript out, within limits."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from carnelian.data.transcript import Transcript, merge_silences
from carnelian.errors import AudioError
from carnelian.serving.audio_reader import AudioReader, DecoderStuckError, TooLongError
from carnelian.serving.config import Refusal, ServingConfig, overloaded
from carnelian.serving.metrics import Metrics
from carnelian.serving.scheduler import Flow, Recognize, Scheduler

PIECES_AHEAD = 2  # pieces of one recording that are in the queue at once, so that reading and recognizing overlap
EMPTY_RECORDING = "audio: it is empty. Send a recording"
QUIET_FRAME = 0.05  # seconds over which loudness is measured where a recording is cut
READY_SECONDS = 5.0  # the readiness check waits so long for an answer


class LiveStream(Protocol):
    """A model that is fed live audio piece by piece: `inference.live_stream.SegmentStream`."""

    step_samples: int

    def step(self, audio: np.ndarray, last: bool = False) -> Transcript:
        """The transcript since the segment's start, of as many seconds as its duration says, with the next samples (S,)."""

    def drop(self, steps: int) -> None:
        """Begins the next segment that many steps after the start of this one."""

    def restarted(self) -> "LiveStream":
        """A stream for the audio that follows a last step."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A recognizer as the service needs it: functions handed in."""

    name: str
    sample_rate: int
    recognize: Recognize
    encode: Callable[[str], list[int]]  # text to the symbols of the model's alphabet
    hot_words: Callable[[list[str]], tuple[str, ...]]  # the words among those given that the model can find
    language: str = "en"
    batch_seconds: float = 60.0  # of audio in a batch, at most
    #: hot words to a stream of live audio; None for a model that cannot be fed piece by piece, which recognizes segments anew
    stream: Callable[[tuple[str, ...]], LiveStream] | None = None


class Service:
    """Transcribes recordings and live audio for many clients at once."""

    def __init__(self, model: ServedModel, config: ServingConfig | None = None, metrics: Metrics | None = None):
        self.model, self.config = model, config or ServingConfig()
        self.metrics = metrics or Metrics()
        self.reader = AudioReader(self.config, model.sample_rate)
        self.scheduler = Scheduler(
            model.recognize,
            model.sample_rate,
            batch_seconds=model.batch_seconds,
            work_seconds=self.config.work_seconds,
            observe=self.metrics.observe_batch,
        )
        self.requests: Counter[str] = Counter()  # accepted and not yet answered, of each client
        self.live = 0
        self.sessions: set[Any] = set()  # live sessions, which a shutdown finishes
        self.warm = self.draining = False
        self.started = int(time.time())
        self.readiness: asyncio.Task[str] | None = None

    async def start(self) -> None:
        """Starts the decoders and the scheduler, and recognizes a second of silence until it is warm."""
        self.reader.start()
        self.scheduler.start()
        self.metrics.watch(self)
        for seconds in (1, 1, self.config.chunk_seconds):
            noise = np.random.default_rng(0).normal(0, 0.01, round(seconds * self.model.sample_rate))
            await self.scheduler.submit(Flow(), noise.astype(np.float32))
        if self.model.stream is not None:
            stream, audio = self.model.stream(()), noise.astype(np.float32)
            await self.scheduler.run(Flow(), audio, lambda: stream.step(audio, last=True))
        self.warm = True

    async def drain(self, seconds: float) -> None:
        """Refuses what is new, ends live sessions with their final results, and waits for what was accepted."""
        self.draining = True
        for session in list(self.sessions):
            session.finish()
        end = time.monotonic() + seconds
        while (self.requests.total() or self.live) and time.monotonic() < end:
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Ends scheduler and decoders."""
        await self.scheduler.close()
        self.reader.close()

    @contextmanager
    def admitted(self, client: str) -> Iterator[None]:
        """A place among the requests that are served; raises Refusal 503 or 429 where there is none."""
        self.refuse_if_draining()
        wait = self.scheduler.expected_wait
        if self.requests.total() >= self.config.max_requests:
            raise overloaded("The service is at its limit of requests. Try again later.", wait)
        if 0 < self.config.max_requests_per_client <= self.requests[client]:
            raise overloaded("You have reached your limit of requests at once. Try again later.", wait, status=429)
        self.requests[client] += 1
        try:
            yield
        finally:
            self.requests[client] -= 1
            self.requests += Counter()  # forgets clients without requests

    @contextmanager
    def admitted_live(self) -> Iterator[None]:
        """A place among the live sessions; raises Refusal 503 where there is none."""
        self.refuse_if_draining()
        if self.live >= self.config.max_live:
            raise overloaded("The service is at its limit of live sessions. Try again later.", 10)
        self.live += 1
        try:
            yield
        finally:
            self.live -= 1

    def refuse_if_draining(self) -> None:
        """Raises Refusal 503 while the service shuts down or is not warm yet."""
        if self.draining:
            raise overloaded("The service is shutting down.", 5)
        if not self.warm:
            raise overloaded("The service is starting.", 5)

    async def transcribe(self, recording: bytes, hot_words: tuple[str, ...] = ()) -> AsyncGenerator[Transcript]:
        """The recording's transcript piece by piece, as it is recognized; times count from the recording's start.

        The pieces' durations add up to the recording's. Raises Refusal 400 for what cannot be decoded.
        """
        flow, waiting, started = Flow(), deque[tuple[float, asyncio.Task[Transcript]]](), time.monotonic()
        seconds = 0.0
        try:
            async with aclosing(self._pieces(recording)) as pieces:
                async for start, audio in pieces:
                    seconds = start + len(audio) / self.model.sample_rate
                    waiting.append((start, asyncio.create_task(self.scheduler.submit(flow, audio, hot_words))))
                    if len(waiting) > PIECES_AHEAD:
                        offset, task = waiting.popleft()
                        yield (await task).shifted(offset)
            while waiting:
                offset, task = waiting.popleft()
                yield (await task).shifted(offset)
        except TooLongError as error:
            raise Refusal(400, str(error), param="file", code="audio_too_long") from None
        except AudioError as error:
            raise Refusal(400, str(error), param="file", code="invalid_audio") from None
        except DecoderStuckError:
            raise overloaded("Audio cannot be decoded at the moment.", 5) from None
        finally:
            for _, task in waiting:
                task.cancel()
        self.metrics.observe_audio(seconds, time.monotonic() - started)

    async def _pieces(self, recording: bytes) -> AsyncGenerator[tuple[float, np.ndarray]]:
        """(start in seconds, audio) of consecutive pieces of a recording, none longer than `chunk_seconds`."""
        rate = self.model.sample_rate
        size = round(self.config.chunk_seconds * rate)
        held, first, count = np.zeros(0, np.float32), 0, 0
        if not recording:
            raise AudioError(EMPTY_RECORDING)
        async with aclosing(self.reader.blocks(recording)) as blocks:
            async for block in blocks:
                held = np.concatenate([held, block])
                while len(held) > size:
                    cut = quietest(held[:size], size // 2, rate)
                    yield first / rate, held[:cut]
                    held, first, count = held[cut:], first + cut, count + 1
        if len(held) or not count:
            if not len(held):
                raise AudioError(EMPTY_RECORDING)
            yield first / rate, held

    async def ready(self) -> str:
        """ "" where a recording goes through decoder and recognizer, else what is wrong. Checks at the same time share one."""
        if self.draining or not self.warm:
            return "shutting down" if self.draining else "starting"
        if self.readiness is None or self.readiness.done():
            self.readiness = asyncio.create_task(self._check())
        return await asyncio.shield(self.readiness)

    async def _check(self) -> str:
        try:
            async with asyncio.timeout(READY_SECONDS):
                async for _ in self.transcribe(SECOND_OF_SILENCE):
                    pass
        except TimeoutError:
            return "no answer in time"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return ""


def wav(samples: bytes, sample_rate: int) -> bytes:
    """Samples of 16 bits, mono, as a WAV file."""
    head = b"fmt " + (16).to_bytes(4, "little") + b"\1\0\1\0" + sample_rate.to_bytes(4, "little")
    head += (2 * sample_rate).to_bytes(4, "little") + b"\2\0\x10\0data" + len(samples).to_bytes(4, "little")
    return b"RIFF" + (4 + len(head) + len(samples)).to_bytes(4, "little") + b"WAVE" + head + samples


SECOND_OF_SILENCE = wav(bytes(16_000), 8_000)


def quietest(audio: np.ndarray, first: int, rate: int) -> int:
    """The sample after `first` at which a waveform is quietest: the middle of the frame with the least energy."""
    frame = round(QUIET_FRAME * rate)
    count = (len(audio) - first) // frame
    energy = np.square(audio[first : first + count * frame].reshape(count, frame)).sum(1)
    smooth = np.convolve(energy, np.ones(5), "same")  # a pause, not the closure of one consonant
    smooth[[0, 1, -2, -1]] = np.inf
    return first + int(smooth.argmin()) * frame + frame // 2


def joined(pieces: list[Transcript]) -> Transcript:
    """The transcript of a recording from those of its consecutive pieces."""
    text = " ".join(piece.text for piece in pieces if piece.text)
    words = tuple(word for piece in pieces for word in piece.words)
    return Transcript(text, words, (), sum(piece.duration for piece in pieces), merge_silences(pieces))
