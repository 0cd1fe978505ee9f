"""What sclite writes, and runs of it where it is installed."""

import re
import shutil
import subprocess

import pytest

SCORES = re.compile(r"^id: \((.*)\)\n(?:(?:Labels|File|Channel).*\n)*Scores: \(#C #S #D #I\) ([\d ]+)$", re.MULTILINE)
INSTALLED = pytest.mark.skipif(
    not shutil.which("sctk"), reason="NIST's sclite is not installed (Debian: apt-get install sctk)"
)


def counts(segments):
    """Hits, substitutions, deletions and insertions by utterance."""
    errors = {each.name: each.errors for each in segments}
    return {name: (e.hits, e.substitutions, e.deletions, e.insertions) for name, e in errors.items()}


def expected(path):
    text = path.read_text(encoding="utf-8", errors="replace")
    return {name: tuple(map(int, figures.split())) for name, figures in SCORES.findall(text)}


def run_sclite(folder, *options):
    """The counts that the program itself gives for files in a folder."""
    command = ["sctk", "sclite", *options, "-o", "pra", "-O", ".", "-n", "x", "-f", "0"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120)
    assert (folder / "x.pra").exists(), done.stderr[-500:]
    return expected(folder / "x.pra")
