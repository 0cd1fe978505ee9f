"""The binary form of an n-gram model: a line of magic, a JSON header, then arrays that are mapped, not read.

Layout: MAGIC, eight bytes of header length, the header (UTF-8 JSON: whole file's size, counts, special words, and of
each array its name, fields, shape and place), then the arrays, each at a multiple of 64. It holds numbers only.
"""

import json
import math
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

from carnelian.errors import LanguageModelError
from carnelian.files import written
from carnelian.ngram.model import ARC, STATE, NGram, Tables

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
    places, end = [], 0
    for name, array in arrays.items():
        places.append(end)
        kind = [list(part) for part in array.dtype.descr] if array.dtype.names else array.dtype.str
        header["arrays"].append([name, kind, list(array.shape), end])
        end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    # the size has a fixed width, so that writing it does not move what follows
    text = json.dumps(header | {"size": f"{end:020}"}).encode()
    start = -(-(len(BINARY_MAGIC) + 8 + len(text)) // ALIGNMENT) * ALIGNMENT
    with written(path, "wb", force=False) as file:
        file.write(BINARY_MAGIC + len(text).to_bytes(8, "little") + text)
        for place, array in zip(places, arrays.values()):
            file.seek(start + place)
            file.write(array.data)
        file.truncate(start + end)


def _type(kind: Any) -> np.dtype:
    """The array type a header names; numbers and structures of numbers only."""
    dtype = np.dtype([(str(name), str(part)) for name, part in kind] if isinstance(kind, list) else str(kind))
    if dtype.hasobject:
        raise ValueError("objects")
    return dtype


def read_binary(path: str | Path) -> NGram:
    """A model from its binary form, mapped into memory: what is not asked for is not read."""
    cut = f"{path}: not a whole language model (binary form). Build or copy it again"
    with Path(path).open("rb") as file:
        opening = file.read(len(BINARY_MAGIC) + 8)
        if not opening.startswith(BINARY_MAGIC):
            raise LanguageModelError(f"{path}: not a language model in binary form")
        length = int.from_bytes(opening[len(BINARY_MAGIC) :], "little")
        if len(opening) < len(BINARY_MAGIC) + 8 or length > LARGEST_HEADER:
            raise LanguageModelError(cut)
        text = file.read(length)
        start = -(-(len(opening) + length) // ALIGNMENT) * ALIGNMENT
        try:
            header = json.loads(text)
            size = int(header["size"])
            if os.fstat(file.fileno()).st_size != start + size:
                raise ValueError("size")
            # copy on write: the arrays count as writable, which is the type compiled code is cached for
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            arrays = {}
            for name, kind, shape, place in header["arrays"]:
                dtype = _type(kind)
                if place < 0 or place % ALIGNMENT or place + math.prod(shape) * dtype.itemsize > size:
                    raise ValueError(name)
                arrays[name] = np.frombuffer(mapped, dtype, math.prod(shape), start + place).reshape(shape)
            tables = Tables(arrays.pop("unigrams"), arrays.pop("arcs"), arrays.pop("states"))
            words = arrays.pop("text")
            model = NGram(
                tables,
                words,
                tuple(int(count) for count in header["counts"]),
                int(header["unknown"]),
                int(header["start"]),
                int(header["end"]),
                {name.removeprefix("extra."): array for name, array in arrays.items()},
            )
            _check(model)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise LanguageModelError(cut) from None
    return model


def _check(model: NGram) -> None:
    """Refuse tables that compiled code could not walk safely; looks at shapes and a few values, not at all of them."""
    unigrams, arcs, states, _ = model.tables
    count = len(unigrams)
    whole = (
        unigrams.dtype == np.float32
        and arcs.dtype == ARC
        and states.dtype == STATE
        and model.text.dtype == np.uint8
        and unigrams.ndim == arcs.ndim == states.ndim == 1
        and len(arcs) & (len(arcs) - 1) == 0
        and len(arcs) > 0
        and len(states) >= count == model.counts[0] > 0
        and 0 <= model.unknown < count
        and -1 <= model.start < count
        and -1 <= model.end < count
    )
    if not whole:
        raise ValueError("tables")
