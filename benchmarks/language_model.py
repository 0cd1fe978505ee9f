"""Seconds of n-gram estimation, ARPA written, beside KenLM's lmplz where it is given or on the path.

    python benchmarks/language_model.py TEXT [--order 3 --order 4] [--lmplz PATH] [--repeats 3] [--memory 4G]

Each is a process of its own. TEXT is plain or gzip; it is unpacked before the time starts, for both. The processor time of lmplz
counts its threads.
"""

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from carnelian.cli import as_typer
from carnelian.commands.benchmarks.measurement import BenchmarkOptions, Contender, measure_in_turns, run_benchmark

OURS = """
import sys
from carnelian.commands.language_model import build
from pathlib import Path
build([Path(sys.argv[1])], order=int(sys.argv[2]), arpa=Path(sys.argv[3]), memory=sys.argv[4], overwrite=True)
"""


def run(command: list[str], source: Path, target: Path) -> None:
    with source.open("rb") as text, target.open("wb") as arpa:
        subprocess.run(command, stdin=text, stdout=arpa, stderr=subprocess.DEVNULL, check=True)


def main(
    text: Annotated[Path, "plain text or gzip"],
    *,
    order: Annotated[list[int], "words of the longest n-grams; may be given again"] = [3, 4],  # noqa: B006
    lmplz: Annotated[str, "KenLM's program"] = shutil.which("lmplz") or "",
    memory: Annotated[str, "memory of each"] = "4G",
    options: BenchmarkOptions = BenchmarkOptions(),  # noqa: B008
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain, arpa = Path(folder) / "text", Path(folder) / "model.arpa"
        raw = text.read_bytes()
        plain.write_bytes(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
        words = len(plain.read_bytes().split())
        contenders = []
        for each in order:
            ours = [sys.executable, "-c", OURS, str(plain), str(each), str(arpa), memory]
            commands = {"carnelian": (ours, Path(os.devnull))}
            if lmplz:
                commands["lmplz"] = ([lmplz, "-o", str(each), "-S", memory, "-T", folder], arpa)
            for name, (command, target) in commands.items():
                case = {"order": each, "by": name}
                contenders.append(Contender(case, partial(run, command, plain, target), {"words": float(words)}))
        print(f"{words:,} words")
        baseline = {"by": "lmplz"}
        run_benchmark(options, lambda: measure_in_turns("language model", contenders, options, baseline=baseline))


if __name__ == "__main__":
    typer.run(as_typer(main))
