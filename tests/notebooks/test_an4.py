"""The example notebook, executed from the first cell to the last with a short training."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


def texts(cell) -> str:
    return "".join("".join(output.get("text", "")) for output in cell.get("outputs", []))


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.timeout(1500)
def test_it_runs_from_the_first_cell_to_the_last(shared, tmp_path, monkeypatch):
    for package in ("jupytext", "nbclient", "ipykernel"):
        pytest.importorskip(package, reason=f"{package} is not installed: make test-notebooks installs it")
    specification = importlib.util.spec_from_file_location("execute", NOTEBOOKS / "execute.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    (tmp_path / "an4").symlink_to(shared("an4"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(NOTEBOOKS.parent)
    settings = {"AN4": "an4", "CARNELIAN_SHORT": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(NOTEBOOKS.parent)}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    notebook = module.execute(NOTEBOOKS / "an4.py", tmp_path / "an4.ipynb", seconds=1200)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    images = sum("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
    assert images >= 4  # waveform and features, curves, probabilities, tuning
    rates = [float(line.split(":")[1].split("%")[0]) for line in texts(code[-1]).splitlines() if "WER" in line]
    assert len(rates) == 2 and all(0 < rate <= 101 for rate in rates)


def test_the_notebook_kept_is_made_of_the_script():
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed: make test-notebooks installs it")
    script = jupytext.read(NOTEBOOKS / "an4.py")
    kept = json.loads((NOTEBOOKS / "an4.ipynb").read_text())
    assert [cell.source for cell in script.cells] == ["".join(cell["source"]) for cell in kept["cells"]]


def test_the_notebook_kept_names_no_folder_of_the_machine_it_ran_on():
    kept = json.loads((NOTEBOOKS / "an4.ipynb").read_text())
    shown = [output.get("data", {}) for cell in kept["cells"] for output in cell.get("outputs", [])]
    lines = [line for data in shown for kind in ("text/plain", "text/html") for line in data.get(kind, [])]
    lines += [line for cell in kept["cells"] for line in (*cell["source"], texts(cell))]
    lines = [re.sub(r"base64,[\w+/=]+", "", line) for line in lines]  # the sound of a player
    absolute = re.compile(r"(?<![\w.:/<~*}-])/[\w.-]+/[\w.-]+")
    assert len(lines) > 100
    assert not [line for line in lines if absolute.search(line)]
