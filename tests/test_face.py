"""The public face: what it offers, and that it is light."""

import subprocess
import sys

import carnelian


def test_the_face_is_pinned():
    assert sorted(carnelian.FACE) == [
        "Alphabet",
        "BeamSearch",
        "CarnelianError",
        "Errors",
        "Greedy",
        "Hypothesis",
        "Manifest",
        "Recognizer",
        "Transcript",
        "Utterance",
        "count_errors",
        "load_audio",
        "load_language_model",
        "load_model",
        "read_manifest",
        "write_manifest",
    ]


def test_every_part_of_the_face_is_there():
    for name in carnelian.FACE:
        assert getattr(carnelian, name).__name__ == name


def test_nothing_heavy_at_import():
    code = "import carnelian, sys; print([name for name in ('torch', 'numba', 'numpy', 'rich', 'typer') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
