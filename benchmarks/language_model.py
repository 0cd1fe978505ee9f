"""Words per second of n-gram estimation, ARPA written, beside KenLM's lmplz where it is given or on the path.

    python benchmarks/language_model.py TEXT [--orders 3 4] [--lmplz PATH] [--rounds 3] [--memory 4G]

Each round runs both, one after the other, as processes of their own (the first of ours compiles and is not counted);
of each the fastest round counts. TEXT is plain or gzip; it is unpacked before the time starts, for both.
"""

import argparse
import gzip
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OURS = """
import sys
from carnelian.commands.language_model import build
from pathlib import Path
build([Path(sys.argv[1])], order=int(sys.argv[2]), arpa=Path(sys.argv[3]), memory=sys.argv[4], overwrite=True)
"""


def timed(command: list[str], source: Path, target: Path) -> tuple[float, float]:
    """Seconds of wall time and of processor time that a command takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    with source.open("rb") as text, target.open("wb") as arpa:
        subprocess.run(command, stdin=text, stdout=arpa, stderr=subprocess.DEVNULL, check=True)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--orders", type=int, nargs="+", default=[3, 4])
    parser.add_argument("--lmplz", default=shutil.which("lmplz"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", default="4G")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plain, arpa = Path(folder) / "text", Path(folder) / "model.arpa"
        raw = given.text.read_bytes()
        plain.write_bytes(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
        words = len(plain.read_bytes().split())
        print(f"{words:,} words; wall seconds (processor seconds), fastest of {given.rounds}; words per wall second")
        for order in given.orders:
            commands = {"carnelian": [sys.executable, "-c", OURS, str(plain), str(order), str(arpa), given.memory]}
            if given.lmplz:
                commands["lmplz"] = [given.lmplz, "-o", str(order), "-S", given.memory, "-T", folder]
            timed(commands["carnelian"], plain, Path(os.devnull))
            best = {name: (float("inf"), float("inf")) for name in commands}
            for _ in range(given.rounds):
                for name, command in commands.items():
                    target = arpa if name == "lmplz" else Path(os.devnull)
                    best[name] = tuple(map(min, best[name], timed(command, plain, target)))
            for name, (wall, processor) in best.items():
                print(f"{order}-gram  {name:10} {wall:6.2f} ({processor:6.2f})  {words / wall:12,.0f}")
            if "lmplz" in best:
                ratios = [theirs / ours for theirs, ours in zip(best["lmplz"], best["carnelian"])]
                print(
                    f"{order}-gram  {ratios[0]:.2f} times lmplz's words per second ({ratios[1]:.2f} by processor time)"
                )


if __name__ == "__main__":
    main()
