"""The labels of a model as pyctcdecode understands them: blank, space and pieces in the several styles that are found."""

import json
import re
from collections.abc import Sequence

from carnelian.data.alphabet import SPECIAL_TOKEN, Alphabet

BPE_TOKEN = "▁"
UNK_TOKEN, UNK_BPE_TOKEN = "⁇", "▁⁇▁"


class LabelPieces(Alphabet):
    """Word pieces given as labels."""

    separator = BPE_TOKEN

    def unknown(self, text: str) -> set[str]:
        return set(text) - {" "} - set("".join(self.symbols))


class LabelAlphabet:
    """A model's labels in pyctcdecode's standard form, with "" for the blank, and ours: `alphabet`, and `order` that puts
    the blank last.
    """

    def __init__(self, labels: Sequence[str], is_bpe: bool):
        self._labels, self.is_bpe = list(labels), is_bpe
        if len(set(self._labels)) < len(self._labels):
            raise ValueError("labels: the same label occurs twice. Each may occur once")
        blank = self._labels.index("")
        self.order = [index for index in range(len(self._labels)) if index != blank] + [blank]
        self.alphabet = (LabelPieces if is_bpe else Alphabet)([label for label in self._labels if label])

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of the model's outputs."""
        return list(self._labels)

    @classmethod
    def build_alphabet(cls, labels: Sequence[str]) -> "LabelAlphabet":
        """Returns the alphabet of labels in any of the styles; the blank is added where there is none."""
        labels = list(labels)
        if len(set(labels)) < len(labels):
            raise ValueError("labels: the same label occurs twice. Each may occur once")
        is_bpe = any(label.startswith(("##", BPE_TOKEN)) for label in labels)
        if any(label.startswith("##") for label in labels):
            labels = [_with_token(label) for label in labels]
        if not is_bpe and "|" in labels and " " not in labels:
            labels[labels.index("|")] = " "
        unknown = UNK_BPE_TOKEN if is_bpe else UNK_TOKEN
        labels = [re.sub(r"^[<\[]pad[>\]]$", "", label, flags=re.IGNORECASE) for label in labels]
        labels = [re.sub(r"^[<\[]unk[>\]]$", unknown, label, flags=re.IGNORECASE) for label in labels]
        if not is_bpe and "_" in labels and "" not in labels:
            labels[labels.index("_")] = ""
        return cls(labels if "" in labels else [*labels, ""], is_bpe)

    def dumps(self) -> str:
        """Returns the alphabet as JSON, which `loads` reads."""
        return json.dumps({"labels": self._labels, "is_bpe": self.is_bpe})

    @classmethod
    def loads(cls, json_string: str) -> "LabelAlphabet":
        """Returns the alphabet that `dumps`, or pyctcdecode, wrote."""
        saved = json.loads(json_string)
        return cls(saved["labels"], saved["is_bpe"])


def _with_token(label: str) -> str:
    """A label of the style "##end" in the style "▁start"."""
    if label.startswith("##"):
        return label[2:]
    return label if SPECIAL_TOKEN.fullmatch(label) or label in ("", BPE_TOKEN, UNK_BPE_TOKEN) else BPE_TOKEN + label
