"""The matched-pairs test: its segments by hand, its figures by NIST's printed example and by chance itself."""

import numpy as np
import pytest

from carnelian.scoring.significance import matched_pairs, segments

SENTENCE = ["a", "b", "c", "d", "e", "f", "g", "h"]


@pytest.mark.parametrize(
    "first, second, expected",
    [
        ("a b c d e f g h", "a b c d e f g h", []),
        ("x b c d e f g h", "a b c d e f g h", [(1, 0)]),
        ("x b c d e f g y", "a b c d e z g h", [(1, 0), (1, 1)]),  # b c d e are right, g is one word
        ("x b z d e f g h", "a b c d e f g h", [(2, 0)]),
        ("x b c q d e f g h", "a b c d e f g h", [(1, 0), (1, 0)]),  # an insertion after two right words
        ("x b q c d e f g h", "a b c d e f g h", [(2, 0)]),  # and after one
        ("", "a b c d e f g", [(8, 1)]),
    ],
)
def test_segments_by_hand(first, second, expected):
    assert list(segments(SENTENCE, first.split(), second.split())) == expected


def test_figures_of_a_printed_example():
    """sc_stats: 3 segments, 9 and 7 errors, mean 0.667, standard deviation 0.577, Z 2.000."""
    found = matched_pairs(["a b c"] * 3, ["x y z", "x y z", "x y z"], ["a y z", "a y z", "x y z"])
    assert found.segments == 3
    assert (found.mean, found.deviation, found.z) == pytest.approx((0.667, 0.577, 2.0), abs=5e-4)
    assert found.probability == pytest.approx(0.0455, abs=1e-4)


def test_equals_and_opposites():
    texts = ["a b c"] * 4
    assert matched_pairs(texts, texts, texts).probability == 1
    worse = matched_pairs(texts, ["a b x", "a b x", "a x x", "a b c"], texts)
    better = matched_pairs(texts, texts, ["a b x", "a b x", "a x x", "a b c"])
    assert worse.mean > 0 and worse.z == -better.z and worse.probability == better.probability


def test_equally_bad_systems_seldom_differ():
    rng = np.random.default_rng(0)
    references = ["a b c d e f g h"] * 60

    def noisy():
        return [" ".join("x" if rng.random() < 0.15 else word for word in text.split()) for text in references]

    significant = sum(matched_pairs(references, noisy(), noisy()).probability < 0.05 for _ in range(100))
    assert 0 < significant <= 12
