"""The beam search in PyTorch tensors: many utterances at once, on a GPU or a CPU, for evaluations of whole corpora.

It follows the rules of `search` and finds what that finds, but for ties and rounding. State is held as tensors (B, W):
utterances by prefixes. The word tree and the n-gram model are sorted arrays, asked by binary search.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from carnelian.data.alphabet import Alphabet
from carnelian.data.transcript import Hypothesis
from carnelian.decoding.alignment import forced_align
from carnelian.decoding.log_probs import checked
from carnelian.decoding.search.lm_fusion import NONE, SYMBOLS, make_symbols, make_vocabulary, weigh
from carnelian.decoding.words import Words
from carnelian.errors import DecodingError
from carnelian.ngram.model import EMPTY, FREE, NGram, Tables

NEVER = -torch.inf
MULTIPLIER = 0x2545F4914F6CDD1D  # odd, so that prefixes of one length and last symbol keep apart


class DeviceNGram:
    """An n-gram model in tensors."""

    def __init__(self, tables: Tables, device: torch.device):
        arcs = tables.arcs[tables.arcs["key"] != FREE]
        arcs = arcs[np.argsort(arcs["key"])]

        def moved(array: np.ndarray, dtype: type) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, dtype)).to(device)

        self.keys = moved(np.append(arcs["key"], np.uint64(2**63 - 1)), np.int64)
        self.probabilities = moved(np.append(arcs["probability"], 0), np.float64)
        self.targets = moved(np.append(arcs["target"], 0), np.int64)
        self.backoffs = moved(tables.states["backoff"], np.float64)
        self.shorter = moved(tables.states["shorter"], np.int64)
        self.unigrams = moved(tables.unigrams, np.float64)

    def score(self, states: torch.Tensor, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Natural log-probability of each word after its state, and the states after them; all of one shape."""
        total = torch.zeros_like(states, dtype=torch.float64)
        log_probs, after = torch.empty_like(total), words.clone()
        left = torch.ones_like(states, dtype=torch.bool)
        while True:
            empty = left & (states == EMPTY)
            log_probs = torch.where(empty, total + self.unigrams[words], log_probs)
            left = left & ~empty
            if not left.any():
                return log_probs, after
            keys = (states.clamp(min=0) << 32) | words
            place = torch.searchsorted(self.keys, keys)
            found = left & (self.keys[place] == keys)
            log_probs = torch.where(found, total + self.probabilities[place], log_probs)
            after = torch.where(found, self.targets[place], after)
            left = left & ~found
            total = torch.where(left, total + self.backoffs[states.clamp(min=0)], total)
            states = torch.where(left, self.shorter[states.clamp(min=0)], states)


class Beams(NamedTuple):
    """The prefixes of all utterances, each (B, W); scores are natural logarithms."""

    blank: torch.Tensor  # log-probability of the paths that end in a blank, the language score in it
    spoken: torch.Tensor  # ... in the last symbol
    language: torch.Tensor
    look: torch.Tensor  # what the open word deserves
    symbol: torch.Tensor  # the last one, -1 for none
    place: torch.Tensor  # of the open word in the tree, -1 outside
    letters: torch.Tensor  # of the open word
    state: torch.Tensor  # of the language model after the finished words
    prefix: torch.Tensor  # hash of all symbols
    parent: torch.Tensor  # that of the prefix without its last symbol
    open: torch.Tensor  # hash of the open word
    closed: torch.Tensor  # hash of the finished words
    ending: torch.Tensor  # what finishing the open word brings
    ended: torch.Tensor  # the state then


class DeviceBeamSearch:
    """Beam search with a language model of words (or none) over a batch; settings as those of `BeamSearch`."""

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
        unknown_score: float = -18.0,
        sentence: bool = True,
        device: str | torch.device = "cpu",
    ):
        self.alphabet, self.width, self.device = alphabet, beam_width, torch.device(device)
        self.beam_threshold, self.token_threshold = beam_threshold, token_threshold
        self.words = Words(alphabet)
        vocabulary = make_vocabulary(alphabet, language_model and language_model.listed(), unknown_score, None, None)
        if vocabulary.kind == SYMBOLS:
            raise DecodingError("search on the device: it takes language models of words only. Use BeamSearch")
        language = weigh(vocabulary, alpha, beta, sentence)
        self.rules = language.rules
        self.ngram = DeviceNGram(language.ngram, self.device)
        self._place_tree(language.tree)
        self._place_symbols(make_symbols(alphabet, language_model))
        self.prices = torch.from_numpy(language.prices).double().to(self.device)

    def _place_tree(self, tree: np.ndarray) -> None:
        """The tree as tensors; node n > 0 has the key parent(n) * 256 + byte, and the keys ascend with the nodes."""
        children = np.diff(tree["first"])
        parents = np.repeat(np.arange(len(children)), children)
        keys = np.append(parents * 256 + tree["byte"][1:-1], 2**62)
        self.tree_keys = torch.from_numpy(keys.astype(np.int64)).to(self.device)
        self.tree_words = torch.from_numpy(tree["word"].astype(np.int64)).to(self.device)
        self.tree_looks = torch.from_numpy(tree["look"].astype(np.float64)).log().to(self.device)

    def _place_symbols(self, symbols) -> None:
        """Which symbols open words, and the letters of each as (V - 1, longest) bytes, -1 past their end."""
        table = symbols.table
        longest = max(1, int((table["last"] - table["first"]).max()))
        letters = np.full((len(table), longest), -1)
        for row, symbol in zip(letters, table):
            spelled = symbols.letters[symbol["first"] : symbol["last"]]
            row[: len(spelled)] = spelled
        self.letters = torch.from_numpy(letters).to(self.device)
        self.opens = torch.from_numpy(table["opens"].copy()).to(self.device)
        self.counts = torch.from_numpy((table["last"] - table["first"]).astype(np.int64)).to(self.device)
        self.space = symbols.space

    def __call__(self, log_probs: np.ndarray) -> list[Hypothesis]:
        """The best hypothesis of one utterance (O, V)."""
        return self.batch([log_probs])[0]

    @torch.inference_mode()
    def batch(self, log_probs: Sequence[np.ndarray], threads: int | None = None) -> list[list[Hypothesis]]:
        """The best hypothesis of each utterance; `threads` is taken for likeness and not needed."""
        rows = [checked(each, self.alphabet)[0] for each in log_probs]
        steps = max(map(len, rows), default=0)
        padded = np.full((len(rows), steps, len(self.alphabet) + 1), -np.inf)
        padded[:, :, -1] = 0  # after its end an utterance is silent
        for place, row in zip(padded, rows):
            place[: len(row)] = np.maximum(row, np.log(1e-30))
        probs = torch.from_numpy(padded).to(self.device)
        symbols, scores, languages = self._search(probs)
        found = []
        for row, spelled, score, language in zip(rows, symbols, scores.tolist(), languages.tolist()):
            spans = self.words.spans(spelled, *forced_align(row, spelled))
            text = " ".join([span.text for span in spans])
            found.append([Hypothesis(text, score, score - language, language, spans)])
        return found

    def _search(self, log_probs: torch.Tensor) -> tuple[list[np.ndarray], torch.Tensor, torch.Tensor]:
        """Symbols, scores and language scores of the best hypothesis of each of log-probabilities (B, O, V)."""
        spoken, blank = log_probs[:, :, :-1], log_probs[:, :, -1]
        tried = spoken >= self.token_threshold
        best = spoken.argmax(dim=2, keepdim=True)
        alone = ~tried.any(dim=2) & (spoken.gather(2, best)[:, :, 0] > blank)
        tried = tried.scatter(2, best, tried.gather(2, best) | alone[:, :, None])
        beams = self._start(len(log_probs))
        history = []
        for step, active in enumerate(tried.any(dim=2).any(dim=0).tolist()):
            if not active:
                total = torch.logaddexp(beams.blank, beams.spoken) + blank[:, step, None]
                beams = beams._replace(blank=total, spoken=torch.full_like(total, NEVER))
                continue
            beams, origin, emitted = self._step(beams, spoken[:, step], blank[:, step], tried[:, step])
            history.append((origin, emitted))
        scores, languages, winners = self._finish(beams)
        return self._trace(history, winners), scores, languages

    def _start(self, count: int) -> Beams:
        """Beams of so many utterances that hold the empty prefix each."""
        shape = (count, 1)

        def full(value: float, dtype: torch.dtype = torch.int64) -> torch.Tensor:
            return torch.full(shape, value, dtype=dtype, device=self.device)

        zero, state = full(0, torch.float64), full(self.rules.first)
        root = full(-1 if self.rules.kind == NONE else 0)
        look = zero if self.rules.kind == NONE else self.tree_looks[root]
        none = full(NEVER, torch.float64)
        return Beams(
            zero, none, zero, look, full(-1), root, full(0), state, full(1), full(0), full(0), full(0), zero, state
        )

    def _walk(self, places: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
        """Where the symbols' letters lead to from the places in the tree."""
        if self.rules.kind == NONE:
            return places
        for letters in self.letters.unbind(1):
            letter = letters[symbols]
            keys = places * 256 + letter
            found = torch.searchsorted(self.tree_keys, keys)
            moved = torch.where((self.tree_keys[found] == keys) & (places >= 0), found + 1, -1)
            places = torch.where(letter >= 0, moved, places)
        return places

    def _looks(self, places: torch.Tensor) -> torch.Tensor:
        if self.rules.kind == NONE:
            return torch.zeros_like(places, dtype=torch.float64)
        return torch.where(places >= 0, self.tree_looks[places.clamp(min=0)], float(np.log(self.rules.unknown_look)))

    def _endings(self, places: torch.Tensor, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What finishing the open words brings, and the language model's states then."""
        if self.rules.kind == NONE:
            return torch.zeros_like(places, dtype=torch.float64), states
        words = torch.where(places >= 0, self.tree_words[places.clamp(min=0)], -1)
        words = torch.where(words >= 0, words, self.rules.unknown)
        log_probs, ended = self.ngram.score(states, words)
        return self.rules.alpha * log_probs + self.rules.beta + self.prices[words], ended

    def _step(self, beams: Beams, spoken, blank, tried) -> tuple[Beams, torch.Tensor, torch.Tensor]:
        """The beams one step on, which prefix each comes from (B, W), and the symbol it got, -1 for none (B, W)."""
        batch, width = beams.blank.shape
        total = torch.logaddexp(beams.blank, beams.spoken)
        stays_blank = total + blank[:, None]
        stays_spoken = beams.spoken + spoken.gather(1, beams.symbol.clamp(min=0))
        if self.space >= 0:
            stays_spoken = torch.where(beams.letters == 0, total + spoken[:, self.space, None], stays_spoken)
        # from each parent (B, W) in the beam to each child (B, W) in it
        related = (beams.parent[:, None, :] == beams.prefix[:, :, None]) & (beams.symbol >= 0)[:, None, :]
        parent = related.int().argmax(dim=1)
        same = beams.symbol.gather(1, parent) == beams.symbol
        passed = torch.where(same, beams.blank.gather(1, parent), total.gather(1, parent))
        passed = (
            passed + spoken.gather(1, beams.symbol.clamp(min=0)) + beams.language - beams.language.gather(1, parent)
        )
        has_parent = related.any(dim=1)
        quiet = ~tried.any(dim=1)[:, None]  # where only the blank is possible nothing else is added
        stays_spoken = torch.where(has_parent, torch.logaddexp(stays_spoken, passed), stays_spoken)
        stays_spoken = torch.where(quiet, NEVER, stays_spoken)
        # every prefix by every symbol: (B, W, V - 1)
        symbols = torch.arange(spoken.shape[1], device=self.device).expand(batch, width, -1)
        repeated = symbols == beams.symbol[:, :, None]
        masses = torch.where(repeated, beams.blank[:, :, None], total[:, :, None]) + spoken[:, None, :]
        opens = self.opens.expand_as(symbols)
        masses = torch.where(opens, masses + beams.ending[:, :, None], masses)
        root = -1 if self.rules.kind == NONE else 0
        places = self._walk(torch.where(opens, root, beams.place[:, :, None]), symbols)
        forbidden = ~tried[:, None, :].expand_as(masses)
        if self.space >= 0:
            forbidden = forbidden | ((symbols == self.space) & (beams.letters == 0)[:, :, None])
        taken = self._taken(forbidden, parent, beams.symbol, has_parent)
        masses = torch.where(forbidden | taken, NEVER, masses)
        looks = self._looks(places)
        ranks = torch.cat([torch.logaddexp(stays_blank, stays_spoken) + beams.look, (masses + looks).flatten(1)], dim=1)
        chosen = ranks.topk(min(4 * self.width, ranks.shape[1]), dim=1)
        return self._select(beams, chosen, stays_blank, stays_spoken, masses, places, looks)

    def _taken(self, like, parent, symbol, has_parent):
        """(B, W, V - 1): whether a prefix with one more symbol is in the beam already."""
        flat = torch.zeros(like.shape[0], like.shape[1] * like.shape[2], dtype=torch.int64, device=self.device)
        flat.scatter_add_(1, parent * like.shape[2] + symbol.clamp(min=0), has_parent.long())
        return flat.view(like.shape) > 0

    def _select(self, beams: Beams, chosen, stays_blank, stays_spoken, masses, places, looks):
        """The best candidates as the next beams; of candidates with the same future only those not behind in both masses."""
        width = beams.blank.shape[1]
        new = chosen.indices >= width
        extended = (chosen.indices - width).clamp(min=0)
        origin = torch.where(new, extended // masses.shape[2], chosen.indices)
        symbol = torch.where(new, extended % masses.shape[2], beams.symbol.gather(1, origin))

        def of(values: torch.Tensor) -> torch.Tensor:
            return values.gather(1, origin)

        opens = new & self.opens[symbol]
        fresh = masses.flatten(1).gather(1, extended)
        blank = torch.where(new, NEVER, of(stays_blank))
        spoken = torch.where(new, fresh, of(stays_spoken))
        place = torch.where(new, places.flatten(1).gather(1, extended), of(beams.place))
        look = torch.where(new, looks.flatten(1).gather(1, extended), of(beams.look))
        state = torch.where(opens, of(beams.ended), of(beams.state))
        language = of(beams.language) + torch.where(opens, of(beams.ending), 0.0)
        letters = torch.where(opens, 0, of(beams.letters)) + torch.where(new, self.counts[symbol], 0)
        opened = torch.where(opens, 0, of(beams.open))
        for letters_of in self.letters.unbind(1):
            letter = torch.where(new, letters_of[symbol], -1)
            opened = torch.where(letter >= 0, _mixed(opened, letter), opened)
        finished = opens & (of(beams.letters) > 0)
        closed = torch.where(finished, _mixed(of(beams.closed), of(beams.open)), of(beams.closed))
        prefix = torch.where(new, _mixed(of(beams.prefix), symbol), of(beams.prefix))
        parent = torch.where(new, of(beams.prefix), of(beams.parent))
        behind = _dominated(_mixed(_mixed(opened, state), symbol), blank, spoken, closed)
        ranks = torch.where(behind, NEVER, chosen.values)
        ranks = torch.where(ranks < ranks[:, :1] - self.beam_threshold, NEVER, ranks)
        ranks, kept = ranks.topk(min(self.width, ranks.shape[1]), dim=1)
        values = (
            blank,
            spoken,
            language,
            look,
            symbol,
            place,
            letters,
            state,
            prefix,
            parent,
            opened,
            closed,
            language,
            state,
        )
        picked = Beams(*(value.gather(1, kept) for value in values))
        ending, ended = self._endings(picked.place, picked.state)
        between, dead = picked.letters == 0, ranks == NEVER
        picked = picked._replace(
            blank=torch.where(dead, NEVER, picked.blank),
            spoken=torch.where(dead, NEVER, picked.spoken),
            prefix=torch.where(dead, -1, picked.prefix),  # the dead are nobody's parents or children
            parent=torch.where(dead, -2, picked.parent),
            ending=torch.where(between, 0.0, ending),
            ended=torch.where(between, picked.state, ended),
        )
        return picked, origin.gather(1, kept), torch.where(new, symbol, -1).gather(1, kept)

    def _finish(self, beams: Beams) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Score (B,), language score (B,) and place in the beam (B,) of the best prefix of each utterance.

        Prefixes that spell the same words are added up.
        """
        weight = beams.ending
        if self.rules.last >= 0:
            last, _ = self.ngram.score(beams.ended, torch.full_like(beams.ended, self.rules.last))
            weight = weight + self.rules.alpha * last
        totals = torch.logaddexp(beams.blank, beams.spoken) + weight
        text = torch.where(beams.letters > 0, _mixed(beams.closed, beams.open), beams.closed)
        alike = text[:, None, :] == text[:, :, None]
        totals = torch.where(alike, totals[:, None, :], NEVER).logsumexp(dim=2)
        scores, winners = totals.max(dim=1)
        languages = (beams.language + weight).gather(1, winners[:, None])[:, 0]
        return scores, languages, winners

    @staticmethod
    def _trace(history, winners: torch.Tensor) -> list[np.ndarray]:
        """The symbols of each utterance's winner."""
        place = winners.cpu().numpy()
        rows = np.arange(len(place))
        found = []
        for origin, emitted in reversed([(origin.cpu().numpy(), emitted.cpu().numpy()) for origin, emitted in history]):
            found.append(emitted[rows, place])
            place = origin[rows, place]
        symbols = np.array(found[::-1]).reshape(-1, len(rows)).T
        return [row[row >= 0].astype(np.int64) for row in symbols]


def _mixed(keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """A hash of keys and further values, int64."""
    keys = (keys ^ (keys >> 29)) * MULTIPLIER + values + 1
    return keys ^ (keys >> 32)


def _dominated(future: torch.Tensor, blank: torch.Tensor, spoken: torch.Tensor, closed: torch.Tensor) -> torch.Tensor:
    """Returns which candidates (B, N) another one of the same future makes useless: other words, and no less of either probability.

    Of two equal ones the later is dominated.
    """
    behind = (future[:, :, None] == future[:, None, :]) & (blank[:, :, None] >= blank[:, None, :])
    behind &= (spoken[:, :, None] >= spoken[:, None, :]) & (closed[:, :, None] != closed[:, None, :])
    behind &= torch.ones(behind.shape[1:], dtype=torch.bool, device=future.device).triu(1) | ~behind.transpose(1, 2)
    return behind.any(dim=1)
