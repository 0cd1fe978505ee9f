"""Recordings of clients as blocks of samples: the service's side of the decoding processes."""

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import numpy as np

from carnelian.errors import AudioError
from carnelian.serving.audio_process import FRAME, REQUEST
from carnelian.serving.config import ServingConfig

ATTEMPTS = 2  # of decoding a recording, where its process ends without an answer: it may have been killed from outside
RESTARTS = 10  # of the process that forks, while one recording waits for it


class DecoderStuckError(Exception):
    """No decoding process answers: a fault of the service, not of the recording."""


class NotStartedError(Exception):
    """No process began to decode a recording; `timed_out`: none answered at all."""

    def __init__(self, timed_out: bool):
        super().__init__("no process began to decode")
        self.timed_out = timed_out


class TooLongError(AudioError):
    """A recording longer than the service takes."""


class AudioReader:
    """Decodes recordings, each in a process of its own; `restarts` counts how often the process that forks them was replaced."""

    def __init__(self, config: ServingConfig, sample_rate: int):
        self.config, self.sample_rate = config, sample_rate
        self.restarts = -1
        self.server: subprocess.Popen | None = None
        self.control: socket.socket | None = None

    def start(self) -> None:
        """Starts the process that forks the decoders, in place of one that may be there."""
        self.close()
        self.control, other = socket.socketpair()
        self.control.setblocking(False)
        with other:
            self.server = subprocess.Popen(
                [sys.executable, "-m", "carnelian.serving.audio_process", str(other.fileno())],
                pass_fds=[other.fileno()],
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.restarts += 1

    def close(self) -> None:
        """Ends the process that forks; decoders that are at work end with their connection."""
        if self.control:
            self.control.close()
        if self.server:
            self.server.kill()
            self.server.wait()
        self.server = self.control = None

    async def blocks(self, recording: bytes, max_seconds: float | None = None) -> AsyncGenerator[np.ndarray]:
        """The recording as blocks (S,) float32, mono, at the service's rate.

        Raises AudioError for what cannot be decoded or is too long, DecoderStuckError where no process answers. A process that
        dies is replaced once, and the blocks it gave are skipped: decoding is deterministic.
        """
        most = max_seconds or self.config.max_audio_seconds
        given = faults = restarts = 0
        while faults < ATTEMPTS and restarts < RESTARTS:
            count, server = 0, self.server
            try:
                async with aclosing(self._attempt(recording, most)) as blocks:
                    async for block in blocks:
                        count += 1
                        if count > given:
                            given = count
                            yield block
                return
            except NotStartedError as error:  # not the fault of this recording
                restarts += 1
                if self.server is server:  # nobody replaced it meanwhile
                    self.start()
                if error.timed_out and restarts == ATTEMPTS:
                    raise DecoderStuckError("decoding does not start") from None
            except (TimeoutError, EOFError, ConnectionError):
                faults += 1  # the process of this recording ended, by its own fault or by that of the recording
        raise AudioError("audio: it cannot be decoded within the limits of memory and time. Convert it to 16 kHz mono")

    async def _attempt(self, recording: bytes, most: float) -> AsyncGenerator[np.ndarray]:
        """The blocks from one process; EOFError or ConnectionError where it ends early, TimeoutError where it does not go on."""
        reader, writer = await self._connect()
        process = 0  # its id, from its start to its end
        try:
            cpu = 10 + round(min(most, 3600.0 * 24) / 60)
            request = (len(recording), self.sample_rate, most, self.config.decoder_memory_bytes, cpu)
            writer.write(REQUEST.pack(*request))
            writer.write(recording)
            async with asyncio.timeout(self.config.decoder_seconds):
                await writer.drain()
            while True:
                async with asyncio.timeout(self.config.decoder_seconds):
                    kind, size = FRAME.unpack(await reader.readexactly(FRAME.size))
                    content = await reader.readexactly(size)
                if kind == b"S":
                    [process] = struct.unpack("<I", content)
                    continue
                if kind == b"E":
                    process = 0
                    return
                if kind == b"X":
                    process = 0
                    raise AudioError(content.decode())
                if kind == b"H":
                    [seconds] = struct.unpack("<d", content)
                    if seconds > most:
                        raise TooLongError(
                            f"audio: it lasts {seconds:.0f} s; the limit is {most:.0f} s. Cut it into parts"
                        )
                else:
                    yield np.frombuffer(content, np.float32)
        except (TimeoutError, EOFError, ConnectionError) as error:
            if not process:
                raise NotStartedError(isinstance(error, TimeoutError)) from None
            if isinstance(error, TimeoutError):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            raise
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a new decoding process."""
        mine, its = socket.socketpair()
        with its:
            if self.server is None or self.server.poll() is not None:
                self.start()
            assert self.control
            try:
                socket.send_fds(self.control, [b"+"], [its.fileno()])
            except OSError:  # it has just died, or does not take what is sent
                self.start()
                with suppress(OSError):
                    socket.send_fds(self.control, [b"+"], [its.fileno()])
        return await asyncio.open_connection(sock=mine, limit=1 << 18)
