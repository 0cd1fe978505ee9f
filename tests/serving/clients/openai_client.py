"""Runs OpenAI's own client against a service: `python openai_client.py CALL URL RECORDING`; prints what it made of it as JSON."""

import asyncio
import base64
import json
import sys
import time
from pathlib import Path

import openai

call, url, path = sys.argv[1:4]
client = openai.OpenAI(base_url=f"{url}/v1", api_key="right")


def outcome(function):
    """What a call raised: class, status, and the fields of the error."""
    try:
        function()
    except openai.APIStatusError as error:
        found = {"class": type(error).__name__, "status": error.status_code, "request_id": bool(error.request_id)}
        return found | {"code": error.code, "param": error.param, "type": error.type}
    return {"class": None}


def create(**fields):
    with open(path, "rb") as file:
        return client.audio.transcriptions.create(file=file, **{"model": "whisper-1", **fields})


def formats():
    found = {form: create(response_format=form) for form in ("text", "srt", "vtt")}
    plain = create(include=["logprobs"], keywords=["do"], prompt="scale", temperature=0.2, chunking_strategy="auto")
    verbose = create(response_format="verbose_json", timestamp_granularities=["word", "segment"], language="en")
    events = list(create(stream=True))
    return found | {
        "json": [type(plain).__name__, plain.to_dict(), plain._request_id],
        "verbose": [type(verbose).__name__, verbose.to_dict(), type(verbose.segments[0]).__name__],
        "events": [[type(event).__name__, event.to_dict()] for event in events],
        "models": [each.id for each in client.models.list()],
        "model": client.models.retrieve("tones").to_dict(),
        "translation": outcome(lambda: client.audio.translations.create(file=Path(path), model="whisper-1")),
    }


def errors():
    impatient = client.with_options(max_retries=0)
    other = openai.OpenAI(base_url=f"{url}/v1", api_key="wrong")
    junk = ("a.wav", b"no sound", "audio/wav")
    large = ("a.wav", bytes(2 << 20), "audio/wav")
    return {
        "400": outcome(lambda: client.audio.transcriptions.create(file=junk, model="whisper-1")),
        "401": outcome(lambda: other.models.list()),
        "404": outcome(lambda: create(model="nonsense")),
        "413": outcome(lambda: client.audio.transcriptions.create(file=large, model="whisper-1")),
        "422": outcome(lambda: create(temperature=7)),
        "stream": outcome(lambda: list(client.audio.transcriptions.create(file=junk, model="whisper-1", stream=True))),
        "impatient": outcome(lambda: impatient.models.retrieve("none")),
    }


async def many(count, retries):
    """So many requests at once; the outcome of each."""
    asynchronous = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="right", max_retries=retries)
    content = Path(path).read_bytes()

    async def one():
        try:
            return (await asynchronous.audio.transcriptions.create(file=("a.wav", content), model="whisper-1")).text
        except openai.APIStatusError as error:
            return [type(error).__name__, error.status_code, error.response.headers.get("retry-after")]

    return await asyncio.gather(*(one() for _ in range(count)))


def typed(event):
    """The event as the client parsed it: its class, with what it says."""
    return [type(event).__name__, event.to_dict(mode="json")]


async def realtime(detection):
    """A realtime session: the recording's 24 kHz PCM in; every event, checked strictly against the client's types."""
    from openai.types.realtime import RealtimeServerEvent
    from pydantic import TypeAdapter

    asynchronous = openai.AsyncOpenAI(
        base_url=f"{url}/v1", websocket_base_url=url.replace("http", "ws") + "/v1", api_key="right"
    )
    adapter, found = TypeAdapter(RealtimeServerEvent), []
    content = Path(path).read_bytes()[44:]
    async with asynchronous.realtime.connect(extra_query={"intent": "transcription"}) as connection:

        async def until(kind):
            while True:
                event = await asyncio.wait_for(connection.recv(), 20)
                adapter.validate_python(event.to_dict())
                found.append(typed(event))
                if event.type == kind:
                    return

        await until("session.created")
        settings = {"format": {"type": "audio/pcm", "rate": 24_000}, "turn_detection": detection}
        settings["transcription"] = {"model": "whisper-1", "language": "en", "keywords": ["do"]}
        session = {"type": "transcription", "audio": {"input": settings}}
        session["include"] = ["item.input_audio_transcription.logprobs"]
        await connection.session.update(session=session)
        await until("session.updated")
        await connection.send({"type": "response.create", "event_id": "mine"})
        await until("error")
        await connection.input_audio_buffer.commit()
        await until("error")
        await connection.input_audio_buffer.append(audio=base64.b64encode(content).decode())
        await connection.input_audio_buffer.clear()
        await until("input_audio_buffer.cleared")
        for first in range(0, len(content), 9600):
            await connection.input_audio_buffer.append(audio=base64.b64encode(content[first : first + 9600]).decode())
        if detection is None:
            await connection.input_audio_buffer.commit()
        await until("conversation.item.input_audio_transcription.completed")
        if detection is not None:
            await until("conversation.item.input_audio_transcription.completed")
    return found


started = time.monotonic()
answers = {
    "formats": formats,
    "errors": errors,
    "overload": lambda: asyncio.run(many(24, 8)),
    "refused": lambda: asyncio.run(many(24, 0)),
    "defaults": lambda: asyncio.run(many(8, openai.DEFAULT_MAX_RETRIES)),
    "realtime": lambda: asyncio.run(realtime(None)),
    "realtime-vad": lambda: asyncio.run(realtime({"type": "server_vad", "silence_duration_ms": 500})),
}
print(json.dumps({"answer": answers[call](), "seconds": time.monotonic() - started}))
