"""The Spanish page and its script say the same, and the script runs on a part of the text."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "carnelian" / "recipes" / "spanish" / "language_model.sh"


def test_the_page_has_the_commands_of_the_script():
    page = (ROOT / "docs" / "spanish-language-model.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.S)
    assert len(blocks) == 4
    for block in blocks:
        assert block in SCRIPT.read_text()


@pytest.mark.slow
def test_the_script_runs_on_a_part(shared, tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for name, lines in (
        ("don_quijote.latin1.txt", 6000),
        ("la_regenta.latin1.txt", 2000),
        ("ud_pud.sentences.txt", 80),
    ):
        whole = (shared("text/es") / name).read_bytes().splitlines(keepends=True)
        (texts / name).write_bytes(b"".join(whole[:lines]))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", str(SCRIPT), str(texts), str(tmp_path / "work")],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rates = dict(re.findall(r"^(greedy|with the 4-gram): word error rate ([\d.]+) %", done.stdout, re.M))
    assert float(rates["with the 4-gram"]) < 60 < float(rates["greedy"])
    unknown = re.search(r"unknown words\D+\d+ \(([\d.]+) %\)", done.stdout)
    assert unknown and 5 < float(unknown[1]) < 40
    assert (tmp_path / "work" / "spanish.arpa.gz").stat().st_size > 100_000
