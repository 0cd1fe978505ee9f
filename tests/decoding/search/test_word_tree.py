"""The tree of words holds every word at its place, and nothing else."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from carnelian.decoding.search.word_tree import build_tree, child_of, set_look_ahead


def walk(tree, text):
    node = 0
    for letter in text.encode():
        node = child_of(tree, node, letter) if node >= 0 else -1
    return node


@settings(deadline=None)
@given(st.lists(st.text("abñ的", max_size=5), unique=True, max_size=30), st.randoms())
def test_every_word_and_no_other(words, random):
    random.shuffle(words)
    tree = build_tree(words)
    for index, word in enumerate(words):
        assert tree[walk(tree, word)]["word"] == (index if word else -1)
    starts = {word.encode()[:end] for word in words for end in range(len(word.encode()) + 1)} | {b""}
    assert len(tree) - 1 == len(starts) == tree["first"][-1]
    assert (tree["word"] >= 0).sum() == sum(map(bool, words))
    assert walk(tree, "abab的x") == -1


@settings(deadline=None)
@given(st.lists(st.text("abc", min_size=1, max_size=4), unique=True, min_size=1, max_size=20), st.data())
def test_look_ahead(words, data):
    scores = np.array(data.draw(st.lists(st.floats(-9, 0, width=32), min_size=len(words), max_size=len(words))))
    tree = build_tree(words)
    set_look_ahead(tree, scores)
    for word in words:
        for end in range(len(word) + 1):
            expected = max(score for other, score in zip(words, scores) if other.startswith(word[:end]))
            assert tree[walk(tree, word[:end])]["look_ahead"] == np.float32(np.exp(expected))


def test_numbers_may_be_given():
    tree = build_tree(["b", "a"], [7, 9])
    assert tree[walk(tree, "a")]["word"] == 9 and tree[walk(tree, "b")]["word"] == 7
