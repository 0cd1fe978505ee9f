"""Carnelian: speech recognition with CTC, from recordings to a measured recognizer.

The letters of every shape in this package:
B batch, S samples, F features (mel bands), T feature frames, D encoder channels,
O output steps, V symbols with the blank, L target symbols.
"""

import importlib
import os
import tempfile
from typing import Any

__version__ = "0.1.0"

#: the public face, and where each part of it lives; nothing heavy is imported before it is asked for
FACE = {
    "Utterance": "data.utterance",
    "Manifest": "data.utterance",
    "read_manifest": "data.utterance",
    "write_manifest": "data.utterance",
    "load_audio": "data.audio",
    "Alphabet": "data.alphabet",
    "Hypothesis": "data.transcript",
    "Transcript": "data.transcript",
    "Recognizer": "inference.recognizer",
    "Greedy": "decoding.greedy",
    "BeamSearch": "decoding.beam",
    "load_language_model": "ngram.load",
    "load_model": "checkpoint",
    "Errors": "scoring.wer",
    "count_errors": "scoring.wer",
    "CarnelianError": "errors",
}
__all__ = ["__version__", *FACE]

if not any(os.access(folder, os.W_OK) for folder in (os.path.dirname(__file__), os.path.expanduser("~"))):
    # compiled functions are kept beside the package or in the home folder; where both are read-only, numba would give up
    os.environ.setdefault("NUMBA_CACHE_DIR", os.path.join(tempfile.gettempdir(), "carnelian-compiled"))


def __getattr__(name: str) -> Any:
    if name not in FACE:
        raise AttributeError(f"module 'carnelian' has no attribute '{name}'")
    return getattr(importlib.import_module(f"carnelian.{FACE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
