"""Calibration against its definitions by hand, and as laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnelian.scoring.calibration import calibrate


def test_by_hand():
    found = calibrate([0.95, 0.95, 0.15, 0.15], [True, True, True, False])
    assert found.bins == ((pytest.approx(0.15), 0.5, 2), (pytest.approx(0.95), 1.0, 2))
    assert found.error == pytest.approx((2 * 0.35 + 2 * 0.05) / 4)
    most = -4 * (0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    spent = 2 * math.log2(0.95) + math.log2(0.15) + math.log2(0.85)
    assert found.cross_entropy == pytest.approx((most + spent) / most)


def test_one_confidence_for_all_words_is_worth_nothing():
    assert calibrate([0.75] * 4, [True, True, True, False]).cross_entropy == pytest.approx(0)


def test_certain_and_right_is_perfect():
    found = calibrate([1.0, 1.0, 0.0], [True, True, False])
    assert found.error == 0 and found.cross_entropy == pytest.approx(1, abs=1e-5)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_words_are_counted_once_and_errors_are_bounded(pairs):
    found = calibrate(*map(list, zip(*pairs)))
    assert sum(count for *_, count in found.bins) == len(pairs) and 0 <= found.error <= 1 + 1e-9
    assert found.cross_entropy is None or found.cross_entropy <= 1


def test_calibrated_draws_have_little_error():
    rng = np.random.default_rng(0)
    confidences = rng.random(20_000)
    assert calibrate(list(confidences), list(rng.random(20_000) < confidences)).error < 0.02
