"""The folder in which the blocks of the pages run: a small spoken corpus in the form of AN4, and a model trained on it.

The names are those of the pages. Everything is made once and copied for each page.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for blocks

ROOT = Path(__file__).parent.parent.parent
FORK = Path(__file__).parent / "carnelian_fork.py"
RECIPE = """
task     = "acoustic"
alphabet = " abcdefghijklmnopqrstuvwxyz'"
[train]
manifests  = ["data/an4/train.jsonl"]
validation = ["data/an4/dev.jsonl"]
steps      = 400
batch_size = 8
[features]
name = "log_mel"
[encoder]
name = "convolutional"
blocks = [
    { channels = 96, kernel = 11, stride = 2, separable = true },
    { channels = 96, kernel = 11, stride = 2, separable = true },
    { channels = 96, kernel = 15, repeat = 2, residual = "plain", separable = true },
    { channels = 192, kernel = 1 },
]
[optimizer]
name = "adamw"
[schedule]
name   = "cosine"
peak   = 0.015
warmup = 20
"""
CORRECTOR = """
task = "corrector"
[train]
pairs = ["results.jsonl"]
steps = 4
batch_tokens = 400
[initialize]
vocabulary = "vocab.txt"
[corrector]
channels = 24
layers = 1
heads = 2
feedforward = 48
positions = 64
[optimizer]
name = "adam"
[schedule]
name = "polynomial"
peak = 0.01
warmup = 1
lowest = 1e-5
"""
CORPUS = "python -m carnelian synthesize corpus --train 32 --test 8 --seed 1"
MODELS = """
python -m carnelian prepare an4 PATH/TO/an4 data/an4 --hold-out 2
python -m carnelian train recipe.toml --out runs/an4
python -m carnelian export onnx runs/an4 an4.onnx
python -m carnelian language-model build data/an4/train.jsonl --order 3 --arpa an4.arpa
python -m carnelian evaluate runs/an4 data/an4/train.jsonl --out results.jsonl
printf '%s\\n' [PAD] [UNK] [CLS] [SEP] {a..z} '##'{a..z} > vocab.txt
python -m carnelian train corrector.toml --out runs/corrector
cp runs/an4/step-00000400.safetensors model.safetensors
cp corpus/audio/train-00001.wav recording.wav
cp an4.onnx model.onnx
cp data/an4/train.jsonl data/unlabelled.jsonl
sed 's/.*"text": "\\([^"]*\\)".*/\\1/' data/an4/train.jsonl > text.txt
echo 'language_model = "an4.arpa"' > decoding.toml
python -m carnelian transcribe an4.onnx recording.wav --decoding decoding.toml   # compiles the search
"""


def as_an4(corpus: Path, folder: Path) -> None:
    """Arranges a synthetic corpus as AN4's folder, each recording by one of eight speakers."""
    for subset in ("train", "test"):
        names, lines = [], []
        for index, line in enumerate((corpus / f"{subset}.jsonl").read_text().splitlines()):
            utterance = json.loads(line)
            name, speaker = f"{subset}{index:03d}-{index % 8}", f"{subset}{index % 8}"
            target = folder / "wav" / f"an4_{subset}" / speaker / f"{name}.sph"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(corpus / utterance["audio_filepath"], target)
            names.append(f"an4_{subset}/{speaker}/{name}\n")
            lines.append(f"<s> {utterance['text'].upper()} </s> ({name})\n")
        etc = folder / "etc"
        etc.mkdir(exist_ok=True)
        (etc / f"an4_{subset}.fileids").write_text("".join(names))
        (etc / f"an4_{subset}.transcription").write_text("".join(lines))


def make_world(folder: Path) -> None:
    """Makes the folder with the commands of CORPUS and MODELS."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(commands: str) -> None:
        done = subprocess.run(["bash", "-ec", commands], cwd=folder, env=environment, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr

    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "corrector.toml").write_text(CORRECTOR)
    run(CORPUS)
    as_an4(folder / "corpus", folder / "PATH" / "TO" / "an4")
    run(MODELS)
    (folder / "made").touch()


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """The folder that is copied for each page; made by the first process that needs it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "world"
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            make_world(folder)
    return folder


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    """The environment in which `carnelian` is the command under test, each call a fork of one process."""
    folder = tmp_path_factory.mktemp("commands")
    socket = folder / "socket"
    program = folder / "bin" / "carnelian"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{FORK}" "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(program.parent), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "CARNELIAN_SOCKET": str(socket),
        "CARNELIAN_PYTHON": sys.executable,
        "COLUMNS": "160",
    }
    server = subprocess.Popen([sys.executable, str(FORK), "fork-server", str(socket)], env=environment)
    while not socket.exists():
        assert server.poll() is None
        time.sleep(0.1)
    yield environment
    server.kill()
    server.wait()
