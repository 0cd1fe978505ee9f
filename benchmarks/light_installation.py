"""Makes the light installation in a fresh environment and measures it: size, start, and one recording, without PyTorch and Numba.

    python benchmarks/light_installation.py MODEL.onnx RECORDING [--folder FOLDER] [--language-model LM]

MODEL.onnx is what `carnelian export onnx` wrote. Everything that must hold is asserted: no torch, no numba, under 250 MB; the times
are printed, not judged.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def folder_megabytes(folder: Path) -> float:
    """What a folder takes, in megabytes of 10^6 bytes; a file with several names counts once."""
    files = {
        path.stat().st_ino: path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    return sum(files.values()) / 1e6


def seconds_of(command: list[str], repeat: int = 5) -> tuple[float, str]:
    """The shortest wall time of a command, start included, and its standard output."""
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        run = subprocess.run(command, capture_output=True, text=True, cwd=tempfile.gettempdir())
        times.append(time.perf_counter() - started)
        assert run.returncode == 0, run.stderr
    return min(times), run.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--folder", type=Path, help="where the environment goes; by default a temporary folder")
    parser.add_argument("--language-model", type=Path, help="then adds the extra search, and searches with this model")
    given = parser.parse_args()
    os.environ.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary) / "environment"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        empty = folder_megabytes(folder)
        python, carnelian = folder / "bin" / "python", folder / "bin" / "carnelian"
        install = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", ROOT]
        subprocess.run(install, check=True)
        whole = folder_megabytes(folder)
        listed = subprocess.run([python, "-m", "pip", "list", "--format", "json"], capture_output=True, text=True)
        packages = {each["name"].lower() for each in json.loads(listed.stdout)}
        assert not packages & {"torch", "numba", "onnx", "safetensors"}, packages
        assert whole < 250, whole
        print(f"{whole:.0f} MB, of which {empty:.0f} MB are Python's environment; {len(packages)} packages")
        model, recording = str(given.model.resolve()), str(given.recording.resolve())
        for name, command in (
            ("transcribe --help", ["transcribe", "--help"]),
            (f"transcribe {given.recording.name}", ["transcribe", model, recording]),
        ):
            seconds, output = seconds_of([str(carnelian), *command])
            print(f"{seconds:.2f} s  carnelian {name}", output.strip() if "help" not in name else "", sep="  ")
        refusals(carnelian, model, recording)
        if given.language_model:
            subprocess.run([*install[:-1], f"{ROOT}[search]"], check=True)
            print(f"with the extra search: {folder_megabytes(folder):.0f} MB")
            command = [
                str(carnelian),
                "transcribe",
                model,
                recording,
                "--language-model",
                str(given.language_model.resolve()),
            ]
            seconds_of(command, repeat=1)  # compiles the search
            seconds, output = seconds_of(command)
            print(f"{seconds:.2f} s  carnelian transcribe --language-model  {output.strip()}")


def refusals(carnelian: Path, model: str, recording: str) -> None:
    """What the light installation cannot do is one line that says what to install."""
    for arguments in (["train", "recipe.toml"], ["transcribe", model, recording, "--hot-word", "a"]):
        refused = subprocess.run([str(carnelian), *arguments], capture_output=True, text=True)
        assert refused.returncode == 2 and "pip install" in refused.stderr, refused.stderr
        print(refused.stderr.strip())


if __name__ == "__main__":
    main()
