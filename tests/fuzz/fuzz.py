"""Reads mutated files with every reader, in processes with limits on time and memory; prints a table of what came of it.

    python tests/fuzz/fuzz.py [--inputs 100000] [--kind audio] [--first 0] [--keep FOLDER]

Each input gives a value or one line of at most 300 characters (a `CarnelianError`); anything else is a fault: another exception, a
crash, more than SECONDS of processor time, or more than MEMORY beyond what the process has. Exit code 1 where there is a fault.
"""

import argparse
import contextlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from readers import CASES, READERS, inputs

from carnelian.errors import CarnelianError

SECONDS, MEMORY, LONGEST = 5, 1 << 30, 300
CHUNK = 100


class TooSlow(BaseException):
    """An input took more processor time than it may."""


def outcome(kind: str, content: bytes, folder: Path) -> str:
    """What reading a file gives: "value", "one line", or a fault."""
    path = folder / f"file{READERS[kind].suffix}"
    path.write_bytes(content)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        READERS[kind].read(path)
        return "value"
    except CarnelianError as error:
        text = str(error).replace(str(folder), "")
        if len(text) > LONGEST or not text.isprintable():
            return f"fault: {'long' if len(text) > LONGEST else 'several lines'} {type(error).__name__} {text[:60]!r}"
        return "one line"
    except TooSlow:
        return f"fault: more than {SECONDS} s"
    except BaseException as error:
        last = [each for each in traceback.extract_tb(error.__traceback__) if "carnelian" in each.filename]
        where = f"{Path(last[-1].filename).name}:{last[-1].lineno}" if last else ""
        return f"fault: {type(error).__name__} {where} {str(error)[:60]!r}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def work(kind: str, first: int, last: int, pipe: int, source: Path | None = None) -> None:
    """Reads some inputs in this process, a line for each to the pipe; never returns."""

    def too_slow(*_: object) -> None:
        raise TooSlow

    signal.signal(signal.SIGPROF, too_slow)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if os.path.exists("/proc/self/statm") else 0
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    folder = Path(tempfile.mkdtemp())
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    contents = inputs(kind, first, last) if source is None else iter([source.read_bytes()])
    for number, content in zip(range(first, last), contents):
        used = int(sum(os.times()[:2]))
        resource.setrlimit(
            resource.RLIMIT_CPU, (used + 2 * SECONDS + 2, resource.RLIM_INFINITY)
        )  # where it is not in Python
        os.write(pipe, f"{number}\t{outcome(kind, content, folder)}\n".encode(errors="backslashreplace"))
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(folder)
    os._exit(0)


def run_chunk(kind: str, first: int, last: int, source: Path | None = None) -> Iterator[tuple[int, str]]:
    """(number, outcome) of some inputs; a process that ends on one is begun again after it."""
    while first < last:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            with contextlib.suppress(BaseException):
                work(kind, first, last, writer, source)
            os._exit(1)
        os.close(writer)
        with os.fdopen(reader, errors="replace") as lines:
            for line in lines:
                number, _, found = line.rstrip("\n").partition("\t")
                first = int(number) + 1
                yield int(number), found
        _, status = os.waitpid(pid, 0)
        if first < last and status:
            signaled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            what = "did not return" if signaled == signal.SIGXCPU else f"crash, signal {signaled}, exit {status >> 8}"
            yield first, f"fault: {what}"
            first += 1


def warm_up(kinds: list[str]) -> None:
    """Reads the whole files once, so that what is compiled at its first call is there for all processes."""
    for kind in kinds:
        for seed in READERS[kind].seeds():
            with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as null:
                path = Path(folder, f"file{READERS[kind].suffix}")
                path.write_bytes(seed)
                with (
                    contextlib.redirect_stdout(null),
                    contextlib.redirect_stderr(null),
                    contextlib.suppress(CarnelianError),
                ):
                    READERS[kind].read(path)


def fuzz(kinds: list[str], count: int, first: int = 0) -> dict[str, Counter[str]]:
    """The outcomes of `count` inputs of each kind; faults are printed."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    warm_up(kinds)
    for kind in kinds:
        for start in range(first, first + count, CHUNK):
            for number, what in run_chunk(kind, start, min(start + CHUNK, first + count)):
                found[kind][what if not what.startswith("fault") else "fault"] += 1
                if what.startswith("fault"):
                    found[kind][what] += 1
                    if found[kind][what] == 1:
                        print(f"{kind} {number}: {what}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="of all kinds together")
    parser.add_argument("--kind", action="append", choices=READERS, help="only this kind; may be given again")
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument(
        "--cases", type=Path, help="read the files of this folder instead; their names begin with their kind"
    )
    parser.add_argument("--keep", type=Path, help="write the one input --first of --kind into this folder, and no more")
    given = parser.parse_args()
    kinds = given.kind or list(READERS)
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
        for kind in kinds:
            [content] = inputs(kind, given.first, given.first + 1)
            (given.keep / f"{kind}-{given.first}{READERS[kind].suffix}").write_bytes(content)
        return
    if given.cases:
        faults = 0
        warm_up(kinds)
        for path in sorted(given.cases.iterdir()):
            kind = CASES.get(path.name.split("_")[0].split(".")[0])
            for _, what in run_chunk(kind, 0, 1, path) if kind else ():
                faults += what.startswith("fault")
                print(f"{path.name}: {what}")
        sys.exit(1 if faults else 0)
    found = fuzz(kinds, -(-given.inputs // len(kinds)), given.first)
    print(f"\n{'kind':<12}{'inputs':>8}{'read':>8}{'one line':>10}{'faults':>8}")
    for kind, counts in found.items():
        total = counts["value"] + counts["one line"] + counts["fault"]
        print(f"{kind:<12}{total:>8}{counts['value']:>8}{counts['one line']:>10}{counts['fault']:>8}")
    sys.exit(1 if any(counts["fault"] for counts in found.values()) else 0)


if __name__ == "__main__":
    main()
