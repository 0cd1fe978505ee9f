"""Files from the web: resumed where they broke off, checked against their checksum, and whole or not there."""

import hashlib
import http.client
import ipaddress
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from carnelian.console import bar, duration_text, note
from carnelian.errors import DownloadError
from carnelian.files import one_line

CHUNK = 1 << 18
ATTEMPTS, PAUSE = 5, 1.0
"""How often an address is tried without a new byte, and the first pause between two tries in seconds; it doubles."""
TIMEOUT = 30.0
"""Seconds after which a server that sends nothing, or less than `LEAST_RATE` bytes a second, is given up for now."""
LEAST_RATE = 1024
NOTED_SIZE = 1 << 29  # bytes whose checksum takes more than a moment
TEMPORARY = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses after which asking again may help


class RefusedError(Exception):
    """A server's answer that asking again would not change."""


def download(
    urls: str | Sequence[str],
    path: str | Path,
    *,
    size: int = 0,
    checksum: str = "",
    trusted: Iterable[str] = (),
    timeout: float = TIMEOUT,
) -> Path:
    """Fetches a file from the first of several addresses (mirrors) that serves it, and returns its path.

    The file takes its name only when it is whole; until then it is `.NAME.part` beside it, from which a later call goes on.
    A file that is there already is not fetched again.

    size: bytes expected, 0 if unknown; checksum: "md5:HEX" or "sha256:HEX". Wrong bytes are removed.
    trusted: addresses that the user gave. Their hosts may be private (127.0.0.1, 10.0.0.0/8, ...); all others must be public,
    also after redirects, and every address must be http or https.
    Raises DownloadError if no address serves the file, if the disk has no room for it, or if another process fetches it.
    """
    path = Path(path)
    if path.exists():
        return path
    remaining, failures = [urls] if isinstance(urls, str) else list(urls), {}
    guard = AddressGuard(trusted)
    opener = make_opener(guard)
    with open_partial(path, checksum) as part:
        require_space(path.parent, size - part.size, path.name)
        with progress_bar(path.name, size, part.size) as advance:
            attempt = 0
            while remaining and attempt < ATTEMPTS:
                time.sleep(PAUSE * 2 ** (attempt - 1) if attempt else 0)
                before = part.size
                for url in list(remaining):
                    try:
                        guard.check_url(url)
                        receive(opener, url, part, size, checksum, advance, timeout)
                        part.keep(path)
                        return path
                    except RefusedError as error:
                        failures[url] = str(error)
                        remaining.remove(url)
                    except (OSError, http.client.HTTPException) as error:
                        failures[url] = describe_failure(error)
                attempt = 0 if part.size > before else attempt + 1
        kept = f"; {size_text(part.size)} are kept, and the same command goes on from there" if part.size else ""
    reasons = "; ".join(f"{url}: {reason}" for url, reason in failures.items())
    raise DownloadError(
        one_line(f"{path.name}: not downloaded ({reasons}){kept}. Check the connection, or give another address", 1000)
    )


class Partial:
    """A file that is being received: `size` bytes so far, their digest, and the server's tag of the version they are of."""

    def __init__(self, path: Path, algorithm: str):
        self.path, self.algorithm = path, algorithm
        self.tag_path = path.with_suffix(".tag")
        self.file: IO[bytes] = path.open("a+b")
        self.file.seek(0)
        self.digest = hashlib.new(algorithm)
        self.size = 0
        if (there := path.stat().st_size) > NOTED_SIZE:
            note(f"{path.name}: {size_text(there)} are there; computing their checksum")
        while chunk := self.file.read(CHUNK):
            self.digest.update(chunk)
            self.size += len(chunk)
        self.tag = self.tag_path.read_text() if self.tag_path.exists() else ""

    def write(self, chunk: bytes) -> None:
        self.file.write(chunk)
        self.digest.update(chunk)
        self.size += len(chunk)

    def clear(self) -> None:
        """Drops the bytes so far."""
        self.file.truncate(0)
        self.digest = hashlib.new(self.algorithm)
        self.size = 0
        self.set_tag("")

    def set_tag(self, tag: str) -> None:
        self.tag = tag
        if tag:
            self.tag_path.write_text(tag)
        else:
            self.tag_path.unlink(missing_ok=True)

    def keep(self, path: Path) -> None:
        """Renames the complete file to its final name."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.path.replace(path)
        self.tag_path.unlink(missing_ok=True)


@contextmanager
def open_partial(path: Path, checksum: str) -> Iterator[Partial]:
    """The partial file of a download, locked; an empty one is removed afterwards."""
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Partial(beside, checksum.partition(":")[0] or "sha256")
    except OSError as error:
        raise DownloadError(f"{path}: cannot be written ({error.strerror}). Give another folder") from None
    with part.file:
        if not lock(part.file):
            raise DownloadError(f"{path}: another process is downloading it. Wait for it, or stop it")
        try:
            yield part
        finally:
            with suppress(OSError):
                part.file.flush()
                if beside.exists() and not beside.stat().st_size:
                    beside.unlink()
                    part.tag_path.unlink(missing_ok=True)


def lock(file: IO[bytes]) -> bool:
    """Locks an open file against other processes until it is closed; False if one has it. Without effect on Windows."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def receive(
    opener: urllib.request.OpenerDirector,
    url: str,
    part: Partial,
    size: int,
    checksum: str,
    advance: Callable[[int], None],
    timeout: float,
) -> None:
    """Appends to the partial file what it lacks, and checks it.

    Raises OSError where asking again may help, and RefusedError where it would not.
    """
    resumed = part.size
    unknown = not (checksum or size or part.tag)  # nothing would tell if another version was appended
    if resumed and (unknown or (size and part.size > size)):
        restart(part, advance)
    if not size or part.size < size:
        with request(opener, url, part, checksum, advance, timeout) as answer:
            if answer.headers.get_content_type() == "text/html":
                raise RefusedError("it sends a web page, to log in perhaps, not the file")
            begin = part.size if continues(answer, part) else 0
            length = answer.headers.get("Content-Length", "")
            total = begin + int(length) if length.isdecimal() else 0
            if size and total and total != size:
                raise RefusedError(f"it has {total:,} bytes, expected {size:,}: another file")
            if begin < part.size:  # only now, for what refuses the file leaves what is here
                restart(part, advance)
            tag = answer.headers.get("ETag", "")
            part.set_tag(tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", ""))
            copy(answer, part, size or total, advance, timeout)
        if part.size < (size or total):
            raise OSError(f"cut off after {part.size:,} of {size or total:,} bytes")
    expected, found = checksum.partition(":")[2].lower(), part.digest.hexdigest()
    if expected and expected != found:
        restart(part, advance)
        kind = OSError if resumed else RefusedError  # what was there before may be what is wrong
        raise kind(f"its checksum is {found}, expected {expected}: other bytes, which are removed")


def request(
    opener: urllib.request.OpenerDirector,
    url: str,
    part: Partial,
    checksum: str,
    advance: Callable[[int], None],
    timeout: float,
) -> Any:
    """A server's answer to the request for the bytes that the partial file lacks."""
    headers = {"User-Agent": "carnelian", "Accept-Encoding": "identity"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
        if part.tag and not checksum:
            headers["If-Range"] = part.tag
    try:
        return opener.open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # what is here is not the beginning of what is there
            restart(part, advance)
            raise OSError("another file than before") from None
        if error.code in TEMPORARY:
            raise OSError(f"HTTP {error.code}") from None
        raise RefusedError(f"HTTP {error.code} {str(error.reason).split(chr(10))[0]}") from None


def restart(part: Partial, advance: Callable[[int], None]) -> None:
    """Drops the bytes received so far, and moves the bar back."""
    advance(-part.size)
    part.clear()


def continues(answer: Any, part: Partial) -> bool:
    """Whether a server goes on where the partial file ends; one that knows no ranges sends all from the beginning."""
    return answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {part.size}-")


def copy(answer: Any, part: Partial, size: int, advance: Callable[[int], None], timeout: float) -> None:
    """Appends the answer's bytes; raises OSError for a server that sends too slowly, RefusedError for one that sends too much."""
    since, received = time.monotonic(), 0
    while chunk := answer.read1(CHUNK):
        if size and part.size + len(chunk) > size:
            restart(part, advance)
            raise RefusedError(f"it sends more than {size:,} bytes: another file")
        part.write(chunk)
        advance(len(chunk))
        received += len(chunk)
        if (seconds := time.monotonic() - since) > timeout:
            if received < LEAST_RATE * seconds:
                raise OSError(f"only {received / seconds:,.0f} bytes a second")
            since, received = time.monotonic(), 0


class AddressGuard:
    """Lets through only http and https addresses of the public internet, and hosts that the user named."""

    def __init__(self, trusted: Iterable[str] = ()):
        proxies = (url if "://" in url else f"http://{url}" for url in urllib.request.getproxies().values())
        self.trusted = {host_of(url) for url in (*trusted, *proxies)}

    def check_url(self, url: str) -> None:
        """Raises RefusedError for an address of another kind, or one whose host is written as a private number."""
        host = host_of(url)
        if urlsplit(url).scheme not in ("http", "https") or not host:
            raise RefusedError(f"{url[:80]} is no http or https address and is not followed")
        with suppress(ValueError):  # a name: judged by what it leads to, when connected
            self.check_peer(host, str(ipaddress.ip_address(host)))

    def check_host(self, host: str, port: int) -> None:
        """Raises RefusedError if a host leads to a private address, before anything is sent there."""
        for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            self.check_peer(host, str(address[0]))

    def check_peer(self, host: str, address: str) -> None:
        """Raises RefusedError if the address that a host leads to is private."""
        if host.lower() not in self.trusted and not ipaddress.ip_address(address.partition("%")[0]).is_global:
            raise RefusedError(f"{host} leads to the private address {address} and is not followed")


def host_of(url: str) -> str:
    """The host of an address, in lower case."""
    return (urlsplit(url).hostname or "").lower()


def make_opener(guard: AddressGuard) -> urllib.request.OpenerDirector:
    """An opener for http and https whose every connection and redirect passes the guard."""

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            guard.check_host(self.host, self.port)
            super().connect()
            guard.check_peer(self.host, self.sock.getpeername()[0])  # a name may lead elsewhere when it is asked again

    class SecureConnection(Connection, http.client.HTTPSConnection):
        pass

    class Http(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(Connection, request)

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(SecureConnection, request)

    class Redirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, request, file, code, message, headers, url):
            guard.check_url(url)
            return super().redirect_request(request, file, code, message, headers, url)

    opener = urllib.request.OpenerDirector()  # build_opener's would also open file: and ftp:
    for handler in (
        urllib.request.ProxyHandler(),
        Http(),
        Https(),
        Redirect(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def describe_failure(error: Exception) -> str:
    """What broke, in a few words."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__)


@contextmanager
def progress_bar(name: str, size: int, done: int) -> Iterator[Callable[[int], None]]:
    """A bar in megabytes with the rate of the last seconds and the time left."""
    with bar(f"{name}, MB", size / 1e6 if size else None) as advance:
        marks = [(time.monotonic(), done)]
        position = done
        advance(done / 1e6)

        def move(count: int) -> None:
            nonlocal position
            position += count
            now = time.monotonic()
            if now - marks[-1][0] > 1:
                marks.append((now, position))
                del marks[:-10]
            seconds, received = now - marks[0][0], position - marks[0][1]
            rate = max(received, 0) / seconds if seconds > 0 else 0.0
            left = f", {duration_text((size - position) / rate)} left" if size and rate else ""
            advance(count / 1e6, f"{rate / 1e6:.1f} MB/s{left}")

        yield move


def size_text(size: float) -> str:
    """Bytes as people say them: "340 MB", "6.4 GB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(size) < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def require_space(folder: Path, size: int, what: str) -> None:
    """Raises DownloadError if the disk of a folder, which need not exist yet, has less than `size` bytes free."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DownloadError(
            f"{what}: needs {size_text(size)} in {folder}, which has {size_text(free)} free. Make room, or give another folder"
        )


def announce(what: str, size: int, disk: int, folder: Path) -> None:
    """Says what a download will take before it starts; DownloadError if the disk has not enough room."""
    require_space(folder, disk, what)
    note(f"{what}: {size_text(size)} to download, {size_text(disk)} of disk in {folder}")
