"""The interface of the package pyctcdecode on this beam search, for code that was written for it.

`from carnelian.decoding.pyctcdecode import build_ctcdecoder` takes the place of `from pyctcdecode import ...`; the
modules have pyctcdecode's names. Scores follow its conventions; batches use threads, so that a `pool` is accepted and
not needed. Unlike there, a space at the end of an utterance is not scored as a further empty word.
"""

from carnelian.decoding.pyctcdecode.alphabet import Alphabet
from carnelian.decoding.pyctcdecode.decoder import BeamSearchDecoderCTC, build_ctcdecoder
from carnelian.decoding.pyctcdecode.language_model import LanguageModel

__all__ = ["Alphabet", "BeamSearchDecoderCTC", "LanguageModel", "build_ctcdecoder"]
