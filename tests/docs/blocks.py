"""The code blocks of a page: found, and run in their order.

A comment before a block says how it is to be taken:

    <!-- not run: REASON -->       it is only parsed
    <!-- background -->            a service: it runs until the next such block or the end of the page
    <!-- client: PACKAGE -->       Python for a package that `make clients` installs; skipped where it is not

and `<!-- prepare: COMMANDS -->` anywhere are shell commands that run there, to make files that the reader has.
"""

import os
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CLIENTS = ROOT / ".venv-clients" / "bin" / "python"
PART = re.compile(
    r"^(?:<!-- (?P<marker>not run: [^>]+|background|client: \w+) -->\n+)?```(?P<language>\w*)\n(?P<text>.*?)^```$"
    r"|^<!-- prepare:(?P<commands>.*?)-->$",
    re.M | re.S,
)
PORT = 8000  # which the pages name
SECONDS = 600.0  # that a block may take


@dataclass(frozen=True)
class Block:
    """A code block, or the commands of a `prepare` comment: their language, text, marker, and the line where they begin."""

    language: str
    text: str
    marker: str
    line: int


def blocks_of(text: str) -> list[Block]:
    """Returns the blocks of a page in their order."""
    found = []
    for match in PART.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["commands"] is not None:
            found.append(Block("sh", match["commands"].strip() + "\n", "prepare", line))
        else:
            found.append(Block(match["language"], match["text"], match["marker"] or "", line))
    return found


class Page:
    """Runs the blocks of one page in a folder, in their order: shell commands by bash, Python in one namespace."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder, self.environment = folder, environment
        self.names: dict = {"__name__": "page"}
        self.service: subprocess.Popen | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def run(self, block: Block) -> None:
        """Runs a block. Raises AssertionError with its output where it fails."""
        text = re.sub(rf"\b{PORT}\b", str(self.port), block.text)
        if block.language == "python" and block.marker.startswith("client"):
            if CLIENTS.exists():
                self.finish([str(CLIENTS), "-c", text], block)
        elif block.language == "python":
            exec(compile("\n" * block.line + text, "<page>", "exec"), self.names)
        elif block.marker == "background":
            self.start(text)
        else:
            self.finish(["bash", "-e", "-o", "pipefail", "-c", text], block)

    def finish(self, command: list[str], block: Block) -> None:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=SECONDS,
        )  # fmt: skip
        print(done.stdout)
        assert done.returncode == 0, (
            f"line {block.line}: exit code {done.returncode}\n{block.text}\n{done.stdout[-3000:]}"
        )

    def start(self, text: str) -> None:
        """Starts a service in place of the one before, and waits until the page's port answers."""
        self.close()
        environment = {**self.environment, "CARNELIAN_PORT": str(self.port)}
        self.service = subprocess.Popen(
            ["bash", "-e", "-c", text], cwd=self.folder, env=environment, start_new_session=True
        )
        for _ in range(int(10 * SECONDS)):
            assert self.service.poll() is None, f"it ended with exit code {self.service.returncode}:\n{text}"
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError(f"nothing answers at port {self.port}:\n{text}")

    def close(self) -> None:
        """Stops the service."""
        if self.service and self.service.poll() is None:
            os.killpg(self.service.pid, signal.SIGKILL)
            self.service.wait()
