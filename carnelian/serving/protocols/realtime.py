"""OpenAI's realtime transcription over a WebSocket, its event types those of openai-python 3.57.

Of an utterance: input_audio_buffer.speech_started, speech_stopped, committed, conversation.item.added, then
conversation.item.input_audio_transcription.delta and completed. Without turn detection only a commit ends an utterance.
"""

import base64
import binascii
import json
import uuid
from copy import deepcopy
from typing import Any

import numpy as np

from carnelian.data.sphere import MU_LAW
from carnelian.data.transcript import Transcript
from carnelian.serving.config import Refusal
from carnelian.serving.live import FinalResult, LiveEvent, LiveSession, SpeechStarted, pcm16, run_session
from carnelian.serving.protocols.messages import Socket, next_message, read_object, read_rate, read_words
from carnelian.serving.protocols.openai_http import logprobs
from carnelian.serving.service import Service, joined

A_LAW_CODES = np.arange(256) ^ 0x55
MAGNITUDES = (((A_LAW_CODES & 15) << 4) + 8 + 0x100 * ((A_LAW_CODES >> 4 & 7) > 0)) << np.maximum(
    (A_LAW_CODES >> 4 & 7) - 1, 0
)
A_LAW = np.where(A_LAW_CODES & 0x80, MAGNITUDES, -MAGNITUDES)
"""The 16-bit sample of each A-law byte (ITU-T G.711)."""
SETTINGS_CHARACTERS = 1 << 18  # of a session's settings as JSON, which are kept and sent back
LOGPROBS = "item.input_audio_transcription.logprobs"
SESSION: dict[str, Any] = {
    "type": "transcription",
    "object": "realtime.transcription_session",
    "include": [],
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24_000},
            "transcription": {},
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.5,
                "prefix_padding_ms": 300,
                "silence_duration_ms": 500,
            },
            "noise_reduction": None,
        }
    },
}
EAGERNESS = {"low": 1.5, "medium": 0.8, "auto": 0.8, "high": 0.4}  # seconds of silence for semantic_vad


def identifier(kind: str) -> str:
    """A new identifier, such as item_..."""
    return f"{kind}_{uuid.uuid4().hex[:24]}"


class RealtimeSession:
    """The state of one client's session."""

    def __init__(self, service: Service, socket: Socket):
        self.service, self.socket = service, socket
        self.settings = deepcopy(SESSION) | {"id": identifier("sess")}
        self.live: LiveSession = self._make_live()
        self.item = identifier("item")  # of the utterance that is being spoken or comes next
        self.previous: str | None = None
        self.pieces: list[Transcript] = []  # of an utterance that is recognized before its commit, piece by piece
        self.fed = False  # since the last commit

    async def run(self) -> None:
        """Serves the client until it leaves."""
        await self.emit("session.created", session=self.settings)
        while True:  # a session.update before any audio makes another live session
            live = self.live
            await run_session(live, self._read, self._show)
            if live is self.live:
                return

    async def emit(self, kind: str, **fields: Any) -> None:
        """Sends an event."""
        await self.socket.send({"type": kind, "event_id": identifier("event"), **fields})

    async def _read(self) -> None:
        """Takes the client's events until the live session has to be made anew."""
        while True:
            message = await next_message(self.socket, self.service.config)
            given: dict[str, Any] = {}
            try:
                given = read_object(message)
                live = self.live
                await self._take(given)
            except Refusal as refusal:
                event_id = given.get("event_id")
                known = event_id if isinstance(event_id, str) else None
                await self.emit("error", error={**refusal.body["error"], "event_id": known})
                continue
            if live is not self.live:
                return

    async def _take(self, given: dict[str, Any]) -> None:
        kind = given.get("type")
        if kind == "session.update":
            await self._update(given.get("session"))
        elif kind == "input_audio_buffer.append":
            await self._append(given.get("audio"))
        elif kind == "input_audio_buffer.commit":
            if not self.fed:
                message = "Error committing input audio buffer: the buffer is empty."
                raise Refusal(400, message, code="input_audio_buffer_commit_empty")
            self.fed = False
            self.live.commit()
        elif kind == "input_audio_buffer.clear":
            self.live.clear()
            self.fed, self.pieces = False, []
            await self.emit("input_audio_buffer.cleared")
        else:
            message = f"Invalid value: '{str(kind)[:80]}'. Known here: session.update and input_audio_buffer events."
            raise Refusal(400, message, param="type", code="invalid_value")

    async def _append(self, audio: Any) -> None:
        try:
            content = base64.b64decode(audio, validate=True)
        except (TypeError, ValueError, binascii.Error):
            message = "Invalid 'audio'. Expected base64-encoded audio bytes."
            raise Refusal(400, message, param="audio", code="invalid_value") from None
        kind = self.settings["audio"]["input"]["format"]["type"]
        if kind == "audio/pcm":
            block = pcm16(content)
        else:
            table = MU_LAW if kind == "audio/pcmu" else A_LAW
            block = table[np.frombuffer(content, np.uint8)].astype(np.float32) / 32768
        self.fed = self.fed or len(block) > 0
        await self.live.feed(block)

    async def _update(self, session: Any) -> None:
        """Takes the given fields over; audio that was fed before belongs to the utterance before."""
        if not isinstance(session, dict) or session.get("type", "transcription") != "transcription":
            message = "This service has sessions of type 'transcription' only."
            raise Refusal(400, message, param="session.type", code="invalid_value")
        settings = deepcopy(self.settings)
        settings["include"] = read_words(session.get("include", settings["include"]), "session.include")
        audio = session.get("audio") or {}
        given = audio.get("input") if isinstance(audio, dict) else None
        if not isinstance(given, dict | None) or not isinstance(audio, dict):
            raise Refusal(400, "session.audio: expected an object.", param="session.audio", code="invalid_type")
        kept = settings["audio"]["input"]
        for key in kept.keys() & (given or {}).keys():
            kept[key] = merged(kept[key], (given or {})[key], f"session.audio.input.{key}")
        check_format(kept["format"])
        if len(json.dumps(settings)) > SETTINGS_CHARACTERS:
            message = f"session: expected at most {SETTINGS_CHARACTERS} characters."
            raise Refusal(400, message, param="session", code="invalid_value")
        before, self.settings = self.settings, settings
        try:
            live = self._make_live()
        except Refusal:
            self.settings = before
            raise
        if before["audio"] != settings["audio"]:
            self.live.commits += [self.live.first + len(self.live.audio)] if self.fed else []
            self.live, self.fed = live, False
        await self.emit("session.updated", session=settings)

    def _make_live(self) -> LiveSession:
        settings = self.settings["audio"]["input"]
        transcription, detection = settings["transcription"] or {}, settings["turn_detection"]
        silence: float | None = None
        if detection and detection.get("type") == "semantic_vad":
            silence = EAGERNESS.get(str(detection.get("eagerness", "auto")), 0.8)
        elif detection:
            milliseconds = detection.get("silence_duration_ms", 500)
            if not isinstance(milliseconds, int | float) or not 50 <= milliseconds <= 10_000:
                param = "session.audio.input.turn_detection.silence_duration_ms"
                raise Refusal(400, f"{param}: expected 50 to 10000.", param=param, code="invalid_value")
            silence = milliseconds / 1000
        rate = settings["format"].get("rate", 24_000) if settings["format"]["type"] == "audio/pcm" else 8000
        words = read_words(transcription.get("keywords"), "session.audio.input.transcription.keywords")
        hot_words = self.service.model.hot_words(words)
        return LiveSession(self.service, read_rate(rate), hot_words=hot_words, silence=silence, partials=False)

    async def _show(self, event: LiveEvent) -> None:
        """Sends what a live event means."""
        detects = self.settings["audio"]["input"]["turn_detection"] is not None
        if isinstance(event, SpeechStarted) and detects and not self.pieces:
            await self.emit(
                "input_audio_buffer.speech_started", audio_start_ms=round(1000 * event.at), item_id=self.item
            )
        if not isinstance(event, FinalResult):
            return
        self.pieces.append(event.transcript)
        if not event.committed and not detects:
            return  # more of the utterance follows, until the client commits
        whole, self.pieces = joined(self.pieces), []
        if event.committed and not whole.duration:
            return
        if detects and not event.committed:
            self.fed = False
            await self.emit("input_audio_buffer.speech_stopped", audio_end_ms=round(1000 * event.at), item_id=self.item)
        await self._complete(whole)

    async def _complete(self, whole: Transcript) -> None:
        """Sends an utterance's item with its transcript."""
        item, previous = self.item, self.previous
        self.item, self.previous = identifier("item"), item
        content = [{"type": "input_audio", "transcript": None}]
        message = {"id": item, "object": "realtime.item", "type": "message", "status": "completed", "role": "user"}
        await self.emit("input_audio_buffer.committed", previous_item_id=previous, item_id=item)
        await self.emit("conversation.item.added", previous_item_id=previous, item=message | {"content": content})
        wanted = {"logprobs": logprobs(whole.words)} if LOGPROBS in self.settings["include"] else {}
        place = {"item_id": item, "content_index": 0}
        transcription = "conversation.item.input_audio_transcription"
        if whole.text:
            await self.emit(f"{transcription}.delta", **place, delta=whole.text, **wanted)
        usage = {"type": "duration", "seconds": round(whole.duration, 3)}
        await self.emit(f"{transcription}.completed", **place, transcript=whole.text, usage=usage, **wanted)


def merged(kept: Any, given: Any, param: str) -> Any:
    """A setting with the given fields taken over; null turns it off."""
    if given is None:
        return None
    if not isinstance(given, dict):
        raise Refusal(400, f"{param}: expected an object or null.", param=param, code="invalid_type")
    return (kept or {}) | given if kept is None or given.get("type") in (None, kept.get("type")) else given


def check_format(given: Any) -> None:
    """Raises Refusal for an audio format that is not OpenAI's."""
    known = ("audio/pcm", "audio/pcmu", "audio/pcma")
    if not isinstance(given, dict) or given.get("type") not in known:
        param = "session.audio.input.format"
        raise Refusal(400, f"{param}: expected the type {', '.join(known)}.", param=param, code="invalid_value")


async def realtime(service: Service, socket: Socket) -> None:
    """Serves one client until it leaves."""
    session = RealtimeSession(service, socket)
    try:
        await session.run()
    except Refusal as refusal:
        await session.emit("error", error={**refusal.body["error"], "event_id": None})
