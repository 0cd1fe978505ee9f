"""Hot words: words that are expected in an utterance, such as names, with a bonus for each."""

from collections.abc import Mapping

import numpy as np

from carnelian.data.alphabet import Alphabet
from carnelian.decoding.limits import check_weight
from carnelian.decoding.search.state import HotWords
from carnelian.decoding.search.word_tree import build_tree, child_of
from carnelian.errors import DecodingError


def make_hot_words(weights: Mapping[str, float], alphabet: Alphabet) -> HotWords:
    """Returns hot words for the search; `weights` in natural logarithms, each word of a phrase gets the phrase's weight.

    An unfinished hot word gets the share of its weight that its letters make up, so that it stays in the beam. Raises
    DecodingError for words that the alphabet cannot spell, and for weights out of range.
    """
    words: dict[str, float] = {}
    for phrase, weight in weights.items():
        check_weight(f'hot words: the weight of "{phrase}",', weight)
        if alphabet.unknown(phrase):
            raise DecodingError(f'hot words: the alphabet cannot spell "{phrase}". Leave it out or spell it otherwise')
        words.update(dict.fromkeys(phrase.split(), weight))
    tree = build_tree(list(words))
    credit = np.zeros(len(tree))
    for word, weight in words.items():
        node, letters = 0, word.encode()
        for count, letter in enumerate(letters, start=1):
            node = child_of(tree, node, letter)
            credit[node] = max(credit[node], weight * count / len(letters))
    values = np.array([*words.values(), 0.0])
    tree["look_ahead"] = np.exp(credit)
    return HotWords(tree, values, float(np.exp(values.max())))
