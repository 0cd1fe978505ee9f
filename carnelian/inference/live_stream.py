"""Live recognition: audio in chunks of any size in, results that may still change and final ones out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from carnelian.data.audio import HINT_RATE, Resampler, as_waveform
from carnelian.data.recording import check_sample_rate
from carnelian.data.transcript import Transcript, Word, transcript
from carnelian.errors import CarnelianError
from carnelian.inference.endpointing import Endpointer, EndpointSettings
from carnelian.inference.long_audio import decoding_stream, log_probs_of

#: seconds that a model may see ahead, to be fed piece by piece; one that sees further recognizes each utterance anew instead
LONGEST_WAIT = 3.0


@dataclass(frozen=True, slots=True)
class StreamResult:
    """What an utterance says so far, or where `final`, what it says. Times of words are seconds since the stream's start.

    stable: the first words, which were the same for several updates. utterance: its number, from 0.
    """

    text: str
    stable: str
    words: tuple[Word, ...]
    final: bool
    utterance: int


class StableWords:
    """Counts for how many updates each word has been as it is, with all words before it."""

    def __init__(self, updates: int):
        self.updates = updates
        self.words: list[str] = []
        self.counts: list[int] = []

    def update(self, words: Sequence[str]) -> int:
        """Takes the words of an update; returns how many of them are stable."""
        same = 0
        while same < min(len(words), len(self.words)) and words[same] == self.words[same]:
            same += 1
        self.counts = [count + 1 for count in self.counts[:same]] + [1] * (len(words) - same)
        self.words = list(words)
        return next((index for index, count in enumerate(self.counts) if count < self.updates), len(words))


class FedLogProbs:
    """The log-probabilities of an utterance from a model that is fed piece by piece, and runs on from utterance to utterance."""

    def __init__(self, engine: Any, normalizer: Any):
        self.stream = engine.stream(normalizer)
        self.fed = False  # whether there was any audio

    def step(self, audio: np.ndarray, last: bool) -> np.ndarray:
        """The log-probabilities (O, V) that become known with the next samples (S,); with `last` those up to the end."""
        self.fed = self.fed or len(audio) > 0
        pieces = [self.stream.step(audio)]
        if last and self.fed:
            pieces.append(self.stream.finish())
        return np.concatenate(pieces)


def is_fed(engine: Any, longest_wait: float = LONGEST_WAIT) -> bool:
    """Whether live audio is fed to a model piece by piece, so that nothing is computed twice: it sees at most so far ahead."""
    return getattr(engine, "seconds_ahead", np.inf) <= longest_wait


class SegmentStream:
    """A stream for a model that is fed piece by piece, in segments that somebody else ends: `drop` moves the segment's start.

    The log-probabilities since the start are kept, so that a new segment may begin at any step that was already recognized.
    """

    def __init__(self, engine: Any, decoding: Callable[[], Any], normalizer: Any = None):
        """decoding: makes the stream of a decoder, for each segment. normalizer: a running one to go on with."""
        self.engine, self.decoding = engine, decoding
        self.step_samples = round(engine.seconds_per_step * engine.sample_rate)
        self.normalizer = engine.running_normalizer() if normalizer is None else normalizer
        self.source = FedLogProbs(engine, self.normalizer)
        self.pieces: list[np.ndarray] = []  # log-probabilities (O, V) since the segment's start
        self.segment: Any = None  # its decoder; None until the next step

    def step(self, audio: np.ndarray, last: bool = False) -> Transcript:
        """The segment's transcript as far as it is known with the next samples (S,), S also 0; times from the segment's start.

        Its duration says how much of the audio it covers: with `last` all of it, else that up to some seconds before the end.
        """
        self.pieces.append(self.source.step(audio, last))
        new = self.pieces[-1:]
        if self.segment is None:
            self.segment, new = self.decoding(), self.pieces
        for piece in new:
            self.segment.accept(piece)
        steps, seconds = sum(map(len, self.pieces)), self.engine.seconds_per_step
        if not steps:
            return Transcript("")
        return transcript(self.segment.hypotheses(), seconds_per_step=seconds, duration=steps * seconds)

    def drop(self, steps: int) -> None:
        """Begins the next segment that many steps after the start of this one."""
        self.pieces = [np.concatenate(self.pieces)[steps:]] if self.pieces else []
        self.segment = None

    def restarted(self) -> "SegmentStream":
        """A stream for the audio that follows a last step; it goes on with the statistics of the features."""
        return SegmentStream(self.engine, self.decoding, self.normalizer)


class RecognizerStream:
    """A stream of audio under recognition: `accept` chunks, `finish` at its end; both return the results that are new.

    A model with limited `lookahead` is fed piece by piece: the results are those of the whole recording. Any other model
    recognizes the utterance so far anew at each update: the result of an utterance is that of its audio alone.
    """

    def __init__(
        self,
        engine: Any,
        decoder: Any,
        *,
        sample_rate: int = 0,
        stable_updates: int = 3,
        update_seconds: float = 0.32,
        endpoints: EndpointSettings = EndpointSettings(),  # noqa: B008
        prior: Any = None,
    ):
        """sample_rate: of the chunks, by default the model's. stable_updates: a word that is the same in this many updates is stable.
        update_seconds: of audio between updates. prior: statistics of features (`engine.statistics`) to begin with."""
        if stable_updates < 1 or not update_seconds > 0:
            raise CarnelianError(
                f"stable_updates {stable_updates}, update_seconds {update_seconds:g}: expected 1 or more, and more than 0"
            )
        self.engine, self.decoder, self.endpoints = engine, decoder, endpoints
        self.given_rate = sample_rate or engine.sample_rate
        check_sample_rate(self.given_rate, "sample_rate", HINT_RATE)
        self.resampler = Resampler(self.given_rate, engine.sample_rate)
        self.step_samples = round(engine.seconds_per_step * engine.sample_rate)
        self.update_samples = max(1, round(update_seconds / engine.seconds_per_step)) * self.step_samples
        self.stable_updates, self.closed = stable_updates, False
        self.endpointer = Endpointer(endpoints, engine.seconds_per_step)
        self.blanks = silent_symbols(engine.alphabet)
        #: whether the model is fed piece by piece, so that results are those of the whole recording
        self.exact = is_fed(engine)
        self.source = FedLogProbs(engine, engine.running_normalizer(prior)) if self.exact else None
        self.audio = np.zeros(0, np.float32)  # from the utterance's first sample on
        self.taken = 0  # samples of it that an update has seen
        self.begin = 0  # the utterance's first step, from the stream's start
        self.utterance = 0
        self.start_utterance()

    def start_utterance(self) -> None:
        """Begins the next utterance."""
        self.decoding, self.steps = decoding_stream(self.decoder), 0
        self.stability, self.last = StableWords(self.stable_updates), ("", "")
        self.endpointer.restart()

    def accept(self, chunk: np.ndarray) -> list[StreamResult]:
        """Takes the next samples (S,), S of any size also 0: floats in [-1, 1] or integers. Raises AudioError for NaN."""
        if self.closed:
            raise CarnelianError("this stream is finished. Start another one")
        chunk = as_waveform(np.asarray(chunk), self.given_rate, self.given_rate)
        return self.advance(self.resampler(chunk))

    def finish(self) -> list[StreamResult]:
        """Ends the stream; returns the results that are left."""
        if self.closed:
            return []
        self.closed = True
        rest = self.resampler(np.zeros(0, np.float32), last=True)
        return [*self.advance(rest), *self.update(len(self.audio), last=True)]

    def advance(self, audio: np.ndarray) -> list[StreamResult]:
        """Takes samples at the model's rate; one update for each full `update_samples`."""
        self.audio = np.concatenate([self.audio, audio])
        found: list[StreamResult] = []
        while len(self.audio) - self.taken >= self.update_samples:
            found += self.update(self.taken + self.update_samples)
        return found

    def update(self, end: int, last: bool = False) -> list[StreamResult]:
        """Recognizes the utterance's first `end` samples; the results that follow."""
        if self.source is not None:
            new = self.source.step(self.audio[self.taken : end], last)
            self.taken = end
            return self.take_steps(new, last)
        self.taken = end
        log_probs = log_probs_of(self.engine, self.audio[:end]) if end else None
        if log_probs is None:
            return []
        ended = last
        for step in range(self.steps, len(log_probs)):
            if self.ends_after(step, log_probs[step]):
                ended, self.steps = True, step + 1
                break
            self.steps = step + 1
        if not ended:
            return self.results(self.decoder(log_probs), False)
        if not last:  # the utterance is its audio up to this step
            end = self.steps * self.step_samples
            log_probs = log_probs_of(self.engine, self.audio[:end])
        found = self.results(self.decoder(log_probs), True)
        self.drop(end)
        return found

    def take_steps(self, log_probs: np.ndarray, last: bool) -> list[StreamResult]:
        """The results of the next log-probabilities of a model that is fed piece by piece."""
        found: list[StreamResult] = []
        first = 0
        for index, row in enumerate(log_probs):
            self.steps += 1
            if self.ends_after(self.steps - 1, row):
                self.decoding.accept(log_probs[first : index + 1])
                found += self.results(self.decoding.hypotheses(), True)
                first, samples = index + 1, self.steps * self.step_samples
                self.drop(samples)
        self.decoding.accept(log_probs[first:])
        if self.steps or last:
            found += self.results(self.decoding.hypotheses(), last)
        return found

    def ends_after(self, step: int, row: np.ndarray) -> bool:
        """Whether the utterance ends after a step, by its log-probabilities (V,) and audio."""
        audio = self.audio[step * self.step_samples : (step + 1) * self.step_samples]
        return self.endpointer.step(int(row.argmax()) in self.blanks, audio)

    def drop(self, samples: int) -> None:
        """Removes the first `samples` samples, which the utterance that ended covers."""
        self.audio, self.taken = self.audio[samples:], max(0, self.taken - samples)
        self.begin += samples // self.step_samples
        if self.source is None:
            self.taken = 0  # the rest is recognized with the next utterance
        self.utterance += 1
        self.start_utterance()

    def results(self, hypotheses: list, final: bool) -> list[StreamResult]:
        """The result of an update; none where neither text nor stable words changed, and none for an utterance without words."""
        step = self.engine.seconds_per_step
        seconds = len(self.audio) / self.engine.sample_rate
        found: Transcript = transcript(hypotheses, seconds_per_step=step, duration=seconds)
        words = found.shifted(self.begin * step).words
        count = self.stability.update([word.text for word in words])
        stable = found.text if final else " ".join(word.text for word in words[:count])
        shown = (found.text, stable)
        if (final and not found.text) or (not final and shown == self.last):
            return []
        self.last = shown
        return [StreamResult(found.text, stable, words, final, self.utterance)]


def silent_symbols(alphabet: Any) -> set[int]:
    """The outputs that write nothing but white space: the blank, and the space."""
    return {alphabet.blank, *(index for index, text in enumerate(alphabet.spelling) if not text.strip())}
