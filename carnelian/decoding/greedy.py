"""The greedy decoder, the fastest: the best symbol of each step, without repeats and blanks."""

from collections.abc import Iterable, Mapping

import numpy as np

from carnelian.data.alphabet import Alphabet
from carnelian.data.transcript import Hypothesis
from carnelian.decoding.log_probs import checked
from carnelian.decoding.words import PlacedSymbols, Words


def best_runs(log_probs: np.ndarray) -> tuple[float, tuple[np.ndarray, ...]]:
    """Returns the log-probability of the best path through log-probabilities (O, V), O at least 1, and its runs of equal symbols.

    Of each run, in order: symbol, first step, last step, highest log-probability.
    """
    path = log_probs.argmax(1)
    scores = log_probs[np.arange(len(path)), path]
    changes = np.empty(len(path), bool)
    changes[0] = True
    np.not_equal(path[1:], path[:-1], out=changes[1:])
    first = changes.nonzero()[0]
    last = np.empty_like(first)
    last[:-1], last[-1] = first[1:], len(path)
    last -= 1
    return float(scores.sum(dtype=np.float64)), (path[first], first, last, np.maximum.reduceat(scores, first))


class Greedy:
    """The best path as the only hypothesis; its score is that path's log-probability."""

    identity = "greedy"

    def __init__(self, alphabet: Alphabet):
        self.alphabet = alphabet
        self.words = Words(alphabet)

    def __call__(self, log_probs: np.ndarray) -> list[Hypothesis]:
        """One hypothesis from log-probabilities (O, V); raises DecodingError for what are not log-probabilities."""
        log_probs, _ = checked(log_probs, self.alphabet)
        if not len(log_probs):
            return [Hypothesis("", 0.0, 0.0)]
        score, runs = best_runs(log_probs)
        return [self.hypothesis(score, self.spoken(runs))]

    def spoken(self, runs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Those of the runs that are no blanks."""
        spoken = (runs[0] != self.alphabet.blank).nonzero()[0]
        return tuple([each[spoken] for each in runs])

    def hypothesis(self, score: float, symbols: tuple[np.ndarray, ...]) -> Hypothesis:
        """The hypothesis of symbols that are placed on steps, as `Words.spans` takes them."""
        spans = self.words.spans(*symbols)
        return Hypothesis(" ".join([span.text for span in spans]), score, score, spans=spans)

    def stream(self) -> "GreedyStream":
        """A decoder of one utterance whose log-probabilities come in chunks."""
        return GreedyStream(self)

    def batch(self, log_probs: Iterable[np.ndarray], threads: int | None = None) -> list[list[Hypothesis]]:
        """The hypotheses of each utterance; `threads` is accepted as by the beam search, and not used."""
        return [self(each) for each in log_probs]


class GreedyStream:
    """The best path of an utterance so far: `accept` log-probabilities, ask for `hypotheses` whenever they are wanted.

    Only the symbols are kept, not the path.
    """

    def __init__(self, decoder: Greedy):
        self.decoder = decoder
        self.placed = PlacedSymbols()
        self.steps, self.score = 0, 0.0
        #: the last symbol, which the next steps may repeat: number, first step, last step, highest log-probability
        self.last: tuple[np.ndarray, ...] = (*(np.empty(0, np.int64) for _ in range(3)), np.empty(0, np.float32))

    def accept(self, log_probs: np.ndarray) -> None:
        """Continues with the next log-probabilities (O, V); raises DecodingError for what are not log-probabilities."""
        log_probs, _ = checked(log_probs, self.decoder.alphabet)
        if not len(log_probs):
            return
        score, runs = best_runs(log_probs)
        for steps in runs[1:3]:
            steps += self.steps
        self.score += score
        self.steps += len(log_probs)
        if len(self.last[0]) and self.last[0][0] == runs[0][0]:
            runs[1][0], runs[3][0] = self.last[1][0], max(self.last[3][0], runs[3][0])
        else:
            self.placed.add(*self.decoder.spoken(self.last))
        self.placed.add(*self.decoder.spoken(tuple(each[:-1] for each in runs)))
        self.last = tuple(each[-1:] for each in runs)

    def hypotheses(self) -> list[Hypothesis]:
        """The hypothesis if the utterance ended here; more log-probabilities may follow."""
        if not self.steps:
            return [Hypothesis("", 0.0, 0.0)]
        return [self.decoder.hypothesis(self.score, self.placed.followed_by(*self.decoder.spoken(self.last)))]

    def state(self) -> dict[str, np.ndarray]:
        """All that the stream has taken in, as arrays: see `restore`."""
        return {
            "score": np.array([self.score, self.steps]),
            **{f"placed{index}": each for index, each in enumerate(self.placed.arrays())},
            **{f"last{index}": each for index, each in enumerate(self.last)},
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Becomes as the stream was whose `state` this is, of an equal decoder."""
        self.score, self.steps = float(state["score"][0]), int(state["score"][1])
        self.placed.add(*(state[f"placed{index}"] for index in range(4)))
        self.last = tuple(state[f"last{index}"] for index in range(4))
