"""OpenAI's transcription API over HTTP: its request fields, answers, events and errors (openai-python 3.57 is the reference)."""

import json
import math
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from carnelian.data.text.captions import captions, srt, vtt
from carnelian.data.transcript import Transcript, Word
from carnelian.serving.config import Refusal
from carnelian.serving.service import Service, joined

#: models of OpenAI's that stand for the served one, so that clients need no other setting than the address
ALIASES = ("whisper-1", "gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")
RESPONSE_FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
STREAM_END = "data: [DONE]\n\n"
MOST_KEYWORDS = 1000


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """What a client asks for beside the recording."""

    model: str
    response_format: str = "json"
    granularities: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    chunking_strategy: str = "auto"
    language: str = ""
    temperature: float = 0.0

    def check(self, service: Service) -> None:
        """Raises the Refusal that OpenAI's service answers to fields that it does not know or that do not go together."""
        if self.model and self.model not in (service.model.name, *ALIASES):
            message = f"The model '{self.model}' does not exist. This service has '{service.model.name}'."
            raise Refusal(404, message, param="model", code="model_not_found")
        if self.response_format not in RESPONSE_FORMATS:
            raise unsupported("response_format", self.response_format, RESPONSE_FORMATS)
        if self.granularities and self.response_format != "verbose_json":
            raise needs_format("timestamp_granularities", "verbose_json")
        if "logprobs" in self.include and self.response_format != "json":
            raise needs_format("include", "json")
        if len(self.keywords) > MOST_KEYWORDS:
            message = f"{len(self.keywords)} keywords are too many: expected at most {MOST_KEYWORDS}."
            raise Refusal(400, message, param="keywords", code="invalid_value")
        if not is_chunking_strategy(self.chunking_strategy):
            message = 'chunking_strategy is expected to be "auto" or an object with the type "server_vad".'
            raise Refusal(400, message, param="chunking_strategy", code="invalid_value")


def is_chunking_strategy(given: str) -> bool:
    """Whether a form field is "auto" or the JSON of an object of type "server_vad"."""
    if given in ("", "auto"):
        return True
    try:
        return json.loads(given)["type"] == "server_vad"
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def unsupported(param: str, value: str, known: tuple[str, ...]) -> Refusal:
    """The refusal of a value that is none of the known."""
    message = f"{param} '{value[:80]}' is not supported. Supported: {', '.join(known)}."
    return Refusal(400, message, param=param, code="unsupported_value")


def needs_format(param: str, response_format: str) -> Refusal:
    """The refusal of a field that only one response format has."""
    message = f"{param} is only supported with response_format '{response_format}'."
    return Refusal(400, message, param=param, code="invalid_value")


async def transcription(
    service: Service, request: TranscriptionRequest, recording: bytes
) -> tuple[dict[str, Any] | str, Transcript]:
    """The whole answer, an object or a text as `response_format` says, and the transcript it is made of."""
    hot_words = service.model.hot_words(list(request.keywords))
    async with aclosing(service.transcribe(recording, hot_words)) as pieces:
        whole = joined([piece async for piece in pieces])
    return make_answer(service, request, whole), whole


def make_answer(service: Service, request: TranscriptionRequest, transcript: Transcript) -> dict[str, Any] | str:
    """A transcript in the form that a request asks for."""
    if request.response_format == "text":
        return transcript.text + "\n"
    if request.response_format in ("srt", "vtt"):
        return {"srt": srt, "vtt": vtt}[request.response_format]("", transcript)
    usage = {"type": "duration", "seconds": round(transcript.duration, 3)}
    if request.response_format == "json":
        wanted = {"logprobs": logprobs(transcript.words)} if "logprobs" in request.include else {}
        return {"text": transcript.text, **wanted, "usage": usage}
    verbose: dict[str, Any] = {
        "task": "transcribe",
        "language": request.language or service.model.language,
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
    }
    if "word" in request.granularities:
        verbose["words"] = list(map(timed_word, transcript.words))
    if "segment" in request.granularities or not request.granularities:
        verbose["segments"] = list(verbose_segments(service, transcript, request.temperature))
    return verbose | {"usage": usage}


def logprobs(words: tuple[Word, ...]) -> list[dict[str, Any]]:
    """Each word as a token, with the logarithm of its confidence."""
    tokens = [" " * bool(index) + word.text for index, word in enumerate(words)]
    return [
        {"token": token, "bytes": list(token.encode()), "logprob": log_confidence(word)}
        for token, word in zip(tokens, words)
    ]


def log_confidence(word: Word) -> float:
    """The natural logarithm of a word's confidence, kept finite."""
    return round(math.log(max(word.confidence, 1e-10)), 6)


def timed_word(word: Word) -> dict[str, Any]:
    """A word of OpenAI's with its confidence, which OpenAI's lack."""
    return {"word": word.text, "start": word.start, "end": word.end, "confidence": round(word.confidence, 4)}


def verbose_segments(service: Service, transcript: Transcript, temperature: float) -> Iterator[dict[str, Any]]:
    """The transcript's captions with the figures that Whisper gives of its segments."""
    for index, caption in enumerate(captions(transcript)):
        text, words = " ".join(caption.lines), caption.words
        content = text.encode()
        yield {
            "id": index,
            "seek": round(caption.start * 100),
            "start": caption.start,
            "end": caption.end,
            "text": text,
            "tokens": service.model.encode(text),
            "temperature": temperature,
            "avg_logprob": round(sum(map(log_confidence, words)) / max(1, len(words)), 6),
            "compression_ratio": round(len(content) / len(zlib.compress(content)), 4),
            "no_speech_prob": 0.0,
        }


async def transcription_events(
    service: Service, request: TranscriptionRequest, recording: bytes, finished: Callable[[Transcript], None]
) -> AsyncGenerator[str]:
    """Server-sent events: a delta and its segments for each piece of the recording, then the whole text.

    The first event comes once the first piece is recognized, so that what is no recording is refused before an answer has
    begun; a later failure is an event that the client raises. `finished` is called with the whole transcript.
    """
    hot_words = service.model.hot_words(list(request.keywords))
    wanted = "logprobs" in request.include
    pieces: list[Transcript] = []
    count, spoken = 0, False
    try:
        async with aclosing(service.transcribe(recording, hot_words)) as transcripts:
            async for piece in transcripts:
                pieces.append(piece)
                delta = {"type": "transcript.text.delta", "delta": " " * (spoken and bool(piece.text)) + piece.text}
                yield make_event(delta | ({"logprobs": logprobs(piece.words)} if wanted else {}))
                spoken = spoken or bool(piece.text)
                for caption in captions(piece):
                    text, words = " ".join(caption.lines), caption.words
                    place = {"id": f"seg_{count}", "start": caption.start, "end": caption.end, "speaker": ""}
                    timed = {"words": list(map(timed_word, words))} if "word" in request.granularities else {}
                    yield make_event({"type": "transcript.text.segment", **place, "text": text, **timed})
                    count += 1
    except Refusal as refusal:
        if not pieces:
            raise
        yield make_event(refusal.body)
        return
    whole = joined(pieces)
    done = {"type": "transcript.text.done", "text": whole.text}
    tokens = {"input_tokens": round(10 * whole.duration), "output_tokens": len(service.model.encode(whole.text))}
    usage = {"type": "tokens", **tokens, "total_tokens": sum(tokens.values())}
    finished(whole)
    yield make_event(done | ({"logprobs": logprobs(whole.words)} if wanted else {}) | {"usage": usage})
    yield STREAM_END


def make_event(content: dict[str, Any]) -> str:
    """An object as a server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def models(service: Service) -> dict[str, Any]:
    """The list of models."""
    return {"object": "list", "data": [model(service, service.model.name)]}


def model(service: Service, name: str) -> dict[str, Any]:
    """A model by its name; Refusal 404 for one that is not served."""
    TranscriptionRequest(name).check(service)
    return {"id": name, "object": "model", "created": service.started, "owned_by": "carnelian"}


def translation_refused() -> Refusal:
    """The refusal of /v1/audio/translations."""
    return Refusal(400, "This service transcribes; it does not translate.", param="model", code="unsupported_endpoint")
