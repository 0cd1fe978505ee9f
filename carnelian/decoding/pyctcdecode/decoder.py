"""pyctcdecode's module of this name: the decoder, and the function that builds one."""

import copy
import math
import os
import weakref
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.limits import LARGEST_UNKNOWN, LARGEST_WEIGHT
from carnelian.decoding.pyctcdecode.constants import (
    DEFAULT_ALPHA,
    DEFAULT_BEAM_WIDTH,
    DEFAULT_BETA,
    DEFAULT_HOTWORD_WEIGHT,
    DEFAULT_MIN_TOKEN_LOGP,
    DEFAULT_PRUNE_BEAMS,
    DEFAULT_PRUNE_LOGP,
    DEFAULT_SCORE_LM_BOUNDARY,
    DEFAULT_UNK_LOGP_OFFSET,
    LOG_BASE_CHANGE_FACTOR,
    MIN_TOKEN_CLIP_P,
)
from carnelian.decoding.pyctcdecode.labels import LabelAlphabet
from carnelian.decoding.pyctcdecode.language_model import LanguageModel
from carnelian.decoding.search.state import search_settings
from carnelian.ngram.model import State

SUM_TOLERANCE = {np.dtype(np.float16): 1e-2}  # by which the rows of probabilities may miss a sum of one
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


class BeamSearchDecoderCTC:
    """A decoder for a model's labels, with a language model or without one; see `build_ctcdecoder`.

    As in pyctcdecode, language models lie in `model_container` until `cleanup` or `clear_class_models` is called.
    """

    model_container: ClassVar[dict[bytes, LanguageModel | None]] = {}
    _ALPHABET_SERIALIZED_FILENAME = "alphabet.json"
    _LANGUAGE_MODEL_SERIALIZED_DIRECTORY = "language_model"

    def __init__(self, alphabet: LabelAlphabet, language_model: LanguageModel | None = None):
        self._alphabet = alphabet
        self._idx2vocab = dict(enumerate(alphabet.labels))
        self._is_bpe = alphabet.is_bpe
        self._model_key = os.urandom(16)
        self.model_container[self._model_key] = language_model
        weakref.finalize(self, self.model_container.pop, self._model_key, None)
        self._searches: dict[tuple, BeamSearch] = {}

    def reset_params(
        self,
        alpha: float | None = None,
        beta: float | None = None,
        unk_score_offset: float | None = None,
        lm_score_boundary: bool | None = None,
    ) -> None:
        """Changes weights of the language model; None leaves one as it is."""
        model = self.model_container[self._model_key]
        if model is None:
            return
        given = {
            "alpha": alpha,
            "beta": beta,
            "unk_score_offset": unk_score_offset,
            "score_boundary": lm_score_boundary,
        }
        for name, value in given.items():
            if value is not None:
                setattr(model, name, value)

    def cleanup(self) -> None:
        """Releases the language model; the decoder is of no use afterwards."""
        self.model_container.pop(self._model_key, None)
        self._searches.clear()

    @classmethod
    def clear_class_models(cls) -> None:
        """Releases the language models of all decoders."""
        cls.model_container.clear()

    def _search(self) -> BeamSearch:
        """The beam search with the language model's weights of this moment."""
        model = self.model_container[self._model_key]
        weights = () if model is None else (model.alpha, model.beta, model.unk_score_offset, model.score_boundary)
        if weights not in self._searches:
            self._searches.clear()
            if model is None:
                self._searches[weights] = BeamSearch(self._alphabet.alphabet)
            else:
                unknown = model.alpha * LOG_BASE_CHANGE_FACTOR * model.unk_score_offset
                self._searches[weights] = BeamSearch(
                    self._alphabet.alphabet,
                    model.model,
                    alpha=model.alpha,
                    beta=model.beta,
                    unknown_score=min(max(unknown, -LARGEST_UNKNOWN), LARGEST_WEIGHT),
                    known_words=model.unigrams,
                    sentence=bool(model.score_boundary),
                )
        return self._searches[weights]

    def _hot_words(self, hotwords: Iterable[str] | None, weight: float) -> dict[str, float]:
        """The words of all hot words that the labels can spell, with their weight; others never match."""
        unknown = self._alphabet.alphabet.unknown
        words = {word for phrase in hotwords or () for word in phrase.split() if not unknown(word)}
        return dict.fromkeys(sorted(words), min(max(weight, -LARGEST_WEIGHT), LARGEST_WEIGHT))

    def decode_beams(
        self,
        logits: np.ndarray,
        beam_width: int = DEFAULT_BEAM_WIDTH,
        beam_prune_logp: float = DEFAULT_PRUNE_LOGP,
        token_min_logp: float = DEFAULT_MIN_TOKEN_LOGP,
        prune_history: bool = DEFAULT_PRUNE_BEAMS,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = DEFAULT_HOTWORD_WEIGHT,
        lm_start_state: State | None = None,
    ) -> list[OutputBeam]:
        """Returns all hypotheses within `beam_prune_logp` of the best, from logits, log-probabilities or probabilities."""
        log_probs = self._log_probs(logits)
        decoder = copy.copy(self._search())
        decoder.hypotheses = beam_width
        decoder.settings = search_settings(beam_width, -beam_prune_logp, token_min_logp, prune_history)
        stream = decoder.stream(self._hot_words(hotwords, hotword_weight), lm_start_state)
        stream.accept(log_probs)
        found = stream.hypotheses()
        has_model = self.model_container[self._model_key] is not None
        return [
            OutputBeam(
                each.text,
                state if has_model else None,
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
        beam_width: int = DEFAULT_BEAM_WIDTH,
        beam_prune_logp: float = DEFAULT_PRUNE_LOGP,
        token_min_logp: float = DEFAULT_MIN_TOKEN_LOGP,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = DEFAULT_HOTWORD_WEIGHT,
        lm_start_state: State | None = None,
    ) -> str:
        """Returns the best text, from what `decode_beams` takes."""
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

    def _check_logits_dimension(self, logits: np.ndarray) -> None:
        """Raises ValueError for another shape than (steps, labels)."""
        expected = len(self._alphabet.labels)
        if logits.ndim != 2 or logits.shape[1] != expected:
            raise ValueError(f"logits: their shape is {logits.shape}, expected (steps, {expected}) for these labels")

    def _log_probs(self, logits: np.ndarray) -> np.ndarray:
        """Returns log-probabilities (O, V), blank last, from logits, log-probabilities or probabilities."""
        logits = np.asarray(logits)
        self._check_logits_dimension(logits)
        if is_probabilities(logits):
            log_probs = np.log(np.clip(logits.astype(np.float64), MIN_TOKEN_CLIP_P, 1))
        else:
            logits = logits.astype(np.float64)
            highest = logits.max(axis=1, keepdims=True)
            log_probs = logits - highest - np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
        return np.clip(log_probs, math.log(MIN_TOKEN_CLIP_P), 0)[:, self._alphabet.order]

    def save_to_dir(self, filepath: str) -> None:
        """Writes labels, language model and weights into a folder, as pyctcdecode lays them out."""
        folder = Path(filepath)
        (folder / self._ALPHABET_SERIALIZED_FILENAME).write_text(self._alphabet.dumps(), encoding="utf-8")
        model = self.model_container[self._model_key]
        if model is not None:
            model.save_to_dir(str(folder / self._LANGUAGE_MODEL_SERIALIZED_DIRECTORY))

    @classmethod
    def load_from_dir(cls, filepath: str, unigram_encoding: str | None = None) -> "BeamSearchDecoderCTC":
        """Returns the decoder in a folder that this or pyctcdecode wrote."""
        folder = Path(filepath)
        text = (folder / cls._ALPHABET_SERIALIZED_FILENAME).read_text(encoding="utf-8")
        model = folder / cls._LANGUAGE_MODEL_SERIALIZED_DIRECTORY
        language_model = LanguageModel.load_from_dir(str(model), unigram_encoding) if model.is_dir() else None
        return cls(LabelAlphabet.loads(text), language_model)

    @classmethod
    def load_from_hf_hub(cls, model_id: str, cache_dir: str | None = None, **settings: Any) -> "BeamSearchDecoderCTC":
        """Returns the decoder in a folder of the Hugging Face hub, which the package huggingface_hub (not ours) fetches."""
        from huggingface_hub import snapshot_download

        return cls.load_from_dir(snapshot_download(model_id, cache_dir=cache_dir, **settings))


def is_probabilities(logits: np.ndarray) -> bool:
    """Whether the rows (O, V) are probabilities: as pyctcdecode decides it, or none below 0 and each row summing to one."""
    if not len(logits):
        return False
    sums = logits.sum(axis=1)
    tolerance = SUM_TOLERANCE.get(logits.dtype, 1e-3)
    return math.isclose(sums.mean(), 1) or bool(logits.min() >= 0 and np.abs(sums - 1).max() <= tolerance)


def build_ctcdecoder(
    labels: Sequence[str],
    kenlm_model_path: str | None = None,
    unigrams: Collection[str] | None = None,
    alpha: float = DEFAULT_ALPHA,
    beta: float = DEFAULT_BETA,
    unk_score_offset: float = DEFAULT_UNK_LOGP_OFFSET,
    lm_score_boundary: bool = DEFAULT_SCORE_LM_BOUNDARY,
) -> BeamSearchDecoderCTC:
    """Returns a decoder for a model's labels, "" being the blank, with a language model if the path of one is given.

    unigrams: the words that count as known, all of the language model's unless given. unk_score_offset: in log10, to be
    weighed by alpha, for other words. lm_score_boundary: score the sentence's start and end.
    """
    model = None
    if kenlm_model_path is not None:
        model = LanguageModel(kenlm_model_path, unigrams, alpha, beta, unk_score_offset, lm_score_boundary)
    return BeamSearchDecoderCTC(LabelAlphabet.build_alphabet(labels), model)
