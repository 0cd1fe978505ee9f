"""Files read and written so that whatever goes wrong is one line, and what is written is whole or not there."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from carnelian.errors import CarnelianError
from carnelian.file_kinds import misplaced

try:
    import fcntl
except ImportError:  # Windows has no such lock
    fcntl = None  # type: ignore[assignment]

LONGEST_LINE = 300  # characters of an error

HOME_VARIABLE = "CARNELIAN_HOME"


def one_line(text: str, limit: int = LONGEST_LINE) -> str:
    """Returns the text as one line for people: what a terminal would not show as it is becomes an escape such as `\\n`.

    A text of more than `limit` characters keeps its beginning and its end.
    """
    kept = text if len(text) <= 2 * limit else f"{text[:limit]}{text[-limit:]}"
    line = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in kept)
    return line if len(line) <= limit else f"{line[: limit * 3 // 5]} ... {line[5 - limit * 2 // 5 :]}"


@contextmanager
def reading(path: str | Path, what: str, error: type[CarnelianError] = CarnelianError) -> Iterator[None]:
    """While the body reads a file, any exception becomes an `error` of one line that names the file.

    what: what the file should be, as in "a language model". Where it is of another kind, that is the error. Otherwise a
    CarnelianError of the body stays what it is, made one line. Memory that runs out counts as a fault of the file, which
    claims more than it holds. FIFOs, sockets and devices are refused, since reading one may never end. KeyboardInterrupt and
    its like pass through.
    """
    try:
        refuse_special(path, error)
        yield
    except CarnelianError as fault:
        if other := misplaced(path, what):
            raise error(one_line(other)) from None
        fault.args = (one_line(str(fault)),)
        raise
    except FileNotFoundError as fault:
        missing = fault.filename if isinstance(fault.filename, str) else path
        raise error(one_line(f"{missing}: no such file. Give {what}")) from None
    except IsADirectoryError:
        raise error(one_line(f"{path}: this is a folder. Give {what}")) from None
    except Exception as fault:  # a damaged or hostile file can make a reader fail in any way
        if other := misplaced(path, what):
            raise error(one_line(other)) from None
        raise error(one_line(f"{path}: cannot be read as {what} ({reason_of(fault)}). Is the file whole?")) from None


def is_file(path: str) -> bool:
    """Whether a regular file lies at a path; also where the path holds a NUL, which no path may."""
    try:
        return os.path.isfile(path)
    except ValueError:
        return False


def refuse_special(path: str | Path, error: type[CarnelianError] = CarnelianError) -> None:
    """Raises `error` for a path that is neither a file nor a folder, such as a FIFO or a device; a missing one passes."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # ValueError: a NUL in the name; whoever opens it says so
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise error(f"{path}: a FIFO, socket or device. Expected a file: copy its contents into one")


def reason_of(fault: Exception) -> str:
    """Returns what an exception says, in a few words and in one line."""
    match fault:
        case MemoryError():
            return "it asks for more memory than there is"
        case RecursionError():
            return "it is nested too deep"
        case UnicodeDecodeError():
            return f"byte {fault.start} is not {fault.encoding}"
        case OSError():
            return one_line(fault.strerror or str(fault) or type(fault).__name__, 120)
    return one_line((str(fault).strip() or type(fault).__name__).splitlines()[0], 120)


def check_outputs(*paths: str | Path | None, overwrite: bool = False) -> None:
    """Raises CarnelianError for an output that exists (unless `overwrite`) or cannot be written, before any work is done for it."""
    for path in (Path(path) for path in paths if path is not None):
        name = one_line(str(path), 200)
        if path.is_dir():
            raise CarnelianError(f"{name}: this is a folder. Give the path of a file")
        if path.exists() and not overwrite:
            raise CarnelianError(f"{name}: exists. Give another --out, or --overwrite")
        parent = path.absolute().parent
        while not parent.exists() and parent != parent.parent:
            parent = parent.parent
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise CarnelianError(
                f"{name}: could not be written, for {parent} is not a folder to write in. Give another path"
            )


@contextmanager
def written(path: str | Path, mode: str = "w", *, force: bool = True, **options: Any) -> Iterator[IO[Any]]:
    """Gives a file to write that takes its name when all is in it; if writing fails, what bore the name before is whole.

    force: wait until the disk has it. Raises CarnelianError in one line for a full disk and the like, which names the
    file at fault: an OSError of another file that the body opens is reported with that file's name.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}")
    if "b" not in mode:
        options.setdefault("encoding", "utf-8")
    created = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open(mode.replace("w", "x"), **options) as file:  # exclusively: never through someone's link
            created = True
            yield file
            file.flush()
            if force:
                os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        reason = error.strerror or error
        others = error.filename is not None and str(error.filename) not in (str(path), str(beside), str(path.parent))
        if created and others:
            raise CarnelianError(one_line(f"{error.filename}: {reason}")) from None
        raise CarnelianError(
            one_line(f"{path}: could not be written ({reason}). Make room, or give another path")
        ) from None
    finally:
        with suppress(OSError):  # there is none after success, nor where the folder is no folder
            if created:
                beside.unlink()


def try_lock(handle: int) -> bool:
    """Locks an open file or folder until it is closed; False where another process holds it.

    The lock is the system's: it leaves no file behind, and ends with the process. Where there are no locks it says True. Raises
    OSError on network file systems without them.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def cache_folder() -> Path:
    """Where downloaded models and measurements are kept: $CARNELIAN_HOME, or else the user's cache folder."""
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return Path(home).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "carnelian"
