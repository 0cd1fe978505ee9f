"""Tar archives unpacked safely: nothing outside their folder, no links, no more than stated, whole or not there."""

import gzip
import lzma
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from carnelian.console import bar
from carnelian.errors import DownloadError

COPY_BYTES = 1 << 20


def unpack(archive: str | Path, folder: str | Path, *, most_bytes: int = 0) -> list[Path]:
    """Unpacks a tar (plain, gzip, bzip2 or xz) and returns the files' paths.

    The files appear in the folder only when all are unpacked; folders that exist already are added to.
    Raises DownloadError, and leaves nothing behind, for an archive that is cut or damaged, holds more than `most_bytes` (0: any
    number), or is hostile: paths that lead out of the folder, links, devices.
    """
    archive, folder = Path(archive), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{archive.name}.", dir=folder))
    try:
        size = archive.stat().st_size
        with bar(f"Unpacking {archive.name}, MB", size / 1e6) as advance:
            names = extract(archive, beside, most_bytes, advance)
        for name in names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (beside / name).replace(target)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, ValueError) as error:
        raise DownloadError(f"{archive}: not a whole tar archive ({error}). Remove it and download it again") from None
    except OSError as error:
        raise DownloadError(
            f"{archive}: cannot be unpacked into {folder} ({error.strerror or error}). Make room, or give another folder"
        ) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return [folder / name for name in names]


def extract(archive: Path, folder: Path, most_bytes: int, advance: Callable[..., None]) -> list[str]:
    """Writes an archive's files below a folder and returns their names."""
    names, total, position = [], 0, 0
    with archive.open("rb") as compressed, tarfile.open(fileobj=compressed, mode="r:*") as tar:
        for member in tar:
            advance((compressed.tell() - position) / 1e6)
            position = compressed.tell()
            name = safe_name(member, archive)
            total += tarfile.BLOCKSIZE + member.size  # so that a million empty files count as well
            if most_bytes and total > most_bytes:
                raise DownloadError(
                    f"{archive}: holds more than {most_bytes:,} bytes, which is not expected. Do not use it"
                )
            if member.isdir():
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None  # it is a regular file
            with source, target.open("wb") as file:
                shutil.copyfileobj(source, file, COPY_BYTES)
            names.append(name)
        while tar.fileobj and tar.fileobj.read(COPY_BYTES):  # to the end, where a compressed file's checksum is
            pass
    return names


def safe_name(member: tarfile.TarInfo, archive: Path) -> str:
    """The path of a member below its folder; DownloadError for one that is no plain file or folder or leads out of it."""
    path = PurePosixPath(member.name)
    hostile = path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in (path.parts or ("",))[0]
    if hostile or not (member.isreg() or member.isdir()):
        what = "leads out of its folder" if hostile else "is a link or device"
        raise DownloadError(f'{archive}: "{member.name[:80]}" in it {what}. It is hostile or damaged; do not use it')
    return str(path)
