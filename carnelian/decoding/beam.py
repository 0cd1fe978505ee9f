"""The beam search as a decoder: log-probabilities in, the best hypotheses with their words in time out."""

import copy
import hashlib
import math
import os
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Timer

import numpy as np

from carnelian.console import note
from carnelian.data.alphabet import Alphabet
from carnelian.data.transcript import Hypothesis
from carnelian.decoding.limits import checked_width
from carnelian.decoding.log_probs import checked
from carnelian.decoding.search import history, results, steps
from carnelian.decoding.search.hot_words import make_hot_words
from carnelian.decoding.search.lm_fusion import make_symbols, make_vocabulary, weigh
from carnelian.decoding.search.state import PAST, HotWords, empty_beam, search_settings
from carnelian.decoding.words import PlacedSymbols, Words
from carnelian.errors import DecodingError
from carnelian.ngram.hashed import enter_contexts, met_contexts
from carnelian.ngram.model import NGram, State, handed_out, keep_states, taken_in, with_context_capacity_for

#: output steps between two settlings (`Stream`); memory for the language model's states is reserved for as many steps
STEPS_AT_ONCE = 1500
SYMBOLS_HELD = 20  # the last common symbols, whose output steps may still change with what follows
MOST_STEPS_HELD = 30_000  # steps whose log-probabilities are held, at most
LEAST_STEPS_HELD = 250  # ... and how many remain when that limit is reached, at least
LEAST_PROBABILITY = np.float32(1e-30)  # what a probability of zero counts as, so that some prefix is always possible


class BeamSearch:
    """Finds the words of highest score: the log-probability of their spelling, summed over all paths, plus the scores of
    the language model and the bonuses.

    language_model: of words, or of the alphabet's symbols (known by its vocabulary); None for the acoustics alone.
    alpha weighs its natural log-probabilities, beta is added for each word (or symbol) then.
    beam_width: prefixes kept at each step. beam_threshold: those further behind the best are dropped.
    token_threshold: log-probability that a symbol needs to be tried at a step; the best is always tried.
    hypotheses: how many to return.
    unknown_score: added for a word outside the language model, or outside `known_words` where those are given.
    lexicon: only its words are found. hot_words: words that are expected, with what each adds to the score.
    recombine: of prefixes with the same language-model state, unfinished word and last symbol keep only the most
    probable; by default where one hypothesis is asked for.
    sentence: the utterance is a whole sentence, from the language model's <s> to its </s>.
    """

    def __init__(
        self,
        alphabet: Alphabet,
        language_model: NGram | None = None,
        *,
        alpha: float = 0.8,
        beta: float = 2.0,
        beam_width: int = 64,
        beam_threshold: float = 10.0,
        token_threshold: float = -8.0,
        hypotheses: int = 1,
        unknown_score: float = -18.0,
        known_words: Collection[str] | None = None,
        lexicon: Collection[str] | None = None,
        hot_words: Mapping[str, float] | None = None,
        recombine: bool | None = None,
        sentence: bool = True,
    ):
        if not hypotheses >= 1:
            raise DecodingError(f"{hypotheses} hypotheses: expected 1 or more")
        if recombine is None:
            recombine = hypotheses == 1
        self.settings = search_settings(beam_width, beam_threshold, token_threshold, recombine)
        self.alphabet = alphabet
        self.sentence = sentence
        self.hypotheses = hypotheses
        self.words = Words(alphabet)
        self.symbols = make_symbols(alphabet, language_model)
        self.vocabulary = make_vocabulary(alphabet, language_model, unknown_score, known_words, lexicon)
        self.language = weigh(self.vocabulary, alpha, beta, sentence)
        self.hot_words = make_hot_words(hot_words or {}, alphabet)
        self._compile()

    def _compile(self) -> None:
        """Loads the compiled search, so that no utterance waits for it; a note says so where it has to be compiled first."""
        timer = Timer(1.0, note, ["Compiling the beam search; this happens once on a machine"])
        timer.start()
        symbols = len(self.alphabet) + 1
        try:
            self(np.full((1, symbols), -math.log(symbols), np.float32))
        finally:
            timer.cancel()

    @property
    def identity(self) -> str:
        """Tells decoders apart whose results may differ: settings, weights, words."""
        tables = self.language.ngram
        hashed = () if tables.hashed is None else (tables.hashed.middle, tables.hashed.longest)
        arrays = (tables.unigrams, tables.arcs, tables.states, *hashed, self.language.tree)
        digest = hashlib.blake2b(digest_size=8)
        for values in (*arrays, self.hot_words.tree, self.hot_words.weights):  # samples of large ones
            digest.update(np.ascontiguousarray(values[:: max(1, len(values) >> 16)]).tobytes())
        digest.update(repr((self.settings, self.language.rules, self.hypotheses, *map(len, arrays))).encode())
        return digest.hexdigest()

    def weighed(self, alpha: float, beta: float, beam_width: int) -> "BeamSearch":
        """Returns the decoder with other weights, without building its vocabulary again. Raises DecodingError as the constructor."""
        other = copy.copy(self)
        other.language = weigh(self.vocabulary, alpha, beta, self.sentence)
        other.settings = self.settings._replace(width=checked_width(beam_width))
        return other

    def __call__(self, log_probs: np.ndarray, hot_words: Mapping[str, float] | None = None) -> list[Hypothesis]:
        """The best hypotheses of one utterance from its log-probabilities (O, V), best first.

        hot_words: replace those of the constructor. Raises DecodingError for what are not log-probabilities.
        """
        stream = self.stream(hot_words)
        stream.accept(log_probs)
        return stream.hypotheses()

    def batch(
        self,
        log_probs: Iterable[np.ndarray],
        threads: int | None = None,
        hot_words: Mapping[str, float] | None = None,
    ) -> list[list[Hypothesis]]:
        """The hypotheses of each utterance, searched on several threads (by default as many as cores)."""
        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            return list(pool.map(lambda each: self(each, hot_words), log_probs))

    def stream(self, hot_words: Mapping[str, float] | None = None, state: State | None = None) -> "Stream":
        """A search that takes an utterance in chunks; `state` is where an earlier one left the language model."""
        return Stream(self, self.hot_words if hot_words is None else make_hot_words(hot_words, self.alphabet), state)


class Stream:
    """A search under way: `accept` chunks of log-probabilities, ask for `hypotheses` whenever they are wanted.

    Its memory does not grow with the utterance but for the symbols of the result: of those that all prefixes begin with, all but
    the last `SYMBOLS_HELD` get their final output steps, and the log-probabilities up to there are discarded.
    """

    def __init__(self, decoder: BeamSearch, hot_words: HotWords, state: State | None = None):
        self.decoder = decoder
        self.hot_words = hot_words
        self.language = decoder.language
        if state is not None:
            self._reserve(len(state) if isinstance(state, tuple) else 0)
            first = taken_in(self.language.ngram, state)
            self.language = self.language._replace(rules=self.language.rules._replace(first=first))
        self.placed = PlacedSymbols()  # that all prefixes begin with, and that the beam no longer holds
        self.steps = self.discarded = 0  # steps taken, and how many of them are discarded
        self.chunks: list[np.ndarray] = []  # log-probabilities of the others
        self.states: list[State] = []  # of the language model after each of the hypotheses last given
        self.beam = empty_beam(decoder.settings.width, len(decoder.alphabet))

    def accept(self, log_probs: np.ndarray) -> None:
        """Continues with the next log-probabilities (O, V)."""
        decoder = self.decoder
        log_probs, probs = checked(log_probs, decoder.alphabet)
        np.maximum(probs, LEAST_PROBABILITY, out=probs)
        begin = 0
        while begin < max(1, len(probs)):  # in parts that do not depend on the chunks
            part = slice(begin, begin + STEPS_AT_ONCE - self.steps % STEPS_AT_ONCE)
            begin = part.stop
            self._reserve(len(probs[part]) * decoder.settings.width)  # at each step, once for each prefix
            self.beam = steps.advance(
                self.beam, probs[part], decoder.symbols, self.language, self.hot_words, decoder.settings
            )
            self.chunks.append(log_probs[part])
            self.steps += len(probs[part])
            if self.steps % STEPS_AT_ONCE == 0 and self.steps:
                self._settle()

    def _reserve(self, scores: int) -> None:
        """Gives the language model capacity for this number of further scores."""
        ngram = with_context_capacity_for(self.language.ngram, scores)
        if ngram is not self.language.ngram:
            self.language = self.language._replace(ngram=ngram)

    def _log_probs(self) -> np.ndarray:
        """The log-probabilities (O, V) of the steps that are not discarded."""
        if len(self.chunks) > 1:
            self.chunks = [np.concatenate(self.chunks)]
        return self.chunks[0]

    def _settle(self) -> None:
        """Discards what no longer changes: symbols that all prefixes begin with, and the steps up to the last of them.

        Where prefixes have differed for `MOST_STEPS_HELD` steps, as before a long silence, the best one decides.
        """
        log_probs = self._log_probs()
        self._reserve(2 * self.decoder.settings.width)
        node, *placed = results.best_prefix(self.beam, log_probs, self.language, self.hot_words)
        _, first, last, _ = placed
        if len(log_probs) < MOST_STEPS_HELD:
            count, most = max(0, history.common_symbols(self.beam) - SYMBOLS_HELD), len(log_probs)
            end = int(last[count - 1]) + 1 if count else 0
        else:
            settled = len(log_probs) - LEAST_STEPS_HELD
            count = int(np.searchsorted(last, settled))
            end = min(settled, int(first[count])) if count < len(first) else settled
            most = (len(log_probs) - end) // 2  # symbols that fit into the steps left, with a blank after each
        if not end:
            return
        self.beam = history.begin_after(self.beam, node, count, most)
        self.placed.add(
            placed[0][:count], first[:count] + self.discarded, last[:count] + self.discarded, placed[3][:count]
        )
        self.chunks, self.discarded = [log_probs[end:].copy()], self.discarded + end
        now = self.beam.now[: self.beam.totals[0]["size"]]
        states = keep_states(self.language.ngram, np.concatenate([now["state"], now["word_end_state"]]))
        now["state"], now["word_end_state"] = np.split(states, 2)

    def hypotheses(self) -> list[Hypothesis]:
        """The best hypotheses if the utterance ended here, best first; more chunks may follow."""
        decoder = self.decoder
        if not self.chunks:
            self.accept(np.empty((0, len(decoder.alphabet) + 1), np.float32))
        self._reserve(2 * decoder.settings.width)
        scores, languages, states, ends, *placed = results.hypotheses(
            self.beam, self._log_probs(), self.language, self.hot_words, decoder.hypotheses
        )
        self.states = [handed_out(self.language.ngram, state) for state in states.tolist()]
        found = []
        for index, (score, language) in enumerate(zip(scores.tolist(), languages.tolist())):
            symbols, first, last, peaks = (values[ends[index] : ends[index + 1]] for values in placed)
            whole = self.placed.followed_by(symbols, first + self.discarded, last + self.discarded, peaks)
            spans = decoder.words.spans(*whole)
            text = " ".join([span.text for span in spans])
            found.append(Hypothesis(text, score, score - language, language, spans))
        return found

    def state(self) -> dict[str, np.ndarray]:
        """All that the search has taken in, as arrays: see `restore`."""
        if not self.chunks:
            self.accept(np.empty((0, len(self.decoder.alphabet) + 1), np.float32))
        totals, hashed = self.beam.totals[0], self.language.ngram.hashed
        return {
            "steps": np.array([self.steps, self.discarded]),
            "log_probs": self._log_probs(),
            "totals": self.beam.totals,
            "now": self.beam.now[: totals["size"]],
            "history": self.beam.history[: totals["nodes"]],
            **{f"placed{index}": each for index, each in enumerate(self.placed.arrays())},
            **({} if hashed is None else met_contexts(hashed)),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Becomes as the stream was whose `state` this is, of an equal decoder and equal hot words."""
        self.steps, self.discarded = state["steps"].tolist()
        self.chunks = [state["log_probs"]]
        self.placed.add(*(state[f"placed{index}"] for index in range(4)))
        nodes = len(state["history"])
        while len(self.beam.history) <= nodes + self.decoder.settings.width:
            self.beam = self.beam._replace(history=np.empty(2 * len(self.beam.history), PAST))
        self.beam.totals[:], self.beam.history[:nodes] = state["totals"], state["history"]
        self.beam.now[: len(state["now"])] = state["now"]
        if self.language.ngram.hashed is not None:
            self._reserve(len(state["lengths"]))
            enter_contexts(self.language.ngram.hashed, {name: state[name] for name in ("lengths", "words", "backoffs")})
