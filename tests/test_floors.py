"""Imports run only down, and each foreign library has one door."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "carnelian"
FLOORS = {
    "cli": 6,
    "commands": 5,
    **dict.fromkeys(["training", "recognizer"], 4),
    **dict.fromkeys(["checkpoint", "corpora", "formats", "decoding"], 3),
    **dict.fromkeys(["recipe", "data", "models", "scoring"], 2),
    **dict.fromkeys(["console", "files"], 1),
    "errors": 0,
}
DOORS = {
    "typer": "cli.py",
    "rich": "console.py",
    "safetensors": "checkpoint.py",
    "soundfile": "data/audio.py",
    "soxr": "data/audio.py",
    "sentencepiece": "data/alphabet.py",
    "fsspec": "data/shards.py",
    "num2words": "data/text.py",
    "tensorboard": "training/log.py",
    "matplotlib": "scoring/report.py",
    "espeakng_loader": "corpora/synthetic.py",
    "yaml": "formats/nemo.py",
    "transformers": "models/hugging_face.py",
}
FILES = sorted(ROOT.rglob("*.py"))


def imports(path: Path):
    """(line, module) of every import in a file, also inside functions; `from a import b` gives a.b as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_down(path):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if room in ("__init__", "__main__"):
        return
    for line, module in imports(path):
        parts = module.split(".")
        if parts[0] != "carnelian" or parts[1] in (room, "__version__"):
            continue
        assert FLOORS[parts[1]] < FLOORS[room], f"{path}:{line}: {room} imports {parts[1]}, which is not below it"


@pytest.mark.parametrize("library", DOORS)
def test_one_door_per_library(library):
    doors = {
        str(path.relative_to(ROOT))
        for path in FILES
        for _, module in imports(path)
        if library in module.split(".")[:1] or module.startswith(f"torch.utils.{library}")
    }
    assert doors <= {DOORS[library]}


def test_every_room_has_a_floor():
    rooms = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES} - {"__init__", "__main__"}
    assert rooms <= FLOORS.keys()
