"""Load on a service: many clients for a while, each sending recordings one after the other.

    python benchmarks/serving.py MODEL MANIFEST [--clients 1 4 16 64 100] [--seconds 60]

The service runs beside it in a process of its own, on the same cores. Each recording is first sent alone; under load each answer
must be the same text. The table says how many answers came, how many were lost or wrong, the latencies in milliseconds, the seconds
of audio recognized in a second, and the service's memory. With --mutations N, recordings with changed bytes are sent after that; with
--live SECONDS, only so much of the recordings is spoken into a live session without a pause, and its processor time is told.
"""

import argparse
import asyncio
import io
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import soundfile

from carnelian.commands.options import RecognizerOptions
from carnelian.commands.serve import served_model
from carnelian.data.audio import load_audio
from carnelian.data.utterance import read_manifest
from carnelian.serving.live import LiveEvent, LiveSession, PartialResult, run_session
from carnelian.serving.service import Service

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "fuzz"))
from mutate import mutated

COLUMNS = ("clients", "answers", "lost", "wrong", "mean", "p50", "p90", "p95", "p99", "audio s/s", "MB")


def form_of(recording: bytes) -> bytes:
    """A request's bytes, head and all."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body = head.encode() + recording + f"\r\n--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    lines = (
        "POST /v1/audio/transcriptions HTTP/1.1",
        "host: x",
        f"content-type: {kind}",
        f"content-length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Client:
    """One connection, kept."""

    def __init__(self, port: int):
        self.port = port
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> tuple[int, dict]:
        """Status and object of an answer."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        size = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        body = json.loads(await self.reader.readexactly(size))
        if b"connection: close" in head:
            self.close()
        return int(head[9:12]), body

    def close(self) -> None:
        """Gives the connection up."""
        if self.writer:
            self.writer.close()
        self.writer = None


def memory_of(process: int) -> float:
    """Megabytes of a process in memory."""
    return int(Path(f"/proc/{process}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


async def load(port: int, process: int, clients: int, seconds: float, requests: list, expected: list, durations: list):
    """A row of the table."""
    latencies: list[float] = []
    lost = wrong = 0
    audio = 0.0
    started = time.monotonic()

    async def one(index: int) -> None:
        nonlocal lost, wrong, audio
        client, order = Client(port), random.Random(index)
        while time.monotonic() < started + seconds:
            which = order.randrange(len(requests))
            sent = time.monotonic()
            try:
                status, answer = await client.ask(requests[which])
            except (OSError, EOFError):
                client.close()
                lost += 1
                continue
            latencies.append(time.monotonic() - sent)
            lost += status != 200
            wrong += status == 200 and answer["text"] != expected[which]
            audio += durations[which]
        client.close()

    await asyncio.gather(*map(one, range(clients)))
    took = time.monotonic() - started
    cuts = statistics.quantiles(latencies, n=100)
    times = [round(1000 * each) for each in (statistics.mean(latencies), cuts[49], cuts[89], cuts[94], cuts[98])]
    return clients, len(latencies), lost, wrong, *times, round(audio / took, 1), round(memory_of(process))


def forms_of(recording: bytes) -> list[bytes]:
    """A recording as files of five formats."""
    audio, rate = soundfile.read(io.BytesIO(recording))
    found = []
    for form in ("WAV", "FLAC", "OGG", "MP3", "AIFF"):
        file = io.BytesIO()
        soundfile.write(file, audio, rate, format=form)
        found.append(file.getvalue())
    return found


async def mutations(port: int, process: int, recordings: list[bytes], count: int) -> None:
    """Sends `count` broken recordings of five formats, from eight clients; prints what they were answered, and memory on the way."""
    generator = np.random.default_rng(7)
    whole = [form for recording in recordings[:20] for form in forms_of(recording)]
    statuses: dict[int, int] = {}
    memory: list[int] = []
    started = time.monotonic()

    async def one() -> None:
        client = Client(port)
        while (done := sum(statuses.values())) < count:
            if done * 10 // count >= len(memory):
                memory.append(round(memory_of(process)))
            status, _ = await client.ask(form_of(mutated(whole[generator.integers(len(whole))], generator)))
            statuses[status] = statuses.get(status, 0) + 1
        client.close()

    await asyncio.gather(*(one() for _ in range(8)))
    print(f"{count} mutated recordings in {time.monotonic() - started:.0f} s: {statuses}; MB on the way: {memory}")


async def live(model: Path, paths: list[str], seconds: float) -> None:
    """Speaks recordings, one after the other, into a live session that only a commit ends; a line for each five seconds.

    In this very process, and each block waits for the recognition of the last, as on a machine that keeps up.
    """
    options = RecognizerOptions()
    service = Service(served_model(options.load(model), options, name="m"))
    await service.start()
    audio = np.resize(
        np.concatenate([load_audio(path, service.model.sample_rate) for path in paths]),
        round(seconds * service.model.sample_rate),
    )
    session, block = (
        LiveSession(service, service.model.sample_rate, silence=None),
        round(service.config.partial_seconds * service.model.sample_rate),
    )
    partials, used = 0, time.process_time()

    async def read() -> None:
        nonlocal used
        print("seconds spoken, processor milliseconds for each second of audio, partial results so far")
        told = 5.0
        for first in range(0, len(audio), block):
            await session.feed(audio[first : first + block])
            await asyncio.sleep(0.001)
            while service.scheduler.waiting or service.scheduler.running:
                await asyncio.sleep(0.001)
            if (first + block) / service.model.sample_rate >= told:
                now, told = time.process_time(), told + 5
                print(f"{told - 5:14.0f} {(now - used) / 5 * 1000:12.0f} {partials:10}", flush=True)
                used = now

    async def show(event: LiveEvent) -> None:
        nonlocal partials
        partials += isinstance(event, PartialResult)

    await run_session(session, read, show)
    await service.close()


async def run(arguments: argparse.Namespace, port: int, process: int) -> None:
    utterances = list(read_manifest(arguments.manifest))[: arguments.recordings]
    recordings = [Path(each.audio_filepath).read_bytes() for each in utterances]
    requests, alone = [form_of(each) for each in recordings], Client(port)
    expected = [(await alone.ask(each))[1]["text"] for each in requests]
    durations = [each.duration for each in utterances]
    alone.close()
    print(f"{len(recordings)} recordings of {statistics.mean(durations):.1f} s; latencies in ms")
    print(" ".join(f"{column:>9}" for column in COLUMNS))
    for clients in arguments.clients:
        row = await load(port, process, clients, arguments.seconds, requests, expected, durations)
        print(" ".join(f"{value:>9}" for value in row), flush=True)
    if arguments.mutations:
        await mutations(port, process, recordings, arguments.mutations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64, 100])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--recordings", type=int, default=100)
    parser.add_argument("--mutations", type=int, default=0)
    parser.add_argument("--live", type=float, default=0.0)
    arguments = parser.parse_args()
    if arguments.live:
        paths = [each.audio_filepath for each in read_manifest(arguments.manifest)][: arguments.recordings]
        return asyncio.run(live(arguments.model, paths, arguments.live))
    command = [sys.executable, "-m", "carnelian", "serve", str(arguments.model), "--port", "0"]
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert service.stderr
    for line in service.stderr:
        if line.startswith("{") and json.loads(line)["event"] == "ready":
            port = json.loads(line)["port"]
            break
    subprocess.Popen(["cat"], stdin=service.stderr, stdout=subprocess.DEVNULL)  # its log
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    sets = [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8") if f" {name}" in flags]
    print(f"{platform.machine()}, {os.cpu_count()} cores, {' '.join(sets)}; Python {platform.python_version()}")
    try:
        asyncio.run(run(arguments, port, service.pid))
    finally:
        service.terminate()
        service.wait(30)


if __name__ == "__main__":
    main()
