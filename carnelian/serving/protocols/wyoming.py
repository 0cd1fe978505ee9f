"""The Wyoming protocol (Home Assistant): events over TCP, each a line of JSON with data and a payload behind it.

describe -> info; transcribe, audio-start, audio-chunk ..., audio-stop -> transcript-start, transcript-chunk, transcript,
transcript-stop. The protocol knows no keys.
"""

import asyncio
import json
from contextlib import suppress
from typing import Any

import numpy as np

from carnelian import __version__
from carnelian.serving.config import Refusal
from carnelian.serving.live import FinalResult, LiveEvent, LiveSession, run_session
from carnelian.serving.logs import log
from carnelian.serving.protocols.messages import read_object, read_rate, read_words
from carnelian.serving.service import Service

LINE_BYTES = 1 << 16
EVENT_BYTES = 1 << 20  # of data, and of a payload


class WyomingClient:
    """One connection."""

    def __init__(self, service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.service, self.reader, self.writer = service, reader, writer
        self.hot_words: tuple[str, ...] = ()

    async def next_event(self) -> tuple[str, dict[str, Any], bytes]:
        """Type, data and payload of the next event; EOFError at the end."""
        async with asyncio.timeout(self.service.config.idle_seconds):
            line = await self.reader.readline()
            if not line:
                raise EOFError
            head = read_object(line)
            data = head.get("data") or {}
            sizes = [head.get("data_length") or 0, head.get("payload_length") or 0]
            if not all(isinstance(size, int) and 0 <= size <= EVENT_BYTES for size in sizes) or not isinstance(
                data, dict
            ):
                raise Refusal(413, f"Data and payloads may have at most {EVENT_BYTES} bytes.", code="message_too_large")
            if sizes[0]:
                data |= read_object(await self.reader.readexactly(sizes[0]))
            return str(head.get("type")), data, await self.reader.readexactly(sizes[1]) if sizes[1] else b""

    async def send(self, kind: str, data: dict[str, Any] | None = None) -> None:
        """Sends an event."""
        content = json.dumps(data, ensure_ascii=False).encode() if data else b""
        head = {"type": kind, "version": "1.10.0"} | ({"data_length": len(content)} if content else {})
        self.writer.write(json.dumps(head).encode() + b"\n" + content)
        async with asyncio.timeout(self.service.config.idle_seconds):  # a client may not read
            await self.writer.drain()

    async def run(self) -> None:
        """Answers events until the client leaves."""
        while True:
            kind, data, _ = await self.next_event()
            if kind == "describe":
                await self.send("info", wyoming_info(self.service))
            elif kind == "ping":
                await self.send("pong", {"text": data.get("text", "")})
            elif kind == "transcribe":
                given = [data.get(key) for key in ("transcript_names", "transcript_terms")]
                words = [word for each in given for word in read_words(each, "transcript_names")]
                self.hot_words = self.service.model.hot_words(words)
            elif kind == "audio-start":
                with self.service.admitted_live():
                    await self.transcribe(data)

    async def transcribe(self, form: dict[str, Any]) -> None:
        """Takes audio until audio-stop, and sends its transcript."""
        session = LiveSession(
            self.service, read_rate(form.get("rate")), hot_words=self.hot_words, silence=None, partials=False
        )
        width, channels = form.get("width", 2), form.get("channels", 1)
        if (type(width), type(channels)) != (int, int) or width not in (1, 2, 4) or channels not in range(1, 9):
            raise Refusal(400, "audio-start: expected a width of 1, 2 or 4 and 1 to 8 channels.", code="invalid_value")
        finals: list[str] = []

        async def read() -> None:
            while True:
                kind, _, payload = await self.next_event()
                if kind == "audio-stop":
                    return
                if kind == "audio-chunk":
                    await session.feed(samples(payload, width, channels))

        async def show(event: LiveEvent) -> None:
            if isinstance(event, FinalResult) and event.transcript.text:
                finals.append(event.transcript.text)

        await run_session(session, read, show)
        text, language = " ".join(finals), {"language": self.service.model.language}
        await self.send("transcript-start", language)
        if text:
            await self.send("transcript-chunk", {"text": text})
        await self.send("transcript", {"text": text, **language})
        await self.send("transcript-stop")


def samples(payload: bytes, width: int, channels: int) -> np.ndarray:
    """Samples (S,) float32, mono, of little-endian PCM; what is no whole frame at the end is left out."""
    frame = width * channels
    integers = np.frombuffer(payload[: len(payload) // frame * frame], f"<i{width}").reshape(-1, channels)
    return integers.mean(1, dtype=np.float32) / np.float32(1 << (8 * width - 1))


def wyoming_info(service: Service) -> dict[str, Any]:
    """What the service offers."""
    whose = {"attribution": {"name": "Carnelian", "url": ""}, "installed": True, "version": __version__}
    model = {"name": service.model.name, "description": "speech recognition with CTC", **whose}
    program = {"name": "carnelian", "description": "speech recognition with CTC", **whose}
    asr = [
        program | {"models": [model | {"languages": [service.model.language]}], "supports_transcript_streaming": True}
    ]
    return {"asr": asr, "tts": [], "handle": [], "intent": [], "wake": [], "mic": [], "snd": []}


async def start_wyoming(service: Service, host: str, port: int) -> asyncio.Server:
    """A TCP server that speaks Wyoming."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = WyomingClient(service, reader, writer)
        try:
            await client.run()
        except Refusal as refusal:
            with suppress(ConnectionError):
                await client.send("error", {"text": str(refusal), "code": refusal.code})
        except (EOFError, ConnectionError, TimeoutError, ValueError):
            pass  # the client left, or does not speak Wyoming
        except Exception as error:
            log("error", "failure", protocol="wyoming", error=f"{type(error).__name__}: {error}")
        finally:
            writer.close()

    return await asyncio.start_server(serve, host, port, limit=LINE_BYTES)
