"""What the HTML pages of reports hold, and how headless Chromium shows them."""

import base64
import gzip
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1200,2600"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-quic", "--disable-sync"]
HAS_BROWSER = bool(shutil.which("chromium") and shutil.which("chromedriver"))


@contextmanager
def browser() -> Iterator[Callable[[str, dict], Any]]:
    """Gives `ask(command, body)`, which sends a command of the WebDriver protocol to headless Chromium."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(command: str, body: dict, session: str = "") -> Any:
        address = f"http://127.0.0.1:{port}/session{session}{command}"
        request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
        return json.loads(urllib.request.urlopen(request, timeout=300).read())["value"]

    try:
        while driver.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        found = ask("", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": ARGUMENTS}}}})
        session = f"/{found['sessionId']}"
        yield lambda command, body: ask(command, body, session)
        address = f"http://127.0.0.1:{port}/session{session}"
        urllib.request.urlopen(urllib.request.Request(address, method="DELETE"), timeout=60).close()
    finally:
        driver.terminate()
        driver.wait()


def shown_page(
    page: Path, until: str = "document.body.dataset.ready", then: str = "document.documentElement.outerHTML"
) -> Any:
    """What the script `then` gives, once the script `until` is true of the page; by default the document as HTML."""
    with browser() as ask:
        ask("/url", {"url": page.as_uri()})
        for _ in range(600):
            if ask("/execute/sync", {"script": f"return {until}", "args": []}):
                return ask("/execute/sync", {"script": f"return {then}", "args": []})
            time.sleep(0.1)
    raise TimeoutError(f"{page}: {until} did not become true in a minute")


def payload(path: Path) -> dict:
    """The figures of a page."""
    return json.loads(re.search(r'id="payload">(.*?)</script>', path.read_text(), re.S)[1])


def rows_of(path: Path) -> list:
    """The rows of its list of utterances."""
    parts = re.findall(r'class="part">(.*?)</script>', path.read_text(), re.S)
    return [row for part in parts for row in json.loads(gzip.decompress(base64.b64decode(part)))]


def values_of(path: Path) -> dict[str, np.ndarray]:
    """The columns of the list, (systems, utterances) each, in the page's order."""
    packed = re.search(r'id="values">(.*?)</script>', path.read_text(), re.S)[1]
    numbers, found = np.frombuffer(gzip.decompress(base64.b64decode(packed)), "<f4"), payload(path)
    rows = iter(numbers.reshape(-1, found["utterances"]))
    return {each["key"]: np.array([next(rows) for _ in range(each["rows"])]) for each in found["columns"]}
