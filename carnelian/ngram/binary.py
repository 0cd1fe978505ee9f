"""The binary form of an n-gram model: a line of magic, a JSON header, then arrays that are mapped, not read.

Layout: MAGIC, eight bytes of header length, the header (UTF-8 JSON: whole file's size, counts, special words, and of
each array its name, fields, shape and position), then the arrays, each at a multiple of 64. It holds numbers only.
"""

import json
import math
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

from carnelian.errors import LanguageModelError
from carnelian.files import reading, written
from carnelian.ngram.checking import check_model
from carnelian.ngram.model import NGram, Tables

BINARY_MAGIC = b"carnelian n-gram model 1\n"
ALIGNMENT = 64
LARGEST_HEADER = 1 << 20


def save_binary(model: NGram, path: str | Path) -> None:
    """Write a model with its extra arrays; the file appears whole or not at all."""
    unigrams, arcs, states, _ = model.listed().tables
    arrays = {"unigrams": unigrams, "arcs": arcs, "states": states, "text": model.text}
    arrays |= {f"extra.{name}": array for name, array in model.extra.items()}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    header: dict[str, Any] = {
        "counts": [int(count) for count in model.counts],
        "unknown": int(model.unknown),
        "start": int(model.start),
        "end": int(model.end),
        "arrays": [],
        "size": 0,
    }
    positions, end = [], 0
    for name, array in arrays.items():
        positions.append(end)
        kind = [list(part) for part in array.dtype.descr] if array.dtype.names else array.dtype.str
        header["arrays"].append([name, kind, list(array.shape), end])
        end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    # the size has a fixed width, so that writing it does not move what follows
    text = json.dumps(header | {"size": f"{end:020}"}).encode()
    start = -(-(len(BINARY_MAGIC) + 8 + len(text)) // ALIGNMENT) * ALIGNMENT
    with written(path, "wb", force=False) as file:
        file.write(BINARY_MAGIC + len(text).to_bytes(8, "little") + text)
        for position, array in zip(positions, arrays.values()):
            file.seek(start + position)
            file.write(array.data)
        file.truncate(start + end)


def _type(kind: Any) -> np.dtype:
    """The array type a header names; numbers and structures of numbers only."""
    dtype = np.dtype([(str(name), str(part)) for name, part in kind] if isinstance(kind, list) else str(kind))
    if dtype.hasobject:
        raise ValueError("objects")
    return dtype


def read_binary(path: str | Path) -> NGram:
    """Returns the model in a file of the binary form, mapped into memory.

    All values are checked, since compiled code trusts them. Raises LanguageModelError for a file that is cut or damaged.
    """
    with reading(path, "a language model in binary form", LanguageModelError):
        with Path(path).open("rb") as file:
            opening = file.read(len(BINARY_MAGIC) + 8)
            length = int.from_bytes(opening[len(BINARY_MAGIC) :], "little")
            if not opening.startswith(BINARY_MAGIC) or length > LARGEST_HEADER:
                raise ValueError("it does not begin as one")
            header = json.loads(file.read(length))
            start = -(-(len(opening) + length) // ALIGNMENT) * ALIGNMENT
            size = int(header["size"])
            if os.fstat(file.fileno()).st_size != start + size:
                raise ValueError(f"it says that it has {start + size} bytes")
            # copy on write: the arrays count as writable, which is the type compiled code is cached for
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        arrays = {name: _array(mapped, start, size, *position) for name, *position in header["arrays"]}
        tables = Tables(arrays.pop("unigrams"), arrays.pop("arcs"), arrays.pop("states"))
        model = NGram(
            tables,
            arrays.pop("text"),
            tuple(int(count) for count in header["counts"]),
            int(header["unknown"]),
            int(header["start"]),
            int(header["end"]),
            {name.removeprefix("extra."): array for name, array in arrays.items()},
        )
        check_model(model)
        return model


def _array(mapped: mmap.mmap, start: int, size: int, kind: Any, shape: list[int], position: int) -> np.ndarray:
    """Returns one of the file's arrays; raises ValueError for one that does not lie in the file."""
    dtype = _type(kind)
    if min([position, *shape]) < 0 or position % ALIGNMENT or position + math.prod(shape) * dtype.itemsize > size:
        raise ValueError("an array lies outside of it")
    return np.frombuffer(mapped, dtype, math.prod(shape), start + position).reshape(shape)
