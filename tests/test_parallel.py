"""Many at once: in order, and stopped when no more is wanted."""

import threading
import time

import pytest

from carnelian.parallel import in_parallel


def test_results_come_in_order():
    assert list(in_parallel(lambda number: number * 2, range(5000), 4)) == list(range(0, 10_000, 2))


def test_an_error_in_one_stops_the_rest():
    begun, lock = [], threading.Lock()

    def work(number):
        with lock:
            begun.append(number)
        time.sleep(0.002)
        return 1 // (number - 3)

    with pytest.raises(ZeroDivisionError):
        list(in_parallel(work, range(2000), 2))
    assert len(begun) < 200


def test_values_are_taken_as_needed():
    def endless():
        number = 0
        while True:
            yield number
            number += 1

    results = in_parallel(str, endless(), 2)
    assert [next(results) for _ in range(3)] == ["0", "1", "2"]
    results.close()
