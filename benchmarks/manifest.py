"""Start-up time and memory of a manifest of many lines.

    python benchmarks/manifest.py [--lines 1000000]

Writes one, opens it in a fresh process (twice: the first may compile), reads a thousand utterances at random and plans an epoch.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

OPEN = """
import sys, time
from pathlib import Path
begun = time.perf_counter()
import numpy as np
from carnelian.data.utterance import Manifest
imported, used = time.perf_counter(), time.process_time()
manifest = Manifest(sys.argv[1])
opened, scanned = time.perf_counter(), time.process_time()
memory = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1000  # Linux
some = np.random.default_rng(0).integers(len(manifest), size=1000)
reading = time.perf_counter()
assert all(manifest[int(index)].text for index in some)
read = time.perf_counter()
from carnelian.data.batch import padding_share, plan_batches
planning = time.perf_counter()
share = padding_share(plan_batches(manifest.durations, batch_size=32), manifest.durations)
print(f"{len(manifest):,} lines: import {imported - begun:.2f} s, open {opened - imported:.2f} s "
      f"({scanned - used:.2f} s of processor time), {memory:.0f} MB at most in the whole process; "
      f"an utterance {1000 * (read - reading):.0f} microseconds; an epoch planned in {time.perf_counter() - planning:.2f} s, "
      f"{100 * share:.1f} % padding")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    lines = parser.parse_args().lines
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "manifest.jsonl"
        with path.open("w") as file:
            for index in range(lines):
                duration = rng.uniform(11, 16.7) if rng.random() < 0.7 else rng.uniform(1.5, 13)
                audio = f"train-clean-100/{index % 999}/{index % 9999}/{index:08d}.flac"
                line = {
                    "audio_filepath": audio,
                    "duration": round(duration, 3),
                    "text": "she said what she had said " * 6,
                }
                file.write(json.dumps(line) + "\n")
        print(f"{path.stat().st_size / 1e6:.0f} MB")
        for _ in range(2):
            subprocess.run([sys.executable, "-c", OPEN, str(path)], check=True)


if __name__ == "__main__":
    main()
