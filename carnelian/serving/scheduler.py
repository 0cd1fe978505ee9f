"""One queue for all clients: pieces of audio share batches, and requests that were served least come first."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from carnelian.data.transcript import Transcript

#: the recognizer as the service sees it: waveforms (S,) and the hot words of each -> their transcripts
Recognize = Callable[[Sequence[np.ndarray], Sequence[tuple[str, ...]]], list[Transcript]]
#: called after each batch with pieces, seconds of audio, seconds of work, and the seconds that each piece waited
Observe = Callable[[int, float, float, list[float]], None]
PADDING = 1.25  # how many times as long as the shortest the longest piece of a batch may be
PATIENCE = 60.0  # seconds; pieces of a request that was served wait at most this much longer than those of a new one
SMOOTHING = 0.2  # of the measured speed, with each batch


@dataclass(eq=False, slots=True)
class Flow:
    """The pieces of one request: `served` counts the seconds of its audio that were recognized."""

    served: float = 0.0


@dataclass(eq=False, slots=True)
class Piece:
    """Audio that waits for recognition."""

    flow: Flow
    audio: np.ndarray
    hot_words: tuple[str, ...]
    done: "asyncio.Future[Transcript]"
    work: Callable[[], Transcript] | None = None  # what is done with it, in place of the recognizer
    arrived: float = field(default_factory=time.monotonic)


class Scheduler:
    """Recognizes pieces of audio in batches, in one thread beside the event loop.

    Pieces are ordered by their arrival, and those of a request that was served `s` seconds of audio as if they had arrived `s` seconds
    later, at most `PATIENCE`. So a short recording waits for the batch that is running, not for a long recording; and however many
    short ones come, the long one goes on. Pieces of similar length join the first one's batch, as many as `work_seconds` of work allow
    at the speed measured so far. Steps of live streams wait in the same queue, and are run one by one. A piece whose caller
    has gone is dropped.
    """

    def __init__(
        self,
        recognize: Recognize,
        sample_rate: int,
        *,
        batch_seconds: float = 60.0,
        work_seconds: float = 0.5,
        observe: Observe | None = None,
    ):
        self.recognize, self.sample_rate = recognize, sample_rate
        self.batch_seconds, self.work_seconds = batch_seconds, work_seconds
        self.observe = observe or (lambda *measured: None)
        self.speed = 0.0  # seconds of audio recognized in a second; 0: not known yet
        self.waiting: list[Piece] = []
        self.running: list[Piece] = []
        self.arrival = asyncio.Event()
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="recognizer")
        self.task: asyncio.Task | None = None

    def start(self) -> None:
        """Begins to recognize."""
        self.task = asyncio.create_task(self._run(), name="scheduler")

    async def close(self) -> None:
        """Ends; pieces that still wait are cancelled."""
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        for piece in self.waiting:
            piece.done.cancel()
        self.thread.shutdown(wait=False, cancel_futures=True)

    async def submit(self, flow: Flow, audio: np.ndarray, hot_words: tuple[str, ...] = ()) -> Transcript:
        """The transcript of a piece of audio (S,), in its turn. Cancelling the call gives the place up."""
        return await self._wait(Piece(flow, audio, hot_words, asyncio.get_running_loop().create_future()))

    async def run(self, flow: Flow, audio: np.ndarray, work: Callable[[], Transcript]) -> Transcript:
        """The result of other work on a piece of audio (S,), in its turn and in the recognizer's thread."""
        return await self._wait(Piece(flow, audio, (), asyncio.get_running_loop().create_future(), work))

    async def _wait(self, piece: Piece) -> Transcript:
        self.waiting.append(piece)
        self.arrival.set()
        return await piece.done

    @property
    def backlog_seconds(self) -> float:
        """Seconds of audio that wait or are being recognized."""
        return sum(len(piece.audio) for piece in (*self.waiting, *self.running)) / self.sample_rate

    @property
    def expected_wait(self) -> float:
        """Seconds until what waits now is recognized, at the speed measured so far."""
        return self.backlog_seconds / self.speed if self.speed else 1.0

    async def _run(self) -> None:
        while True:
            await self.arrival.wait()
            self.arrival.clear()
            while batch := self._next_batch():
                await self._recognize(batch)

    def _next_batch(self) -> list[Piece]:
        """Takes the pieces of the next batch out of the queue."""
        self.waiting = [piece for piece in self.waiting if not piece.done.done()]
        if not self.waiting:
            return []
        ordered = sorted(self.waiting, key=lambda piece: piece.arrived + min(piece.flow.served, PATIENCE))
        budget = min(self.batch_seconds, self.work_seconds * self.speed) * self.sample_rate
        batch: list[Piece] = []
        shortest = longest = max(1, len(ordered[0].audio))
        for piece in ordered[:1] if ordered[0].work else ordered:
            low, high = min(shortest, max(1, len(piece.audio))), max(longest, len(piece.audio))
            if batch and (piece.work or high > PADDING * low or high * (len(batch) + 1) > budget):
                continue
            batch.append(piece)
            shortest, longest = low, high
        taken = set(map(id, batch))
        self.waiting = [piece for piece in self.waiting if id(piece) not in taken]
        return batch

    async def _recognize(self, batch: list[Piece]) -> None:
        """Recognizes a batch and hands each piece its transcript; where the batch fails, its pieces are tried one by one."""
        started = time.monotonic()
        self.running = batch
        try:
            transcripts: list[Transcript | Exception] = list(await self._call(batch))
        except Exception as error:
            transcripts = [error if len(batch) == 1 else await self._alone(piece) for piece in batch]
        finally:
            self.running = []
        seconds = sum(len(piece.audio) for piece in batch) / self.sample_rate
        work = max(time.monotonic() - started, 1e-6)
        if not batch[0].work:
            self.speed = seconds / work if not self.speed else self.speed + SMOOTHING * (seconds / work - self.speed)
        self.observe(len(batch), seconds, work, [started - piece.arrived for piece in batch])
        for piece, transcript in zip(batch, transcripts):
            piece.flow.served += len(piece.audio) / self.sample_rate
            if piece.done.done():  # its caller has gone
                continue
            if isinstance(transcript, Exception):
                piece.done.set_exception(transcript)
            else:
                piece.done.set_result(transcript)

    async def _call(self, batch: list[Piece]) -> list[Transcript]:
        if work := batch[0].work:
            return [await asyncio.get_running_loop().run_in_executor(self.thread, work)]
        audio, hot_words = [piece.audio for piece in batch], [piece.hot_words for piece in batch]
        return await asyncio.get_running_loop().run_in_executor(self.thread, self.recognize, audio, hot_words)

    async def _alone(self, piece: Piece) -> Transcript | Exception:
        try:
            return (await self._call([piece]))[0]
        except Exception as error:
            return error
