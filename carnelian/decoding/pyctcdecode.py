"""The interface of the package pyctcdecode on this beam search, for code that was written for it.

`from carnelian.decoding.pyctcdecode import build_ctcdecoder` takes the place of `from pyctcdecode import ...`. Scores
follow pyctcdecode's conventions; batches use threads, so that a `pool` is taken and not needed. Other than there, a
space at the end of an utterance is not scored as a further empty word.
"""

import copy
import json
import math
import os
import re
import shutil
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from carnelian.data.alphabet import Alphabet
from carnelian.decoding.beam import BeamSearch
from carnelian.ngram.hashed import LN10
from carnelian.ngram.load import load_language_model
from carnelian.ngram.model import State

LEAST_LOG_PROB = math.log(1e-15)
PIECE = "▁"
UNKNOWN, UNKNOWN_PIECE = "⁇", "▁⁇▁"
KEPT_SPECIAL = re.compile(r"^[<\[].+[>\]]$")
WordFrames = tuple[str, tuple[int, int]]


class OutputBeam(NamedTuple):
    """A hypothesis: `text_frames` holds (word, (first step, step after the last)), `lm_score` includes `logit_score`."""

    text: str
    last_lm_state: State | None
    text_frames: list[WordFrames]
    logit_score: float
    lm_score: float


class OutputBeamMPSafe(NamedTuple):
    """A hypothesis of a batch, without the state of the language model."""

    text: str
    text_frames: list[WordFrames]
    logit_score: float
    lm_score: float


class Pieces(Alphabet):
    """Word pieces given as labels."""

    separator = PIECE


class Labels:
    """Labels as pyctcdecode understands them: `labels` with "" for the blank, which it adds where there is none."""

    def __init__(self, given: Sequence[str]):
        self.is_bpe = any(label.startswith(("##", PIECE)) for label in given)
        labels = list(given)
        if any(label.startswith("##") for label in labels):
            labels = [self._piece(label) for label in labels]
        if not self.is_bpe and "|" in labels and " " not in labels:
            labels[labels.index("|")] = " "
        unknown = UNKNOWN_PIECE if self.is_bpe else UNKNOWN
        labels = [re.sub(r"^[<\[]pad[>\]]$", "", label, flags=re.IGNORECASE) for label in labels]
        labels = [re.sub(r"^[<\[]unk[>\]]$", unknown, label, flags=re.IGNORECASE) for label in labels]
        if not self.is_bpe and "_" in labels and "" not in labels:
            labels[labels.index("_")] = ""
        self.labels = labels if "" in labels else [*labels, ""]
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels: some stand there twice; each may stand once")
        blank = self.labels.index("")
        self.order = [index for index in range(len(self.labels)) if index != blank] + [blank]
        self.alphabet = (Pieces if self.is_bpe else Alphabet)([label for label in self.labels if label])

    @staticmethod
    def _piece(label: str) -> str:
        """A label of the style "##end" in the style "▁start"."""
        if label.startswith("##"):
            return label[2:]
        return label if KEPT_SPECIAL.match(label) or label in ("", PIECE, UNKNOWN_PIECE) else PIECE + label


class BeamSearchDecoderCTC:
    """What `build_ctcdecoder` gives; see there."""

    def __init__(
        self,
        labels: Labels,
        kenlm_model_path: str | None = None,
        unigrams: Collection[str] | None = None,
        **parameters: Any,
    ):
        self._alphabet = labels
        self._path = kenlm_model_path
        self._unigrams = unigrams or None
        self._model = load_language_model(kenlm_model_path) if kenlm_model_path else None
        self._parameters = {"alpha": 0.5, "beta": 1.5, "unk_score_offset": -10.0, "lm_score_boundary": True}
        self.reset_params(**parameters)

    def reset_params(self, **parameters: float | bool | None) -> None:
        """Changes alpha, beta, unk_score_offset or lm_score_boundary; None leaves one as it is."""
        self._parameters |= {name: value for name, value in parameters.items() if value is not None}
        alpha, beta, offset, boundary = self._parameters.values()
        self._decoder = BeamSearch(
            self._alphabet.alphabet,
            self._model,
            alpha=alpha,
            beta=beta,
            unknown_score=alpha * LN10 * offset,
            known_words=self._unigrams,
            sentence=bool(boundary),
        )

    def decode_beams(
        self,
        logits: np.ndarray,
        beam_width: int = 100,
        beam_prune_logp: float = -10.0,
        token_min_logp: float = -5.0,
        prune_history: bool = False,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = 10.0,
        lm_start_state: State | None = None,
    ) -> list[OutputBeam]:
        """All hypotheses within `beam_prune_logp` of the best, from logits, log-probabilities or probabilities."""
        decoder = copy.copy(self._decoder)
        decoder.hypotheses = beam_width
        decoder.settings = decoder.settings._replace(
            width=beam_width,
            beam_factor=math.exp(beam_prune_logp),
            token_factor=math.exp(token_min_logp),
            recombine=prune_history,
        )
        weights = {word.strip(): hotword_weight for word in hotwords or () if word.strip()}
        stream = decoder.stream(weights, lm_start_state)
        stream.accept(self._log_probs(logits))
        found = stream.hypotheses()
        return [
            OutputBeam(
                each.text,
                state if self._model else None,
                [(span.text, (span.first, span.last + 1)) for span in each.spans],
                each.acoustic_score,
                each.score,
            )
            for each, state in zip(found, stream.states)
            if each.score >= found[0].score + beam_prune_logp
        ]

    def decode(
        self,
        logits: np.ndarray,
        beam_width: int = 100,
        beam_prune_logp: float = -10.0,
        token_min_logp: float = -5.0,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = 10.0,
        lm_start_state: State | None = None,
    ) -> str:
        """The best text, from what `decode_beams` takes."""
        return self.decode_beams(
            logits, beam_width, beam_prune_logp, token_min_logp, True, hotwords, hotword_weight, lm_start_state
        )[0].text

    def decode_beams_batch(
        self, pool: Any, logits_list: Iterable[np.ndarray], *settings: Any, **named: Any
    ) -> list[list[OutputBeamMPSafe]]:
        """`decode_beams` of each, on threads."""
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            found = list(threads.map(lambda logits: self.decode_beams(logits, *settings, **named), logits_list))
        return [[OutputBeamMPSafe(beam.text, *beam[2:]) for beam in beams] for beams in found]

    def decode_batch(self, pool: Any, logits_list: Iterable[np.ndarray], *settings: Any, **named: Any) -> list[str]:
        """`decode` of each, on threads."""
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return list(threads.map(lambda logits: self.decode(logits, *settings, **named), logits_list))

    def _log_probs(self, logits: np.ndarray) -> np.ndarray:
        logits = np.asarray(logits, np.float64)
        expected = len(self._alphabet.labels)
        if logits.ndim != 2 or logits.shape[1] != expected:
            raise ValueError(f"logits: their shape is {logits.shape}, expected (steps, {expected}) for these labels")
        if len(logits) and math.isclose(logits.sum(axis=1).mean(), 1):
            log_probs = np.log(np.clip(logits, math.exp(LEAST_LOG_PROB), 1))
        else:
            highest = logits.max(axis=1, keepdims=True)
            log_probs = logits - highest - np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
        return np.clip(log_probs, LEAST_LOG_PROB, 0)[:, self._alphabet.order]

    def save_to_dir(self, filepath: str) -> None:
        """Writes labels, language model and parameters as pyctcdecode lays them out."""
        folder = Path(filepath)
        text = json.dumps({"labels": self._alphabet.labels, "is_bpe": self._alphabet.is_bpe})
        (folder / "alphabet.json").write_text(text, encoding="utf-8")
        if self._model is None or self._path is None:
            return
        (folder / "language_model").mkdir(exist_ok=True)
        shutil.copy(self._path, folder / "language_model")
        parameters = dict(self._parameters)
        parameters["score_boundary"] = parameters.pop("lm_score_boundary")
        (folder / "language_model" / "attrs.json").write_text(json.dumps(parameters), encoding="utf-8")
        words = "".join(f"{word}\n" for word in sorted(self._unigrams or ()))
        (folder / "language_model" / "unigrams.txt").write_text(words, encoding="utf-8")

    @classmethod
    def load_from_dir(cls, filepath: str, unigram_encoding: str | None = None) -> "BeamSearchDecoderCTC":
        """A decoder from a folder that this or pyctcdecode wrote."""
        folder = Path(filepath)
        labels = Labels(json.loads((folder / "alphabet.json").read_text(encoding="utf-8"))["labels"])
        model = folder / "language_model"
        if not model.is_dir():
            return cls(labels)
        parameters = json.loads((model / "attrs.json").read_text(encoding="utf-8"))
        parameters["lm_score_boundary"] = parameters.pop("score_boundary")
        words = (model / "unigrams.txt").read_text(encoding=unigram_encoding or "utf-8").split("\n")
        path = next(path for path in model.iterdir() if path.name not in ("attrs.json", "unigrams.txt"))
        return cls(labels, str(path), [word for word in words if word], **parameters)

    @classmethod
    def load_from_hf_hub(cls, model_id: str, cache_dir: str | None = None, **settings: Any) -> "BeamSearchDecoderCTC":
        """A decoder from a folder of the Hugging Face hub, which the package huggingface_hub (not ours) fetches."""
        from huggingface_hub import snapshot_download

        return cls.load_from_dir(snapshot_download(model_id, cache_dir=cache_dir, **settings))


def build_ctcdecoder(
    labels: Sequence[str],
    kenlm_model_path: str | None = None,
    unigrams: Collection[str] | None = None,
    alpha: float = 0.5,
    beta: float = 1.5,
    unk_score_offset: float = -10.0,
    lm_score_boundary: bool = True,
) -> BeamSearchDecoderCTC:
    """A decoder for a model's labels, "" being the blank, with a language model (ARPA or binary, KenLM's too) if one is given.

    unigrams: the words that count as known, all of the language model's unless given. unk_score_offset: in log10, to be
    weighed by alpha, for other words. lm_score_boundary: score the sentence's start and end.
    """
    return BeamSearchDecoderCTC(
        Labels(labels),
        kenlm_model_path,
        unigrams,
        alpha=alpha,
        beta=beta,
        unk_score_offset=unk_score_offset,
        lm_score_boundary=lm_score_boundary,
    )
