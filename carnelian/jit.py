"""How functions are compiled, and where the results are kept. Imports numba, and only when something is compiled."""

import importlib.util
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from functools import cache, cached_property, update_wrapper
from typing import Any

from carnelian.errors import MissingExtraError

#: Numba counts no references to arrays: at one step of output in a small beam the counting takes longer than the search
#: (measured by benchmarks/decoding.py on its peaky sets).
UNCOUNTED: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False}

#: what the uncompiled function does in milliseconds
FEW_OPERATIONS = 4096


def cached(function: Callable) -> Any:
    """Compiles a function at its first call, and keeps the result on disk."""
    return numba_module().njit(cache=True)(function)


def released(function: Callable) -> Any:
    """Compiles a function that lets other threads run meanwhile, and keeps the result on disk."""
    return numba_module().njit(cache=True, nogil=True)(function)


def vectorized(function: Callable) -> Any:
    """Compiles as `released` does, with maxima and sums in any order, so that vectors take them; no number may be NaN."""
    return numba_module().njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc"})(function)


def borrowing(function: Callable) -> Any:
    """Compiles a function that only works on arrays which its caller holds, and neither makes nor returns any."""
    return numba_module().njit(**UNCOUNTED)(function)


def inlined(function: Callable) -> Any:
    """Compiles the same kind of function into the functions that call it."""
    return numba_module().njit(forceinline=True, **UNCOUNTED)(function)


@cache
def numba_module() -> Any:
    """Returns numba, set up so that compiled functions are kept in a folder of the user's own.

    Files of its cache that are damaged, by a power failure say, count as missing: the functions are compiled again.
    """
    import numba
    from numba.core import caching

    config: Any = numba.config
    files: Any = caching.IndexDataCacheFile
    beside, home = os.path.dirname(__file__), os.path.expanduser("~")
    if not config.CACHE_DIR and not any(os.access(folder, os.W_OK) for folder in (beside, home)):
        config.CACHE_DIR = private_folder()
    load_index, load_data = files._load_index, files._load_data

    def sound_index(self: Any) -> dict:
        try:
            return load_index(self)
        except Exception:  # a pickle that is cut can fail in any way
            return {}

    def sound_data(self: Any, name: str) -> Any:
        try:
            return load_data(self, name)
        except Exception:
            raise OSError("damaged") from None  # which numba takes for a missing file

    files._load_index, files._load_data = sound_index, sound_data
    return numba


def private_folder() -> str:
    """Returns a folder for temporary files that nobody else can write to, the same one at each call if possible.

    Numba unpickles what lies in its cache, so that a folder of another user could run that user's code.
    """
    folder = os.path.join(tempfile.gettempdir(), f"carnelian-compiled-{os.getuid()}")
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            return tempfile.mkdtemp(prefix="carnelian-compiled-")
    return folder


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
        names = self.function.__globals__
        for name in self.function.__code__.co_names:  # compiled code calls compiled code by its name
            if isinstance(names.get(name), Compiled):
                names[name] = names[name].dispatcher
        return numba_module().njit(cache=True, **self.options)(self.function)


def compiled(**options: Any) -> Callable[[Callable], Any]:
    """A decorator: the function is compiled at its first call, and the result kept on disk; `options` as `numba.njit` takes them."""
    return lambda function: Compiled(function, options)


@cache  # looking for a package takes as long as decoding an utterance (benchmarks/decoding.py, greedy)
def has_numba() -> bool:
    """Whether Numba is installed."""
    return importlib.util.find_spec("numba") is not None
