"""Files that are whole or not there: written beside, forced to the disk, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from carnelian.errors import CarnelianError


@contextmanager
def written(path: str | Path, mode: str = "w", *, force: bool = True, **options: Any) -> Iterator[IO[Any]]:
    """A file to write that takes its name when all is in it; if writing fails, what bore the name before is whole.

    force: wait until the disk has it. Raises CarnelianError in one line for a full disk and the like.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    if "b" not in mode:
        options.setdefault("encoding", "utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open(mode, **options) as file:
            yield file
            file.flush()
            if force:
                os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise CarnelianError(
            f"{path}: could not be written ({error.strerror or error}). Make room, or give another path"
        ) from None
    finally:
        with suppress(OSError):  # there is none after success, nor where the folder is no folder
            beside.unlink()
