"""Work on many recordings at once: threads, since reading and decoding let go of the interpreter's lock."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Argument], Result], values: Iterable[Argument], workers: int | None = None
) -> Iterator[Result]:
    """`function` of each value, in the values' order; takes values only some thousands ahead of the results."""
    values = iter(values)
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        try:
            while some := list(islice(values, 2048)):
                yield from pool.map(function, some)
        except BaseException:  # stopped, or no more results are wanted: what has not begun never will
            pool.shutdown(wait=False, cancel_futures=True)
            raise
