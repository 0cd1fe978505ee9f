"""Live recognition over a WebSocket: this service's own messages, and Vosk's on the same socket.

Ours: the client may first send {"type": "start", "sample_rate": 16000, "keywords": [...], "silence": 0.6}, then 16-bit
little-endian mono PCM as binary messages, {"type": "commit"} to end a segment, and {"type": "finish"}. The service answers
{"type": "ready"}, then "speech_started", "partial" and "final" with text and words, and "done" after the last.

Vosk's: {"config": {"sample_rate": 8000, "phrase_list": [...]}}, binary messages, {"eof": 1}. Each binary message is answered with
one message, {"partial": ...} or {"text": ..., "result": [...]}: Vosk's clients wait for it before they send on.
"""

from typing import Any

from carnelian.data.transcript import Transcript
from carnelian.serving.config import Refusal
from carnelian.serving.live import FinalResult, LiveEvent, LiveSession, PartialResult, SpeechStarted, pcm16, run_session
from carnelian.serving.protocols.messages import Socket, next_message, read_object, read_rate, read_words
from carnelian.serving.protocols.openai_http import timed_word
from carnelian.serving.service import Service


async def stream(service: Service, socket: Socket, *, vosk: bool = False) -> None:
    """Serves one client until it finishes or leaves; the first message says which of the two forms it speaks."""
    try:
        first = await next_message(socket, service.config)
        opening = read_object(first) if isinstance(first, str) else {}
        if vosk or "config" in opening or "eof" in opening:
            await serve_vosk(service, socket, first, opening)
        else:
            await serve_own(service, socket, first, opening)
    except Refusal as refusal:
        await socket.send({"type": "error", **refusal.body})


async def serve_own(service: Service, socket: Socket, first: str | bytes, opening: dict[str, Any]) -> None:
    """This service's own messages."""
    started = opening.get("type") == "start"
    settings = opening if started else {}
    silence = settings.get("silence", 0.6)
    if silence is not None and not (isinstance(silence, int | float) and 0.1 <= silence <= 10):
        raise Refusal(400, "silence: expected 0.1 to 10 seconds, or null.", param="silence", code="invalid_value")
    session = LiveSession(
        service,
        read_rate(settings.get("sample_rate", 16_000)),
        hot_words=service.model.hot_words(read_words(settings.get("keywords"), "keywords")),
        silence=silence,
    )
    await socket.send({"type": "ready", "model": service.model.name, "sample_rate": session.given_rate})

    async def read() -> None:
        message = first
        if started:
            message = await next_message(socket, service.config)
        while True:
            if isinstance(message, bytes):
                await session.feed(pcm16(message))
            else:
                kind = read_object(message).get("type")
                if kind == "finish":
                    return
                if kind != "commit":
                    raise Refusal(400, 'type: expected "commit" or "finish".', param="type", code="unknown_message")
                session.commit()
            message = await next_message(socket, service.config)

    async def show(event: LiveEvent) -> None:
        if isinstance(event, SpeechStarted):
            await socket.send({"type": "speech_started", "at": round(event.at, 3)})
        elif isinstance(event, PartialResult):
            await socket.send({"type": "partial", **result(event.transcript)})
        elif event.transcript.text or not session.finished:
            await socket.send({"type": "final", **result(event.transcript), "end": round(event.at, 3)})

    await run_session(session, read, show)
    await socket.send({"type": "done"})


def result(transcript: Transcript) -> dict[str, Any]:
    """Text and words of a transcript."""
    return {"text": transcript.text, "words": list(map(timed_word, transcript.words))}


async def serve_vosk(service: Service, socket: Socket, first: str | bytes, opening: dict[str, Any]) -> None:
    """Vosk's messages."""
    config = opening.get("config") or {}
    if not isinstance(config, dict):
        raise Refusal(400, "config: expected an object.", param="config", code="invalid_value")
    rate = read_rate(config.get("sample_rate", 16_000))
    hot_words = service.model.hot_words(read_words(config.get("phrase_list"), "phrase_list"))
    session = LiveSession(service, rate, hot_words=hot_words)
    show_words = bool(config.get("words", True))
    finals: list[Transcript] = []
    partial = ""

    async def read() -> None:
        message = await next_message(socket, service.config) if "config" in opening else first
        while isinstance(message, bytes) or "eof" not in read_object(message):
            if isinstance(message, bytes):
                await session.feed(pcm16(message))
                await socket.send(vosk_result([finals.pop(0)], show_words) if finals else {"partial": partial})
            message = await next_message(socket, service.config)

    async def show(event: LiveEvent) -> None:
        nonlocal partial
        if isinstance(event, PartialResult):
            partial = event.transcript.text
        elif isinstance(event, FinalResult):
            partial = ""
            if event.transcript.text:
                finals.append(event.transcript)

    await run_session(session, read, show)
    await socket.send(vosk_result(finals, show_words))


def vosk_result(finals: list[Transcript], show_words: bool) -> dict[str, Any]:
    """Vosk's message of one or more final results."""
    text = " ".join(final.text for final in finals)
    words = [word for final in finals for word in final.words]
    if not words or not show_words:
        return {"text": text}
    found = [
        {"conf": round(each.confidence, 6), "start": each.start, "end": each.end, "word": each.text} for each in words
    ]
    return {"result": found, "text": text}
