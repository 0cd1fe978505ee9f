"""How functions are compiled: at their first call, so that no import waits for Numba. The door to numba for all but the search."""

import importlib.util
import sys
from collections.abc import Callable
from functools import cache, cached_property, update_wrapper
from typing import Any

from carnelian.errors import MissingExtraError

#: Numba counts no references to arrays: at one step of output in a small beam the counting takes longer than the search.
UNCOUNTED: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False}

#: what the uncompiled function does in milliseconds
FEW_OPERATIONS = 4096


def borrowing(function: Callable) -> Any:
    """Compiles a function that only works on arrays which its caller holds, and neither makes nor gives any."""
    import numba

    return numba.njit(**UNCOUNTED)(function)


def inlined(function: Callable) -> Any:
    """Compiles the same kind of function into the functions that call it."""
    import numba

    return numba.njit(forceinline=True, **UNCOUNTED)(function)


class Compiled:
    """A function that is compiled at its first call, with those that it calls; `function` is the uncompiled one."""

    def __init__(self, function: Callable, options: dict[str, Any]):
        self.function, self.options = function, options
        update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        return self.dispatcher(*arguments)

    def for_work(self, operations: int) -> Callable:
        """The compiled function; where Numba is not installed, or for few operations not yet loaded, the uncompiled one."""
        little = operations < FEW_OPERATIONS and "numba" not in sys.modules
        return self.function if little or not has_numba() else self.dispatcher

    @cached_property
    def dispatcher(self) -> Any:
        """The compiled function; MissingExtraError where Numba is not installed."""
        if not has_numba():
            raise MissingExtraError("numba", "search", f"{self.function.__module__}.{self.function.__name__}")
        import numba

        names = self.function.__globals__
        for name in self.function.__code__.co_names:  # compiled code calls compiled code by its name
            if isinstance(names.get(name), Compiled):
                names[name] = names[name].dispatcher
        return forgiving(numba.njit(cache=True, **self.options)(self.function))


def forgiving(dispatcher: Any) -> Any:
    """The compiled function, for which a damaged file of its cache (a power failure) is as none: Numba would raise pickle's errors."""
    files = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    for name, nothing in (("_load_index", dict), ("load", lambda: None)):
        if original := getattr(files, name, None):

            def load(*arguments: Any, original: Callable = original, nothing: Callable = nothing) -> Any:
                try:
                    return original(*arguments)
                except Exception:  # pickle raises any
                    return nothing()

            setattr(files, name, load)
    return dispatcher


def compiled(**options: Any) -> Callable[[Callable], Any]:
    """A decorator: the function is compiled at its first call, and the result kept on disk; `options` as `numba.njit` takes them."""
    return lambda function: Compiled(function, options)


@cache  # looking for a package takes as long as decoding an utterance (benchmarks/decoding.py, greedy)
def has_numba() -> bool:
    """Whether Numba is installed."""
    return importlib.util.find_spec("numba") is not None
