"""Work on many recordings at once, or on parts of a text: threads, since the functions that do it release the interpreter's lock."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Argument], Result], values: Iterable[Argument], workers: int | None = None, ahead: int = 2048
) -> Iterator[Result]:
    """`function` of each value, in the values' order; takes values at most `ahead` before the results that are wanted."""
    values, waiting = iter(values), deque[Future[Result]]()
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        try:
            for value in values:
                waiting.append(pool.submit(function, value))
                while waiting and (len(waiting) == ahead or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:  # stopped, or no more results are wanted: what has not begun never will
            pool.shutdown(wait=False, cancel_futures=True)
            raise
