"""Language models and alphabets in the form that the compiled search takes."""

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from carnelian.console import note
from carnelian.data.alphabet import Alphabet
from carnelian.decoding.limits import LARGEST_UNKNOWN, check_weight
from carnelian.decoding.search.state import NO_MODEL, SYMBOL, SYMBOL_MODEL, WORD_MODEL, Language, Rules, Symbols
from carnelian.decoding.search.word_tree import build_tree, set_look_ahead, stored_tree
from carnelian.decoding.words import spelled_symbols
from carnelian.errors import DecodingError
from carnelian.ngram.model import EMPTY, STATE, NGram, Tables, empty_arcs
from carnelian.ngram.words import SPECIAL_WORDS

SPACES = ("<space>", "|", "▁", " ", "_")  # what language models over characters call the space
NO_TABLES = Tables(np.zeros(1, np.float32), empty_arcs(0), np.zeros(1, STATE))


@dataclass(frozen=True, slots=True)
class SearchVocabulary:
    """The words of a language model for the search, without weights: slow to make, and made once."""

    model: NGram | None
    kind: int
    tree: np.ndarray  # NODE records
    word_costs: np.ndarray  # (words,) float32, natural log
    closed: bool


def word_tree(model: NGram) -> np.ndarray:
    """Returns the tree of a model's words, as it is stored with the model or else built.

    Raises LanguageModelError for a stored tree that compiled code could not walk.
    """
    numbers = [number for number, word in enumerate(model.words) if word not in SPECIAL_WORDS]
    if "word_tree" in model.extra:
        tree = stored_tree(model.extra["word_tree"], len(model.words))
        if np.count_nonzero(tree["word"] >= 0) == len(numbers):  # else it was stored with another vocabulary
            return tree.copy()
    return build_tree([model.words[number] for number in numbers], numbers)


def with_word_tree(model: NGram) -> NGram:
    """Returns the model with the tree of its words stored in it, so that it need not be built at each start."""
    return dataclasses.replace(model, extra={**model.extra, "word_tree": word_tree(model).view(np.uint8)})


def make_symbols(alphabet: Alphabet, model: NGram | None) -> Symbols:
    """Returns an alphabet's symbols for the search; as words too, for a language model over symbols."""
    spelled = spelled_symbols(alphabet)
    letters = [b" ".join(symbol.parts) for symbol in spelled]
    table = np.zeros(len(letters), SYMBOL)
    table["opens"] = [symbol.opens for symbol in spelled]
    table["closes"] = [symbol.closes and bool(symbol.parts) for symbol in spelled]
    table["last"] = np.cumsum([len(each) for each in letters])
    table["first"][1:] = table["last"][:-1]
    space = next((index for index, symbol in enumerate(spelled) if symbol.opens and not symbol.parts), -1)
    if model is not None:
        table["word"] = model.numbers(alphabet.symbols)
        if space >= 0:
            table["word"][space] = next((model.index[name] for name in SPACES if name in model.index), model.unknown)
    closing = bool(table["closes"].any())
    return Symbols(table, np.frombuffer(b"".join(letters) or b" ", np.uint8), space, closing)


def make_vocabulary(
    alphabet: Alphabet,
    model: NGram | None,
    unknown_score: float,
    known_words: Collection[str] | None,
    lexicon: Collection[str] | None,
) -> SearchVocabulary:
    """Returns the words of a model, or of a lexicon, for the search; raises DecodingError if few can be spelled."""
    check_weight("unknown score", unknown_score, lowest=-LARGEST_UNKNOWN)
    closed = lexicon is not None
    if lexicon is not None:
        words = sorted(set(lexicon))
        check_spelling(words, alphabet, "lexicon")
        tree = build_tree(words, model.numbers(words) if model else None)
    if model is None:
        return SearchVocabulary(None, NO_MODEL, tree if closed else build_tree([]), np.zeros(1, np.float32), closed)
    words = [word for word in model.words if word not in SPECIAL_WORDS]
    symbols = {symbol: None for symbol in alphabet.symbols}
    if all(len(word) == 1 or word in SPACES for word in words) or (
        alphabet.separator != " " and sum(word in symbols for word in words) > 0.9 * len(words)
    ):
        check_spelling([word for word in words if word not in SPACES], alphabet, "language model")
        return SearchVocabulary(
            model, SYMBOL_MODEL, tree if closed else build_tree([]), np.zeros(1, np.float32), closed
        )
    check_spelling(words, alphabet, "language model")
    word_costs = np.zeros(len(model.words), np.float32)
    if known_words is not None:
        word_costs[:] = unknown_score
        word_costs[model.numbers(known_words)] = 0
    word_costs[model.unknown] = unknown_score
    return SearchVocabulary(model, WORD_MODEL, tree if closed else word_tree(model), word_costs, closed)


def check_spelling(words: Collection[str], alphabet: Alphabet, where: str) -> None:
    """Notes how many words the alphabet cannot spell; raises DecodingError if that is most of them."""
    if b"\xff" in alphabet.spelling:  # byte pieces spell everything
        return
    letters = set("".join(alphabet.symbols) + b"".join(alphabet.spelling).decode(errors="replace"))
    if set("".join(words)) <= letters:
        return
    wrong = [word for word in words if not letters.issuperset(word)]
    found = f"{where}: {len(wrong):,} of {len(words):,} words cannot be spelled by the alphabet, such as {wrong[0]!r}"
    if 2 * len(wrong) > len(words):
        raise DecodingError(f"{found}. Give one whose words are written as the model writes (look at the case)")
    note(f"{found}; they will not be found")


def weigh(vocabulary: SearchVocabulary, alpha: float, beta: float, sentence: bool) -> Language:
    """Returns a vocabulary with its weights; see BeamSearch. Raises DecodingError for weights out of range."""
    check_weight("alpha", alpha, lowest=0.0)
    check_weight("beta", beta)
    model, tree, word_costs = vocabulary.model, vocabulary.tree, vocabulary.word_costs
    if model is None:
        rules = Rules(NO_MODEL, 0.0, 0.0, 0, 1.0, 1.0, vocabulary.closed, EMPTY, -1)
        return Language(NO_TABLES, tree, word_costs, rules)
    unknown_look_ahead = 1.0
    if vocabulary.kind == WORD_MODEL:
        scores = np.float32(alpha) * model.tables.unigrams + word_costs
        tree = tree.copy()
        set_look_ahead(tree, scores)
        unknown_look_ahead = float(np.exp(scores[model.unknown]))
    rules = Rules(
        kind=vocabulary.kind,
        alpha=float(alpha),
        beta=float(beta),
        unknown=model.unknown,
        unknown_look_ahead=unknown_look_ahead,
        ceiling=math.exp(beta + max(0.0, float(word_costs.max()))),
        closed_vocabulary=vocabulary.closed,
        first=model.first_state if sentence else EMPTY,
        last=model.end if sentence else -1,
    )
    return Language(model.tables, tree, word_costs, rules)
