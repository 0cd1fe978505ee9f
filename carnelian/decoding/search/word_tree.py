"""The words of a language model as a prefix tree of bytes: each node has the best score of any word that it may become."""

from collections.abc import Sequence

import numpy as np

from carnelian.errors import LanguageModelError
from carnelian.jit import inlined, released

NODE = np.dtype(
    [
        ("first", np.int32),  # its children are the nodes from here to the `first` of the node after it
        ("word", np.int32),  # the word that ends here, or -1
        ("look_ahead", np.float32),  # look-ahead score as a factor: exp of the best word's score at or below it
        ("byte", np.uint8),  # the byte that leads to it, of the word in UTF-8
    ],
    align=True,
)


LEAST_SCORE = np.float32(1e-37)  # of a word, as a factor: one of no probability can still be found


def build_tree(words: Sequence[str], numbers: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """Returns the tree of some words: (N + 1,) NODE records, breadth first, the root first and one past the end to close.

    The children of a node lie side by side, sorted by byte. `numbers` (the words' positions unless given) become
    the field `word` of the nodes where they end. Empty words are left out; of equal words the last counts. The look-ahead
    factors are 1.
    """
    encoded = [word.encode() for word in words]
    order = sorted((index for index, word in enumerate(encoded) if word), key=encoded.__getitem__)
    ends = np.cumsum([0, *(len(encoded[index]) for index in order)])
    spelled = np.frombuffer(b"".join(encoded[index] for index in order), np.uint8)
    picked = np.arange(len(words)) if numbers is None else np.asarray(numbers)
    return _build(spelled, ends, picked[order].astype(np.int32))


@released
def _build(spelled, ends, numbers):
    """Returns the tree of sorted words; word i is spelled[ends[i] : ends[i + 1]].

    Every node stands for the words `low` to `high`, which share their first `depth` bytes.
    """
    size = len(spelled) + 1
    tree = np.zeros(size + 1, NODE)  # the padding too: the same model is stored as the same bytes
    low, high, depth = np.zeros(size, np.int32), np.zeros(size, np.int32), np.zeros(size, np.int32)
    high[0] = len(numbers)
    tree[0].byte = 0
    nodes, node = 1, 0
    while node < nodes:
        tree[node].first, tree[node].word, tree[node].look_ahead = nodes, -1, 1.0
        current = low[node]
        while current < high[node] and ends[current] + depth[node] == ends[current + 1]:
            tree[node].word = numbers[current]
            current += 1
        while current < high[node]:
            letter = spelled[ends[current] + depth[node]]
            low[nodes], depth[nodes], tree[nodes].byte = current, depth[node] + 1, letter
            while current < high[node] and spelled[ends[current] + depth[node]] == letter:
                current += 1
            high[nodes] = current
            nodes += 1
        node += 1
    tree[nodes].first, tree[nodes].word, tree[nodes].look_ahead, tree[nodes].byte = nodes, -1, 0.0, 0
    return tree[: nodes + 1].copy()


def stored_tree(stored: np.ndarray, words: int) -> np.ndarray:
    """Returns the NODE records in an array of bytes that was stored with a model of `words` words.

    Raises LanguageModelError for a tree that compiled code could not walk: out of bounds, or in a circle.
    """
    records = stored.dtype == np.uint8 and stored.ndim == 1 and len(stored) % NODE.itemsize == 0
    tree = stored.view(NODE) if records else np.zeros(0, NODE)
    nodes = len(tree) - 1
    first, numbers = tree["first"], tree["word"]
    sound = (
        nodes >= 1
        and first[0] == 1
        and first[-1] == nodes
        and np.all(np.diff(first) >= 0)
        and np.all(first[:-1] > np.arange(nodes))
        and np.all((numbers >= -1) & (numbers < words))
    )
    if not sound:
        raise LanguageModelError("the language model's word tree is damaged. Build or copy the model again")
    return tree


@released
def set_look_ahead(tree, scores):
    """Sets each node's `look_ahead` to exp of the highest score of a word that ends at it or below it."""
    for node in range(len(tree) - 2, -1, -1):  # children come after their parents
        word = tree[node].word
        best = max(np.float32(np.exp(scores[word])), LEAST_SCORE) if word >= 0 else np.float32(0.0)
        for child in range(tree[node].first, tree[node + 1].first):
            best = max(best, tree[child].look_ahead)
        tree[node].look_ahead = best


@inlined
def child_of(tree, node, letter):
    """Returns the node that a byte leads to from a node, or -1."""
    for child in range(tree[node].first, tree[node + 1].first):
        if tree[child].byte == letter:
            return child
    return -1
