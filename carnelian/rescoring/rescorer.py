"""Hypotheses of a search put in a new order by a neural language model: acoustics, search, sentence and length weighed together."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from carnelian.console import note
from carnelian.data.alphabet import Alphabet, WordList
from carnelian.data.text.text_files import split_words
from carnelian.data.transcript import Hypothesis
from carnelian.decoding.search.lm_fusion import check_spelling
from carnelian.decoding.settings import RescoringConfig
from carnelian.errors import LanguageModelError
from carnelian.rescoring.neural import NeuralLanguageModel, load_neural_model

#: natural logarithm; added for a word that the model does not know, since <unk> has the probability of all such words together
UNKNOWN_WORD = -10.0


def sentence_scores(
    language_model: NeuralLanguageModel,
    lists: Sequence[Sequence[Hypothesis]],
    advance: Callable[..., None] = lambda amount=1, text="": None,
) -> list[np.ndarray]:
    """Returns for each list the natural log-probability (N,) of each hypothesis as a sentence, UNKNOWN_WORD for each unknown word.

    Each text is computed once, all of them together in batches of like length. Of a list of one nothing is computed: it is zero.
    advance: called for each text.
    """
    several = [some for some in lists if len(some) > 1]
    places = {text: index for index, text in enumerate(dict.fromkeys(each.text for some in several for each in some))}
    sentences = [split_words(text) for text in places]
    found = np.zeros(len(sentences))
    for index, scores in language_model.scores(sentences):
        found[index] = scores.sum() + UNKNOWN_WORD * np.count_nonzero(~language_model.known(sentences[index]))
        advance()
    return [found[[places[each.text] for each in some]] if len(some) > 1 else np.zeros(len(some)) for some in lists]


def total_scores(
    hypotheses: Sequence[Hypothesis], sentences: np.ndarray, language_weight: float, neural_weight: float, beta: float
) -> np.ndarray:
    """Returns the scores (N,) of hypotheses: acoustic + language_weight x language + neural_weight x sentence + beta x words."""
    acoustic, language, words = features_of(hypotheses).T
    return acoustic + language_weight * language + neural_weight * sentences + beta * words


def features_of(hypotheses: Sequence[Hypothesis]) -> np.ndarray:
    """Returns (N, 3): acoustic score, language score of the search (n-gram model, word bonus, hot words), and number of words."""
    rows = [(each.acoustic_score, each.language_score, len(split_words(each.text))) for each in hypotheses]
    return np.array(rows, np.float64).reshape(-1, 3)


class Rescorer:
    """Puts lists of hypotheses in the order of their total scores: `rescorer([[...], ...])`."""

    def __init__(self, language_model: NeuralLanguageModel, config: RescoringConfig):
        self.language_model, self.config = language_model, config

    def __call__(self, lists: Sequence[list[Hypothesis]]) -> list[list[Hypothesis]]:
        """Returns each list with new scores, best first; a list of one, or of none, as it is."""
        config, found = self.config, []
        for hypotheses, sentences in zip(lists, sentence_scores(self.language_model, lists)):
            if len(hypotheses) < 2:
                found.append(hypotheses)
                continue
            totals = total_scores(hypotheses, sentences, config.language_weight, config.neural_weight, config.beta)
            found.append(
                [
                    replace(hypotheses[index], score=total, language_score=total - hypotheses[index].acoustic_score)
                    for index, total in ((index, float(totals[index])) for index in np.argsort(-totals, kind="stable"))
                ]
            )
        return found


class RescoringDecoder:
    """A decoder whose hypotheses are rescored; `batch` rescores those of all utterances together."""

    def __init__(self, decoder: Any, rescorer: Rescorer):
        """decoder: gives several hypotheses of each utterance."""
        self.decoder, self.rescorer = decoder, rescorer

    def __call__(self, log_probs: np.ndarray, *settings: Any) -> list[Hypothesis]:
        """Returns the hypotheses of one utterance from its log-probabilities (O, V), best first. Settings: the decoder's."""
        return self.rescorer([self.decoder(log_probs, *settings)])[0]

    def batch(self, log_probs: Iterable[np.ndarray], **settings: Any) -> list[list[Hypothesis]]:
        """Returns the hypotheses of each utterance."""
        return self.rescorer(self.decoder.batch(log_probs, **settings))

    def weighed(self, alpha: float, beta: float, beam_width: int) -> "RescoringDecoder":
        """Returns the decoder with other weights of its search (`BeamSearch.weighed`)."""
        return RescoringDecoder(self.decoder.weighed(alpha, beta, beam_width), self.rescorer)

    def stream(self, *settings: Any) -> "RescoringStream":
        """Returns a search of one utterance whose log-probabilities come in pieces."""
        return RescoringStream(self.decoder.stream(*settings), self.rescorer)


class RescoringStream:
    """A search under way whose hypotheses are rescored whenever they are asked for."""

    def __init__(self, stream: Any, rescorer: Rescorer):
        self.stream, self.rescorer = stream, rescorer

    def accept(self, log_probs: np.ndarray) -> None:
        """Goes on with the next log-probabilities (O, V)."""
        self.stream.accept(log_probs)

    def hypotheses(self) -> list[Hypothesis]:
        """Returns the hypotheses if the utterance ended here, best first; more log-probabilities may follow."""
        return self.rescorer([self.stream.hypotheses()])[0]


def load_rescorer(config: RescoringConfig, alphabet: Alphabet, *, device: str = "") -> Rescorer:
    """Returns the rescorer of settings, for a recognizer that writes in an alphabet.

    Raises LanguageModelError or DecodingError for a checkpoint of another kind, or of a language or case that is not the recognizer's.
    """
    language_model = load_neural_model(config.model, device=device)
    check_alphabet(language_model.alphabet, alphabet, config.model)
    return Rescorer(language_model, config)


def check_alphabet(own: Alphabet, alphabet: Alphabet, path: str) -> None:
    """Notes what of a language model's words or of a recognizer's letters the other cannot spell; raises an error if that is most."""
    if isinstance(own, WordList):
        check_spelling(own.symbols[1:], alphabet, path)
        return
    spelled = b"".join(alphabet.spelling).decode(errors="ignore")
    letters = "".join(sorted({letter for letter in spelled if letter.isalpha()}))
    missing = sorted(own.unknown(letters))
    if not missing:
        return
    spelt = len(letters) - len(missing)
    found = f"{path}: it spells {spelt} of the {len(letters)} letters that the recognizer writes, not {missing[0]!r}"
    if 2 * len(missing) > len(letters):
        raise LanguageModelError(
            f"{found}. Give a language model trained on text as the recognizer writes it (look at the case)"
        )
    note(f"{found}; words with the others count as unknown")
