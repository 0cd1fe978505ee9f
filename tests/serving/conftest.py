"""A service that runs for real, in a process of its own, and recordings for it."""

import importlib.util
import io
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from carnelian.checkpoint import Checkpoint, save_checkpoint
from carnelian.data.alphabet import Alphabet
from carnelian.models.registry import build_model

pytest.importorskip("fastapi")
HERE = Path(__file__).parent
ROOT = HERE.parent.parent
LETTERS = Alphabet(" abcdefghijklmnopqrstuvwxyz'")
BLOCKS = [{"channels": 32, "kernel": 11, "stride": 2, "separable": True}, {"channels": 32, "kernel": 11}]
RECIPE = {"features": {"name": "log_mel"}, "encoder": {"name": "convolutional", "blocks": BLOCKS}}
_spec = importlib.util.spec_from_file_location("tones", HERE / "tones.py")
tones = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tones)


def sing(words: str, seconds: float = 0.3, pause: float = 0.2, rate: int = 16_000) -> np.ndarray:
    """A waveform that says the words; "." is a second of silence."""
    parts = []
    for word in words.split():
        if word == ".":
            parts.append(np.zeros(rate))
            continue
        time = np.arange(round(seconds * rate)) / rate
        parts += [0.5 * np.sin(2 * np.pi * tones.WORDS[word] * time), np.zeros(round(pause * rate))]
    return np.concatenate(parts).astype(np.float32)


def encode(audio: np.ndarray, rate: int = 16_000, form: str = "WAV") -> bytes:
    """A waveform as a file."""
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=form)
    return file.getvalue()


def multipart(recording: bytes, **fields) -> tuple[bytes, str]:
    """Body and content type of a form; a key that ends with [] may have a list."""
    boundary = uuid.uuid4().hex
    body = b""
    for key, value in fields.items():
        for each in value if isinstance(value, list) else [value]:
            body += f'--{boundary}\r\ncontent-disposition: form-data; name="{key}"\r\n\r\n{each}\r\n'.encode()
    head = f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return (
        body + head.encode() + recording + f"\r\n--{boundary}--\r\n".encode(),
        f"multipart/form-data; boundary={boundary}",
    )


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Served:
    """A running service."""

    process: subprocess.Popen
    port: int = 0
    lines: list = field(default_factory=list)

    def request(self, method: str, path: str, body=None, headers=(), timeout: float = 60) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def transcribe(self, recording: bytes, headers=(), timeout: float = 60, **fields) -> Answer:
        body, kind = multipart(recording, **fields)
        return self.request("POST", "/v1/audio/transcriptions", body, {"content-type": kind, **dict(headers)}, timeout)

    def metric(self, name: str) -> float:
        text = self.request("GET", "/metrics").body.decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    def memory(self) -> int:
        """Bytes of the server process in memory."""
        fields = Path(f"/proc/{self.process.pid}/status").read_text().split("VmRSS:")[1]
        return int(fields.split()[0]) * 1024

    def disk(self) -> int:
        """Bytes of the files without a name that the server process holds."""
        size = 0
        for each in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(OSError):
                size += os.stat(each).st_size if "(deleted)" in os.readlink(each) else 0
        return size

    def decoder(self) -> int:
        """The process that forks decoders."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next(int(child) for child in children if b"audio_process" in Path(f"/proc/{child}/cmdline").read_bytes())

    def stop(self, seconds: float = 20) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@pytest.fixture(scope="module")
def start():
    """`start(**settings)`: a new service of tones, with its log in `.lines`; all are stopped after the module's tests."""
    running = []

    def make(**settings) -> Served:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(HERE / "tones.py"), json.dumps(settings)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        served, ready = Served(process), queue.Queue()

        def read():
            for line in process.stderr:
                try:
                    served.lines.append(json.loads(line))
                except ValueError:
                    served.lines.append({"event": "text", "line": line})
                if served.lines[-1]["event"] == "ready":
                    ready.put(served.lines[-1]["port"])
            ready.put(None)

        threading.Thread(target=read, daemon=True).start()
        served.port = ready.get(timeout=60)
        assert served.port, served.lines
        running.append(served)
        return served

    yield make
    for served in running:
        if served.process.poll() is None:
            served.process.kill()
            served.process.wait()


@pytest.fixture(scope="module")
def service(start) -> Served:
    return start()


@pytest.fixture(scope="session")
def singer():
    return sing


@pytest.fixture(scope="session")
def encoder():
    return encode


@pytest.fixture(scope="session")
def form():
    return multipart


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A small model with random weights: its text is nonsense, but always the same."""
    torch.manual_seed(0)
    network = build_model(RECIPE, LETTERS)
    path = tmp_path_factory.mktemp("model") / "nonsense.safetensors"
    save_checkpoint(path, Checkpoint(network.state_dict(), LETTERS, {"task": "acoustic", **RECIPE}, 0, {}))
    return path


@pytest.fixture()
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def clients() -> str:
    """The Python of the environment that has the real clients (`make clients`)."""
    python = ROOT / ".venv-clients" / "bin" / "python"
    if not python.exists():
        pytest.skip("the real clients are not installed: make clients")
    return str(python)


@pytest.fixture(scope="session")
def ask(clients, tmp_path_factory):
    """`ask(served, call, recording, script)`: what a client's script prints."""

    def run(served, call: str, recording: bytes, script: str = "openai_client.py"):
        path = tmp_path_factory.mktemp("recording") / "a.wav"
        path.write_bytes(recording)
        command = [clients, str(HERE / "clients" / script), call, f"http://127.0.0.1:{served.port}", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)["answer"]

    return run
