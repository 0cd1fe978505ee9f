"""Runs Wyoming's own client against a service: `python wyoming_client.py transcribe URL RECORDING`; prints what it got as JSON."""

import asyncio
import json
import sys
import wave

from wyoming.asr import Transcribe, Transcript, TranscriptChunk
from wyoming.audio import AudioStart, AudioStop, wav_to_chunks
from wyoming.client import AsyncClient
from wyoming.info import Describe, Info

call, url, path = sys.argv[1:4]


async def transcribe() -> dict:
    async with AsyncClient.from_uri(url.replace("http://", "tcp://"), read_timeout=30) as client:
        await client.write_event(Describe().event())
        info = Info.from_event(await client.read_event())
        await client.write_event(Transcribe(language="en", transcript_names=["do"]).event())
        with wave.open(path) as recording:
            form = {"rate": recording.getframerate(), "width": recording.getsampwidth()}
            await client.write_event(AudioStart(**form, channels=recording.getnchannels()).event())
            for chunk in wav_to_chunks(recording, samples_per_chunk=1024):
                await client.write_event(chunk.event())
        await client.write_event(AudioStop().event())
        kinds, chunks = [], []
        while True:
            event = await client.read_event()
            kinds.append(event.type)
            if TranscriptChunk.is_type(event.type):
                chunks.append(TranscriptChunk.from_event(event).text)
            if Transcript.is_type(event.type):
                text = Transcript.from_event(event).text
            if event.type == "transcript-stop":
                break
    model = info.asr[0].models[0]
    return {"model": model.name, "languages": model.languages, "kinds": kinds, "chunks": chunks, "text": text}


answers = {"transcribe": transcribe}
print(json.dumps({"answer": asyncio.run(answers[call]())}))
