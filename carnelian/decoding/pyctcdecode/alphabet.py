"""pyctcdecode's module of this name: the labels of a model as `Alphabet`."""

from carnelian.decoding.pyctcdecode.labels import BPE_TOKEN, UNK_BPE_TOKEN, UNK_TOKEN
from carnelian.decoding.pyctcdecode.labels import LabelAlphabet as Alphabet

__all__ = ["BPE_TOKEN", "UNK_BPE_TOKEN", "UNK_TOKEN", "Alphabet"]
