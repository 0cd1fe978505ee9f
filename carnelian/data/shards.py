"""Shards: tar files of recordings (WebDataset's and NeMo's layouts), on a disk or at any URL. The only importer of fsspec.

A recording in a shard is named by a path that goes through it: "shards/shard_00003.tar/00000042-an251.flac".
"""

import errno
import os
import re
import tarfile
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from shutil import copyfileobj
from threading import Lock
from typing import IO

from carnelian.errors import AudioError, ManifestError, MissingExtraError
from carnelian.files import written

INSIDE = ".tar/"
KEPT = {False: 256, True: 32}
"""How many shards stay open at once; those from a URL (True) lie on the disk meanwhile."""
ATTEMPTS, PAUSE = 5, 0.5
"""How often reading from a URL is tried, and the first pause between two tries in seconds; each next one doubles."""


class Shard:
    """An open tar file; `members` are its files' names, with where their bytes begin and how many they are."""

    def __init__(self, path: str):
        self.path, self.lock = path, Lock()
        try:
            self.file: IO[bytes] = fetch(path) if "://" in path else open(path, "rb")  # noqa: SIM115
        except OSError as error:
            raise ManifestError(f"{path}: {error.strerror or error}. Give the shards that the manifest names") from None
        self.members = find_members(self.file, path)
        self.stems = {os.path.splitext(name)[0]: name for name in self.members}

    def read(self, name: str) -> bytes:
        """The bytes of one of its files.

        As in NeMo's manifests, the extension may be another, and "-sub1" and so on name parts of one recording.
        """
        if name not in self.members:
            stem = os.path.splitext(name)[0]
            name = self.stems.get(stem) or self.stems.get(re.sub(r"-sub\d+$", "", stem), name)
        if name not in self.members:
            raise AudioError(f'{self.path}: no "{name}" in it. Give the manifest that was written with this shard')
        start, size = self.members[name]
        with self.lock:
            self.file.seek(start)
            return self.file.read(size)


def find_members(file: IO[bytes], path: str) -> dict[str, tuple[int, int]]:
    """Start and size of each file in a tar; one that is cut, compressed or hostile is a ManifestError."""
    members, size = {}, file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if name.startswith("/") or ".." in name.split("/"):
                    raise ManifestError(f'{path}: hostile; a file in it is named "{name[:80]}". Do not use this shard')
                if member.isreg() and not member.issparse():
                    members[name] = (member.offset_data, member.size)
            file.seek(tar.offset)
            rest = file.read(tarfile.BLOCKSIZE)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise ManifestError(f"{path}: not a whole, uncompressed tar file ({error}). Write or copy it again") from None
    if rest.strip(b"\0") or any(start + length > size for start, length in members.values()):
        raise ManifestError(f"{path}: cut off or broken after {len(members)} files. Write or copy it again")
    return members


opened: OrderedDict[str, Future[Shard]] = OrderedDict()
opened_lock = Lock()
openers = ThreadPoolExecutor(4, thread_name_prefix="shards")


def forget_threads() -> None:
    """Gives a forked process a pool and a lock of its own: the threads of its parent's pool are not there, and would never answer."""
    global openers, opened_lock
    openers, opened_lock = ThreadPoolExecutor(4, thread_name_prefix="shards"), Lock()
    opened.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_threads)


def open_ahead(path: str) -> Future[Shard]:
    """The shard, being opened (and fetched) in the background; the ones used longest ago are let go."""
    with opened_lock:
        if path not in opened or (opened[path].done() and opened[path].exception()):
            opened[path] = openers.submit(Shard, path)
        opened.move_to_end(path)
        remote = "://" in path
        for other in [other for other in opened if ("://" in other) == remote][: -KEPT[remote]]:
            del opened[other]
        return opened[path]


def read_ahead(recording: str) -> None:
    """Begins to fetch the shard of a recording that will be asked for soon, where it lies at a URL."""
    shard, inside, _ = recording.partition(INSIDE)
    if inside and "://" in shard:
        open_ahead(shard + ".tar")


def read_bytes(recording: str) -> bytes:
    """The bytes of a recording in a shard or at a URL."""
    shard, inside, name = recording.partition(INSIDE)
    if inside:
        return open_ahead(shard + ".tar").result().read(name)
    with fetch(recording) as file:
        return file.read()


def temporary_folder() -> str | None:
    """Where copies of what lies at a URL are kept: in TMPDIR, or else on the disk, since /tmp is often in memory."""
    return None if "TMPDIR" in os.environ or not os.access("/var/tmp", os.W_OK) else "/var/tmp"


def fetch(url: str) -> IO[bytes]:
    """A copy of what is at a URL, in a file without a name; what breaks off is taken up again where it stopped."""
    try:
        import fsspec
    except ImportError:
        raise MissingExtraError("fsspec", "remote", f"Reading {url}") from None
    copy = tempfile.TemporaryFile(dir=temporary_folder())  # noqa: SIM115
    for attempt in range(ATTEMPTS):
        place = copy.tell()
        how = {"block_size": 0} if url.startswith("http") and not place else {}  # a stream, which any server gives
        try:
            with fsspec.open(url, "rb", **how) as remote:
                if place:
                    remote.seek(place)
                copyfileobj(remote, copy, 1 << 22)
            copy.seek(0)
            return copy
        except Exception as error:  # each file system has its own kinds; fsspec calls a refused connection "not found"
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                folder = temporary_folder() or tempfile.gettempdir()
                raise ManifestError(
                    f"{url}: no room for a copy in {folder}. Set TMPDIR to a folder with more"
                ) from None
            cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
            found = "no such file" if isinstance(cause, FileNotFoundError) else str(cause) or type(cause).__name__
            lasting = ImportError | FileNotFoundError | PermissionError | (type(None) if place else ValueError)
            if isinstance(cause, lasting):
                raise ManifestError(f"{url}: {found}. Check the address and your rights to it") from None
            if isinstance(error, ValueError):  # a server that cannot go on in the middle
                copy.seek(0)
                copy.truncate()
            time.sleep(PAUSE * 2**attempt if attempt + 1 < ATTEMPTS else 0)
    raise ManifestError(f"{url}: reading failed {ATTEMPTS} times ({found}). Check the address and the connection")


@lru_cache(maxsize=1000)
def numbered_shards(folder: str) -> dict[int, str]:
    """The tar files of a local folder by the number that ends their names, as NeMo numbers them."""
    names = (re.fullmatch(r".*?(\d+)\.tar", path.name) for path in sorted(Path(folder or ".").glob("*.tar")))
    return {int(name[1]): os.path.join(folder, name[0]) for name in names if name}


def inside_shard(recording: str, number: int) -> str:
    """The path through its shard of a recording that a NeMo manifest names without it, with a "shard_id"."""
    folder, name = os.path.split(recording)
    shards = numbered_shards(folder)
    if number not in shards:
        raise ManifestError(f"{folder}: no shard {number} of {name} here. Put the tar files beside their manifest")
    return f"{shards[number]}/{name}"


def write_shard(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Writes a tar of (name, bytes); the same files give the same bytes."""
    with written(path, "wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, BytesIO(content))
