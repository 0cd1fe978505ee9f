"""Language models and alphabets in the form that the compiled search takes."""

import numpy as np

from carnelian.data.alphabet import Alphabet
from carnelian.decoding.ngram import STATE, NGram, Tables, empty_arcs
from carnelian.decoding.search import SYMBOL, Language, Rules, Symbols
from carnelian.decoding.tree import build_tree, look_ahead

SPECIAL = {"<s>", "</s>", "<unk>"}
NO_TABLES = Tables(np.zeros(1, np.float32), empty_arcs(0), np.zeros(1, STATE))


def make_symbols(alphabet: Alphabet, model: NGram | None) -> Symbols:
    letters = [symbol.replace(alphabet.separator, "").encode() for symbol in alphabet.symbols]
    table = np.zeros(len(letters), SYMBOL)
    table["opens"] = [symbol.startswith(alphabet.separator) for symbol in alphabet.symbols]
    table["last"] = np.cumsum([len(each) for each in letters])
    table["first"][1:] = table["last"][:-1]
    if model is not None:
        table["word"] = model.numbers(alphabet.symbols)
    space = next((index for index, each in enumerate(letters) if not each), -1)
    return Symbols(table, np.frombuffer(b"".join(letters) or b" ", np.uint8), space)


def make_language(alphabet, model, alpha, beta, unknown_score, known_words, lexicon, sentence) -> Language:
    if model is None:
        rules = Rules(0, 0.0, 0.0, 0, 0.0, 1.0, 1.0, False, -1, -1)
        return Language(NO_TABLES, build_tree([]), np.zeros(1, np.float32), rules)
    words = model.words
    numbers = [i for i, w in enumerate(words) if w not in SPECIAL]
    tree = build_tree([words[i] for i in numbers], numbers)
    prices = np.zeros(len(words), np.float32)
    look_ahead(tree, model.tables.unigrams * np.float32(alpha) + prices)
    ulook = float(np.exp(alpha * model.tables.unigrams[model.unknown] + unknown_score))
    rules = Rules(
        1,
        alpha,
        beta,
        model.unknown,
        unknown_score,
        ulook,
        float(np.exp(beta + prices.max())),
        False,
        model.first_state if sentence else -1,
        model.end if sentence else -1,
    )
    return Language(model.tables, tree, prices, rules)
