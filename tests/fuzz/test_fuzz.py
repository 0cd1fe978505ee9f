"""No file, however damaged, gives more than one line of error, takes long, takes much memory, or ends the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz.py")


def fuzz(*words: object) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(FUZZ.parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(FUZZ), *map(str, words)], capture_output=True, text=True, env=environment
    )


@pytest.mark.slow
def test_two_thousand_mutated_files():
    done = fuzz("--inputs", 2000)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    read = {line.split()[0]: int(line.split()[2]) for line in done.stdout.splitlines()[-20:]}
    assert all(count for kind, count in read.items() if kind not in ("pt", "shard")), read


@pytest.mark.slow
def test_files_found_by_mutation(cases):
    done = fuzz("--cases", cases("damaged_files"))
    assert done.returncode == 0, [line for line in done.stdout.splitlines() if "fault" in line]
    assert len(done.stdout.splitlines()) > 50
