"""Decodes uploaded recordings, each in a process of its own: a small server process forks a short-lived child for each.

Run as `python -m carnelian.serving.audio_process FD`. FD is a Unix stream socket; each byte that arrives on it carries a connected
socket, for which a child is forked. The child reads a request, decodes, answers in frames, and ends. A hostile recording can
exhaust or crash only its own child, whose memory, processor time and files are limited before the first byte is read. The
server process itself reads nothing that a client sent. This module imports no model: a fork stays small.

Request: the header of `REQUEST`, then the recording. Answer: frames of one letter, a length (`FRAME`) and that number of bytes:
S (this child's process id, once it has started), H (seconds the header promises, a float64), A (float32 samples), E (the end),
X (an error, as text).
"""

import os
import resource
import signal
import socket
import struct
import sys
from contextlib import suppress

from carnelian.data.audio import audio_blocks
from carnelian.data.lengths.mp3 import read_mp3
from carnelian.data.recording import open_audio
from carnelian.errors import AudioError, CarnelianError

#: bytes of the recording, sample rate, seconds allowed, bytes of memory, seconds of processor time
REQUEST = struct.Struct("<QIdQI")
FRAME = struct.Struct("<cQ")


def fork_decoders(connections: socket.socket) -> None:
    """Forks a child for every socket that arrives, until the other side closes."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children that end are not waited for
    while True:
        letter, sockets, *_ = socket.recv_fds(connections, 1, 1)
        if not letter:
            return
        with socket.socket(fileno=sockets[0]) as client:
            if os.fork() == 0:
                connections.close()
                try:
                    decode_recording(client)
                except (OSError, EOFError):  # nobody waits for the answer any more
                    os._exit(1)
                os._exit(0)


def decode_recording(client: socket.socket) -> None:
    """Reads one request, decodes it within its limits and sends the frames of the answer."""
    size, sample_rate, most, memory, cpu = REQUEST.unpack(receive_bytes(client, REQUEST.size))
    limit(memory + size, cpu)

    def send(kind: bytes, content: bytes = b"") -> None:
        client.sendall(FRAME.pack(kind, len(content)))
        client.sendall(content)

    send(b"S", struct.pack("<I", os.getpid()))
    try:
        with open_audio(bytes(receive_bytes(client, size))) as file:
            duration = file.frames / file.sample_rate
            send(b"H", struct.pack("<d", duration))
            if duration <= most:  # else the caller refuses it
                for block in audio_blocks(file, sample_rate):
                    send(b"A", block.tobytes())
        send(b"E")
    except CarnelianError as error:
        send(b"X", str(error).encode())
    except MemoryError:
        send(
            b"X", f"audio: decoding it needs more than {memory >> 20} MB of memory. Convert it to 16 kHz mono".encode()
        )


def receive_bytes(client: socket.socket, size: int) -> bytearray:
    """Reads exactly the given number of bytes."""
    content = bytearray(size)
    view = memoryview(content)
    while view:
        count = client.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return content


def limit(memory: int, cpu: int) -> None:
    """Limits this process: bytes of memory beyond what it has now, seconds of processor time, no files, no core dump."""
    if os.path.exists("/proc/self/statm"):  # elsewhere the size of the address space cannot be limited in a useful way
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)


def warm_up() -> None:
    """Decodes a tenth of a second, so that children inherit what libraries set up on first use."""
    samples = struct.pack("<800h", *([0, 99] * 400))
    head = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 36 + 1600, b"WAVEfmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", 1600)
    with open_audio(head + samples) as file:
        list(audio_blocks(file, 16_000))
    with suppress(AudioError), open_audio(bytes(4096)):
        pass  # what is no recording is looked at by every reader
    read_mp3(bytes(64))  # compiled on first use


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the service decides when this ends
    warm_up()
    with socket.socket(fileno=int(sys.argv[1])) as given:
        given.setblocking(True)
        fork_decoders(given)
