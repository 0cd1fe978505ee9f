"""Bootstrap intervals: of the width that theory gives, wider for what goes together."""

import numpy as np
import pytest

from carnelian.scoring import confidence
from carnelian.scoring.confidence import difference, interval
from carnelian.scoring.wer import Errors


def utterances(count, rate, seed=0, words=10):
    wrong = np.random.default_rng(seed).binomial(words, rate, size=count)
    return [Errors(words - each, each) for each in wrong.tolist()]


def test_width_is_that_of_the_normal_approximation():
    errors = utterances(1000, 0.2)
    found = interval(errors, draws=1500)
    rate = sum(errors, Errors()).rate
    expected = 1.96 * np.sqrt(0.2 * 0.8 / 10_000)
    assert found.high - rate == pytest.approx(expected, rel=0.15)
    assert rate - found.low == pytest.approx(expected, rel=0.15)


def test_same_seed_same_interval_and_level_widens_it():
    errors = utterances(100, 0.3)
    assert interval(errors, seed=3) == interval(errors, seed=3) != interval(errors, seed=4)
    wide, narrow = interval(errors, level=0.99), interval(errors, level=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_of_many_utterances_those_with_equal_counts_are_drawn_together(monkeypatch):
    errors = utterances(4000, 0.2)
    alone = interval(errors, draws=4000)
    monkeypatch.setattr(confidence, "MANY", 100)
    together = interval(errors, draws=4000)
    width = alone.high - alone.low
    assert together != alone and together.low == pytest.approx(alone.low, abs=0.08 * width)
    assert together.high == pytest.approx(alone.high, abs=0.08 * width)


def test_errors_that_go_together_widen_it():
    errors = [each for each in utterances(50, 0.3) for _ in range(8)]
    speakers = [number // 8 for number in range(400)]
    alone, together = interval(errors), interval(errors, groups=speakers)
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(np.sqrt(8), rel=0.2)


def test_nothing_to_draw_from():
    assert interval([]).high == interval([Errors(insertions=2)]).high == 0


def test_difference_of_two_systems():
    better, worse = utterances(500, 0.1, seed=1), utterances(500, 0.13, seed=2)
    found, probability = difference(better, worse, draws=2000)
    assert found.low < -0.02 and found.high < 0 and probability > 0.99
    same, even = difference(better, better)
    assert (same.low, same.high, even) == (0, 0, 0.5)
