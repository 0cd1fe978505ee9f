"""Runs the client of Vosk's transcriber against a service: `python vosk_client.py CALL URL RECORDING`; prints its results as JSON."""

import asyncio
import json
import sys
from argparse import Namespace

from vosk.transcriber.transcriber import Transcriber

call, url, path = sys.argv[1:4]


async def transcribe(output_type: str) -> dict:
    client = Transcriber.__new__(Transcriber)  # its __init__ loads a model of its own, also where a server recognizes
    client.args = Namespace(server=url.replace("http", "ws"), output_type=output_type)
    reader = await asyncio.create_subprocess_exec("tail", "-c", "+45", path, stdout=asyncio.subprocess.PIPE)
    result, _ = await client.recognize_stream_server(reader)
    await reader.wait()
    return {"result": result, "formatted": client.format_result(result)}


answers = {"srt": transcribe, "txt": transcribe}
print(json.dumps({"answer": asyncio.run(answers[call](call))}))
