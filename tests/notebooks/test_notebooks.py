"""The notebooks, executed from the first cell to the last with short trainings and little text."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"
NAMES = ("an4", "spanish", "transfer")
#: the images that each shows, and the error rates in its last cell that has any
IMAGES = {"an4": 4, "spanish": 3, "transfer": 2}
RATES = {"an4": 2, "spanish": 2, "transfer": 8}


def texts(cell) -> str:
    return "".join("".join(output.get("text", "")) for output in cell.get("outputs", []))


def rates(cells) -> list[float]:
    """Returns the word error rates of the last cell with any."""
    found = [[float(rate) for rate in re.findall(r"([\d.]+) % WER$", texts(cell), re.M)] for cell in cells]
    found += [[float(rate) for rate in re.findall(r": ([\d.]+) % WER", texts(cell))] for cell in cells]
    return [each for each in found if each][-1]


def executed(name: str, folder: Path, monkeypatch, **settings: str):
    """Returns the code cells of a notebook, executed in a folder."""
    for package in ("jupytext", "nbclient", "ipykernel"):
        pytest.importorskip(package, reason=f"{package} is not installed: make test-notebooks installs it")
    specification = importlib.util.spec_from_file_location("execute", NOTEBOOKS / "execute.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.chdir(folder)
    settings |= {"CARNELIAN_SHORT": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(NOTEBOOKS.parent)}
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)
    notebook = module.execute(NOTEBOOKS / f"{name}.py", folder / f"{name}.ipynb", seconds=1200)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    images = sum("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
    assert images >= IMAGES[name]
    return code


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.timeout(1500)
def test_an4_runs_from_the_first_cell_to_the_last(shared, tmp_path, monkeypatch):
    (tmp_path / "an4").symlink_to(shared("an4"))
    found = rates(executed("an4", tmp_path, monkeypatch, AN4="an4"))
    assert len(found) == RATES["an4"] and all(0 < rate <= 101 for rate in found)


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.timeout(600)
def test_spanish_runs_from_the_first_cell_to_the_last(shared, tmp_path, monkeypatch):
    (tmp_path / "texts").symlink_to(shared("text/es"))
    greedy, searched = rates(executed("spanish", tmp_path, monkeypatch, TEXTS="texts"))
    assert searched < 50 < greedy


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.timeout(900)
def test_transfer_runs_on_synthetic_speech_without_any_data(tmp_path, monkeypatch):
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed: make test-notebooks installs it")
    for variable in ("MODEL", "FSDD"):
        monkeypatch.delenv(variable, raising=False)
    assert len(rates(executed("transfer", tmp_path, monkeypatch))) == RATES["transfer"]


@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_kept_is_made_of_the_script(name):
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed: make test-notebooks installs it")
    script = jupytext.read(NOTEBOOKS / f"{name}.py")
    kept = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())
    assert [cell.source for cell in script.cells] == ["".join(cell["source"]) for cell in kept["cells"]]


@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_kept_names_no_folder_of_the_machine_it_ran_on(name):
    kept = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())
    shown = [output.get("data", {}) for cell in kept["cells"] for output in cell.get("outputs", [])]
    lines = [line for data in shown for kind in ("text/plain", "text/html") for line in data.get(kind, [])]
    lines += [line for cell in kept["cells"] for line in (*cell["source"], texts(cell))]
    lines = [re.sub(r"base64,[\w+/=]+", "", line) for line in lines]  # the sound of a player
    absolute = re.compile(r"(?<![\w.:/<~*}-])/[\w.-]+/[\w.-]+")
    assert len(lines) > 100
    assert not [line for line in lines if absolute.search(line)]


@pytest.mark.parametrize("name", ["an4", "spanish"])
def test_the_notebook_kept_has_the_outputs_of_a_full_execution(name):
    code = [
        cell for cell in json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"] if cell["cell_type"] == "code"
    ]
    assert all(cell["execution_count"] for cell in code)
    assert len(rates(code)) == RATES[name]
    assert max(rates(code)) < 20 if name == "an4" else min(rates(code)) < 20  # of the tutorials 20 to 25 %
