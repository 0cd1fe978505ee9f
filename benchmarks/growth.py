"""Seconds and memory per line of a manifest, from a thousand lines to millions: nothing may grow faster than the manifest.

    python benchmarks/growth.py [--largest 1000000] [--recordings 20000] [--commands train score ...]

Each command runs as a process of its own. The manifests name the same thousand short recordings of noise again and again. Commands
that read recordings (prepare, check, evaluate, transcribe) go up to `--recordings` lines, the others up to `--largest`. A command's
time per line is that of its lines beyond the smallest manifest's, whose time is mostly the start of the process; "growth" is that
figure for the largest manifest beside that for the one before: 1 where it is flat.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from carnelian.inference.processor import processor_facts

RECORDINGS = 1000
RECIPE = """
alphabet = " abcdefghijklmnopqrstuvwxyz'"
[train]
manifests  = ["{manifest}"]
epochs     = 1
batch_size = 16
unknown_characters = 1.0
[features]
name = "log_mel"
[encoder]
name   = "convolutional"
blocks = [{{ channels = 16, kernel = 5, separable = true }}]
[optimizer]
name = "adamw"
[schedule]
name   = "cosine"
peak   = 0.001
warmup = 1
"""


def write_corpus(folder: Path) -> None:
    """A thousand recordings of 0.6 seconds of noise."""
    random = np.random.default_rng(0)
    for index in range(RECORDINGS):
        audio = 0.1 * random.standard_normal(9600)
        soundfile.write(folder / f"{index}.wav", audio.astype(np.float32), 16000, subtype="PCM_16")


def write_lists(folder: Path, lines: int) -> dict[str, Path]:
    """A manifest, a table for `prepare folder`, and transcripts to score, of that many lines."""
    paths = {
        name: folder / f"{name}{lines}.{end}"
        for name, end in (("manifest", "jsonl"), ("table", "tsv"), ("text", "txt"))
    }
    words = ["she", "said", "what", "she", "had", "seen", "and", "went", "home", "again"]
    with paths["manifest"].open("w") as manifest, paths["table"].open("w") as table, paths["text"].open("w") as text:
        table.write("path\ttext\n")
        for index in range(lines):
            spoken = " ".join(words[(index + step) % len(words)] for step in range(index % 7 + 1))
            name = f"{index % RECORDINGS}.wav"
            line = {"audio_filepath": name, "duration": 0.4 + index % 200 / 1000, "text": spoken, "id": index}
            manifest.write(json.dumps(line) + "\n")
            table.write(f"{name}\t{spoken}\n")
            text.write(spoken + "\n")
    return paths


def measured(command: list, folder: Path) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak megabytes of a command. Raises SystemExit where it fails."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        [sys.executable, "-m", "carnelian", *map(str, command)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {errors.decode(errors='replace')[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, processor, usage.ru_maxrss / 1024


def commands_of(folder: Path, lines: int, paths: dict[str, Path], model: Path) -> dict[str, list]:
    """The command line of each command on the lists of one size."""
    recipe = folder / f"recipe{lines}.toml"
    recipe.write_text(RECIPE.format(manifest=paths["manifest"]))
    out = folder / f"out{lines}"
    return {
        "train": ["train", recipe, "--dry-run"],
        "score": ["score", paths["text"], paths["text"]],
        "shard": ["shard", paths["manifest"], "--out", out / "shards"],
        "prepare": ["prepare", "folder", paths["table"], out / "prepared"],
        "check": ["check", paths["manifest"], "--out", out / "checked", "--workers", 1],
        "evaluate": ["evaluate", model, paths["manifest"]],
        "transcribe": ["transcribe", model, paths["manifest"], "--out", out / "transcripts.txt"],
    }


READING = ("shard", "prepare", "check", "evaluate", "transcribe")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=1_000_000)
    parser.add_argument("--recordings", type=int, default=20_000)
    parser.add_argument("--commands", nargs="+", default=["train", "score", *READING])
    given = parser.parse_args()
    processor, instructions = processor_facts()
    print(
        f"{processor}: {', '.join(instructions)}; processor seconds; microseconds per line beyond the smallest manifest"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder)
        sizes = sorted({1000, given.recordings // 4, given.recordings, given.largest // 10, given.largest})
        lists = {size: write_lists(folder, size) for size in sizes}
        measured(
            ["train", *commands_of(folder, 1000, lists[1000], folder)["train"][1:2], "--out", folder / "run"], folder
        )
        model = folder / "run"
        print(
            f"{'command':11}{'lines':>11}{'wall s':>9}{'proc. s':>9}{'peak MB':>9}{'us/line':>9}{'bytes/line':>11}{'growth':>8}"
        )
        for command in given.commands:
            report(command, folder, model, {size: lists[size] for size in sizes if size <= limit(command, given)})


def limit(command: str, given: argparse.Namespace) -> int:
    return given.recordings if command in READING else given.largest


def report(command: str, folder: Path, model: Path, lists: dict[int, dict[str, Path]]) -> None:
    """Prints a line for each size of one command."""
    first: tuple[float, float] | None = None
    before = float("nan")
    smallest = min(lists)
    measured(commands_of(folder, smallest, lists[smallest], model)[command], folder)  # compiles, and is not counted
    shutil.rmtree(folder / f"out{smallest}", ignore_errors=True)
    for size, paths in lists.items():
        wall, processor, peak = measured(commands_of(folder, size, paths, model)[command], folder)
        if first is None:
            first = processor, peak
            print(f"{command:11}{size:11,}{wall:9.2f}{processor:9.2f}{peak:9.0f}", flush=True)
            continue
        each = 1e6 * (processor - first[0]) / (size - smallest)
        memory = 1e6 * (peak - first[1]) / (size - smallest)
        print(
            f"{command:11}{size:11,}{wall:9.2f}{processor:9.2f}{peak:9.0f}{each:9.1f}{memory:11.0f}{each / before:8.2f}",
            flush=True,
        )
        before = each


if __name__ == "__main__":
    main()
