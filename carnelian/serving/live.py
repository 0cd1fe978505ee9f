"""Live recognition: audio comes in blocks, partial results follow while one speaks, a final result after each pause.

A model with little lookahead is fed with the audio as it comes (`ServedModel.stream`), so that a second of audio costs the same
however long the segment is. With any other model the segment so far is recognized anew with each partial result, unless it is no
louder than the background: such models make words of noise that they get alone. Both wait in the queue that all clients share.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np

from carnelian.data.audio import Resampler
from carnelian.data.transcript import Transcript, Word
from carnelian.inference.endpointing import NoiseFloor, frame_levels
from carnelian.serving.scheduler import Flow
from carnelian.serving.service import Service, quietest

KEPT_SECONDS = 1.0  # of audio without words, so that the start of the first word is not lost
SILENT_SECONDS = 3.0  # of audio without words, before all but the last second is given up
LEAD_SECONDS = 0.3  # speech is said to start so long before its first word is sure
FRAME_SECONDS = 0.02  # over which the level of the audio is measured
#: a segment may hold speech if at least LOUD_FRAMES of its frames are LOUD_MARGIN decibels louder than the background
LOUD_FRAMES, LOUD_MARGIN = 3, 10.0
QUIETEST_BACKGROUND = -60.0  # decibels; digital silence makes no noise loud
LONGEST_SEGMENT = 15.0  # seconds; a speaker who makes no pause is cut at the quietest moment


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The first words of a segment were recognized; `at` in seconds since the session's start."""

    at: float


@dataclass(frozen=True, slots=True)
class PartialResult:
    """What a segment says so far; it may still change."""

    transcript: Transcript


@dataclass(frozen=True, slots=True)
class FinalResult:
    """What a segment says; it ends at `at` seconds. `committed`: the client ended it, and it may be empty."""

    transcript: Transcript
    at: float
    committed: bool = False


LiveEvent = SpeechStarted | PartialResult | FinalResult


class LiveSession:
    """One stream of audio; `feed` takes it, `events` gives what is recognized. Times count from the session's start.

    silence: seconds without a word after which a segment is final; None: only `commit` and `finish` end segments.
    """

    def __init__(
        self,
        service: Service,
        sample_rate: int,
        *,
        hot_words: tuple[str, ...] = (),
        silence: float | None = 0.6,
        partials: bool = True,
    ):
        self.service, self.hot_words, self.silence, self.partials = service, hot_words, silence, partials
        self.rate = service.model.sample_rate
        self.given_rate = sample_rate
        self.resampler = Resampler(sample_rate, self.rate)
        self.stream = service.model.stream(hot_words) if service.model.stream is not None else None
        self.audio = np.zeros(0, np.float32)  # since the last final result
        self.first = 0  # its first sample, counted from the session's start
        self.seen = 0  # samples of it that were recognized at least once
        self.background, self.measured = NoiseFloor(), 0  # the level of the background up to that sample of the session
        self.commits: list[int] = []  # samples, from the session's start, at which the client ended a segment
        self.finished = False
        self.speaking = False
        self.text = ""  # of the last partial result
        self.changed, self.progress = asyncio.Event(), asyncio.Event()

    async def feed(self, block: np.ndarray) -> None:
        """Takes audio (S,) float32 at the session's sample rate; waits while too much of it is not yet recognized."""
        self._append(self.resampler(np.ascontiguousarray(block, np.float32)))
        while self._unseen > self.service.config.max_backlog_seconds * self.rate and not self.finished:
            self.progress.clear()
            await self.progress.wait()

    def commit(self) -> None:
        """Ends the segment with what was fed so far."""
        self._flush()
        self.commits.append(self.first + len(self.audio))
        self.changed.set()

    def finish(self) -> None:
        """Ends the session: the events end after the final result of what was fed so far."""
        if not self.finished:
            self._flush()
        self.finished = True
        self.changed.set()
        self.progress.set()

    def clear(self) -> None:
        """Forgets the audio since the last final result."""
        self.first += len(self.audio)
        self.audio, self.seen, self.text, self.speaking = np.zeros(0, np.float32), 0, "", False
        self.commits.clear()
        if self.stream is not None:
            self.stream = self.stream.restarted()
        self.progress.set()

    async def events(self) -> AsyncGenerator[LiveEvent]:
        """What is recognized, until the session is finished."""
        interval = round(self.service.config.partial_seconds * self.rate)
        while True:
            while not (self.commits or self.finished or (self._unseen >= interval and self._decides)):
                self.changed.clear()
                await self.changed.wait()
            ended, start = bool(self.commits) or self.finished, self.first
            commit = self.commits.pop(0) if self.commits else None
            size = (commit - self.first) if commit is not None else len(self.audio)
            longest = round(LONGEST_SEGMENT * self.rate)
            if size > longest:  # the rest is recognized in the next round
                ended = False
                if commit is not None:
                    self.commits.insert(0, commit)
                size = longest
            transcript, known = await self._recognize(size, ended)
            if self.first != start:  # cleared meanwhile
                continue
            for event in self._interpret(transcript, known, ended, size == longest):
                yield event
            if ended and self.stream is not None:
                self.stream = self.stream.restarted()
            self.progress.set()
            if ended and self.finished and not self.commits and not len(self.audio):
                return

    async def _recognize(self, size: int, ended: bool) -> tuple[Transcript, int]:
        """The transcript of the segment's first `size` samples, with times since the session's start, and how many of them it covers.

        ended: the segment is these samples. Until then a model that is fed with audio knows less than what it has got.
        """
        if not size:
            return Transcript(""), 0
        # Each piece is a flow of its own, as one of a new request: a session has one at a time, however old it is.
        start, stream, scheduler = self.first, self.stream, self.service.scheduler
        if stream is None and self._is_background(size) and (start or not ended):  # a whole session is never left out
            piece = Transcript("")
        elif stream is None:
            piece = await scheduler.submit(Flow(), self.audio[:size].copy(), self.hot_words)
        else:
            audio = self.audio[self.seen : size].copy()
            piece = await scheduler.run(Flow(), audio, lambda: stream.step(audio, ended))
        if self.first == start:  # else it was cleared meanwhile
            self.seen = max(self.seen, size)
        known = size if stream is None or ended else min(size, round(piece.duration * self.rate))
        return piece.shifted(start / self.rate), known

    def _is_background(self, size: int) -> bool:
        """Whether the segment's first `size` samples are nowhere louder than the background of the session."""
        frame = round(FRAME_SECONDS * self.rate)
        levels = frame_levels(self.audio[:size], frame, QUIETEST_BACKGROUND)
        for level in levels[max(0, self.measured - self.first) // frame :].tolist():
            self.background.follow(level, FRAME_SECONDS)
        self.measured = self.first + size
        return bool(np.count_nonzero(levels > self.background.level + LOUD_MARGIN) < LOUD_FRAMES)

    def _interpret(self, transcript: Transcript, size: int, ended: bool, full: bool) -> list[LiveEvent]:
        """The events that a recognized segment causes; moves the start of the segment on."""
        end = self.first + size
        now = end / self.rate
        events: list[LiveEvent] = []
        *groups, words = self._groups(transcript.words)
        for group, after in zip(
            groups, [*groups[1:], words]
        ):  # sent faster than spoken, audio may hold several segments
            assert self.silence is not None
            self._start(events, group)
            pause = (group[-1].end + after[0].start) / 2
            self._final(events, group, self._cut(pause * self.rate), group[-1].end + self.silence)
        self._start(events, words)
        quiet = now - words[-1].end if words else 0.0
        if ended:
            self._final(events, words, end, now, committed=True)
        elif self.silence is not None and words and quiet >= self.silence:
            self._final(events, words, self._cut((now - quiet / 2) * self.rate), now)
        elif full and not groups:
            before, cut = self._split(words, self.first + quietest(self.audio[:size], size // 2, self.rate))
            self._final(events, before, cut, cut / self.rate)
        elif words:
            text = " ".join(word.text for word in words)
            if self.partials and text != self.text:
                self.text = text
                events.append(PartialResult(Transcript(text, words, (), now - self.first / self.rate)))
        elif self.silence is not None and size > SILENT_SECONDS * self.rate:
            self._drop(self._cut(end - KEPT_SECONDS * self.rate))
        return events

    def _groups(self, words: tuple[Word, ...]) -> list[tuple[Word, ...]]:
        """The words in segments, split where a pause is long enough; at least one segment, which may be empty."""
        groups: list[tuple[Word, ...]] = [()]
        for word in words:
            if self.silence is not None and groups[-1] and word.start - groups[-1][-1].end >= self.silence:
                groups.append(())
            groups[-1] += (word,)
        return groups

    def _start(self, events: list[LiveEvent], words: tuple[Word, ...]) -> None:
        """Adds that speech has started, where these are a segment's first words."""
        if words and not self.speaking:
            self.speaking = True
            events.append(SpeechStarted(max(self.first / self.rate, words[0].start - LEAD_SECONDS)))

    def _final(
        self, events: list[LiveEvent], words: tuple[Word, ...], end: int, at: float, committed: bool = False
    ) -> None:
        """Adds a final result and begins the next segment at the sample `end` of the session."""
        seconds = (end - self.first) / self.rate
        events.append(FinalResult(Transcript(" ".join(word.text for word in words), words, (), seconds), at, committed))
        self.service.metrics.audio.inc(seconds)
        self._drop(end)
        self.speaking, self.text = False, ""

    def _split(self, words: tuple[Word, ...], sample: int) -> tuple[tuple[Word, ...], int]:
        """The words before the sample of the session, and where the next segment begins: there, or at the edge of a word around it."""
        at = sample / self.rate
        before = tuple(word for word in words if word.start + word.end < 2 * at)
        end = before[-1].end if before else 0.0
        start = words[len(before)].start if len(before) < len(words) else at
        edge = self._cut(max(end, min(at, start)) * self.rate)
        return before, edge if edge > self.first else self._cut(sample)

    def _cut(self, sample: float) -> int:
        """The sample of the session, near the given one, at which a new segment may begin: where an output step does."""
        step = 1 if self.stream is None else self.stream.step_samples
        return self.first + round((sample - self.first) / step) * step

    def _drop(self, end: int) -> None:
        """Lets go of the audio before the sample `end` of the session."""
        size = end - self.first
        if self.stream is not None:
            self.stream.drop(size // self.stream.step_samples)
        self.audio, self.first, self.seen = self.audio[size:], end, max(0, self.seen - size)

    def _append(self, block: np.ndarray) -> None:
        self.audio = np.concatenate([self.audio, block])
        self.changed.set()

    def _flush(self) -> None:
        """Takes out what the resampler holds back, at the end of a segment or session."""
        if self.given_rate != self.rate:
            self._append(self.resampler(np.zeros(0, np.float32), last=True))
            self.resampler = Resampler(self.given_rate, self.rate)

    @property
    def _decides(self) -> bool:
        """Whether recognizing before a commit can lead to an event, or costs nothing more."""
        return (
            self.stream is not None
            or self.partials
            or self.silence is not None
            or len(self.audio) > LONGEST_SEGMENT * self.rate
        )

    @property
    def _unseen(self) -> int:
        return len(self.audio) - self.seen


async def run_session(
    session: LiveSession, read: Callable[[], Awaitable[None]], show: Callable[[LiveEvent], Awaitable[None]]
):
    """Reads a client's messages with `read`, which returns where the client has ended, and hands events to `show` meanwhile.

    Where either fails, as when the client leaves, the other is cancelled and the session's work ends.
    """

    async def read_and_finish() -> None:
        await read()
        session.finish()

    async def show_all() -> None:
        async with aclosing(session.events()) as events:
            async for event in events:
                await show(event)

    reading, showing = asyncio.create_task(read_and_finish()), asyncio.create_task(show_all())
    session.service.sessions.add(session)
    try:
        await asyncio.wait((reading, showing), return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()
        await showing  # done already, where the service ended the session
    finally:
        session.service.sessions.discard(session)
        for task in (reading, showing):
            task.cancel()
        await asyncio.gather(reading, showing, return_exceptions=True)


def pcm16(content: bytes) -> np.ndarray:
    """Samples (S,) float32 in [-1, 1] from 16-bit little-endian PCM; half a sample at the end is left out."""
    return np.frombuffer(content[: len(content) // 2 * 2], "<i2").astype(np.float32) / 32768
