"""Carnelian: speech recognition with CTC, from recordings to a measured recognizer.

    import carnelian

    recognizer = carnelian.load("model.safetensors")
    print(recognizer("recording.wav").text)

The letters of every shape in this package:
B batch, S samples, F features (mel bands), T feature frames, D encoder channels,
O output steps, V symbols with the blank, L target symbols.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; at run time each name is imported when it is first used
    from carnelian.checkpoint import load_model as load_model
    from carnelian.data.alphabet import Alphabet as Alphabet
    from carnelian.data.audio import load_audio as load_audio
    from carnelian.data.transcript import Hypothesis as Hypothesis
    from carnelian.data.transcript import Transcript as Transcript
    from carnelian.data.utterance import Manifest as Manifest
    from carnelian.data.utterance import Utterance as Utterance
    from carnelian.data.utterance import read_manifest as read_manifest
    from carnelian.data.utterance import write_manifest as write_manifest
    from carnelian.decoding.beam import BeamSearch as BeamSearch
    from carnelian.decoding.greedy import Greedy as Greedy
    from carnelian.decoding.settings import DecodingConfig as DecodingConfig
    from carnelian.errors import CarnelianError as CarnelianError
    from carnelian.inference.recognizer import Decoder as Decoder
    from carnelian.inference.recognizer import Recognizer as Recognizer
    from carnelian.inference.recognizer import load as load
    from carnelian.ngram.load import load_language_model as load_language_model
    from carnelian.rescoring.correction import Corrector as Corrector
    from carnelian.scoring.wer import Errors as Errors
    from carnelian.scoring.wer import count_errors as count_errors
    from carnelian.scoring.wer import wer as wer

__version__ = "0.1.0"

#: the public names, and the module of each
PUBLIC = {
    "Alphabet": "data.alphabet",
    "BeamSearch": "decoding.beam",
    "CarnelianError": "errors",
    "Decoder": "inference.recognizer",
    "Corrector": "rescoring.correction",
    "DecodingConfig": "decoding.settings",
    "Errors": "scoring.wer",
    "Greedy": "decoding.greedy",
    "Hypothesis": "data.transcript",
    "Manifest": "data.utterance",
    "Recognizer": "inference.recognizer",
    "Transcript": "data.transcript",
    "Utterance": "data.utterance",
    "count_errors": "scoring.wer",
    "load": "inference.recognizer",
    "load_audio": "data.audio",
    "load_language_model": "ngram.load",
    "load_model": "checkpoint",
    "read_manifest": "data.utterance",
    "wer": "scoring.wer",
    "write_manifest": "data.utterance",
}
__all__ = ["__version__", *PUBLIC]

if not TYPE_CHECKING:  # a type checker would take any name for granted

    def __getattr__(name: str) -> Any:
        if name not in PUBLIC:
            raise AttributeError(f"module 'carnelian' has no attribute '{name}'")
        return getattr(importlib.import_module(f"carnelian.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
