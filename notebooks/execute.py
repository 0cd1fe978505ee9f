"""Makes a notebook from its script (jupytext's percent format), executes it, and writes it with its outputs.

    AN4=PATH/TO/an4 CARNELIAN_SHORT=1 python notebooks/execute.py notebooks/an4.py notebooks/an4.ipynb

Needs the extra `notebook`. It is executed in the current folder, which holds what it makes.
"""

import argparse
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient


def as_shown(outputs: list) -> list:
    """Returns a cell's outputs with the text that follows itself as one, and of lines written over each other the last."""
    shown: list = []
    for output in outputs:
        if shown and output.output_type == shown[-1].output_type == "stream" and output.name == shown[-1].name:
            shown[-1].text += output.text
        else:
            shown.append(output)
    for output in shown:
        if output.output_type == "stream":
            output.text = "\n".join(line.rpartition("\r")[2].rstrip() for line in output.text.split("\n"))
    return shown


def execute(script: Path, out: Path, *, seconds: int = 3600) -> nbformat.NotebookNode:
    """Returns the executed notebook, which is also written to `out`; raises CellExecutionError for the first cell that fails."""
    notebook = jupytext.read(script)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    try:
        NotebookClient(notebook, timeout=seconds, kernel_name="python3").execute()
    finally:
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # times, which would change with every execution
            if cell.cell_type == "code":
                cell.outputs = as_shown(cell.outputs)
        nbformat.write(notebook, out)
    return notebook


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", type=Path)
    parser.add_argument("out", type=Path)
    settings = parser.parse_args()
    execute(settings.script, settings.out)
