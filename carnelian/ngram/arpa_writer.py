"""ARPA files written, plain or gzip; as many threads as the machine has processors make the lines."""

import gzip
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO

import numpy as np

from carnelian.files import written
from carnelian.jit import cached, released
from carnelian.ngram.hashed import LN10
from carnelian.ngram.model import NGramBlock
from carnelian.parallel import in_parallel

LOG10_ZERO = 99.0  # written for a logarithm of nothing
LINES_AT_ONCE = 1 << 16  # lines that a thread makes
STRIDE = 16  # bytes copied at once when lines are written (benchmarks/language_model.py)
NUMBER_ROOM = 64  # bytes that surely hold a number
DIGITS = np.array([list(f"{number:04}".encode()) for number in range(10_000)], np.uint8)  # four written at once


@cached
def _put_number(out, position, value):
    """Writes a number with up to seven decimals, without zeros at its end; returns the position after it."""
    if value < 0:
        out[position] = 45
        position += 1
        value = -value
    scaled = np.int64(value * 10_000_000 + 0.5)
    whole, rest = scaled // 10_000_000, scaled % 10_000_000 * 10
    digits, limit = 1, 10
    while whole >= limit:
        digits += 1
        limit *= 10
    for index in range(digits - 1, -1, -1):
        out[position + index] = 48 + whole % 10
        whole //= 10
    position += digits
    if rest:
        out[position] = 46
        out[position + 1 : position + 5] = DIGITS[rest // 10_000]
        out[position + 5 : position + 9] = DIGITS[rest % 10_000]
        position += 8
        while out[position - 1] == 48:
            position -= 1
    return position


@released
def _put_lines(out, text, begins, block, row, with_backoffs):
    """Writes n-grams from a row of the block on as lines, until `out` is full; returns the next row and the bytes written.

    begins: where each word begins in the text, which has a gap of `STRIDE` bytes at its end.
    """
    words, probabilities, backoffs = block
    position = 0
    order = words.shape[1]
    while row < words.shape[0]:
        line = position
        if position + 2 * NUMBER_ROOM > out.shape[0]:
            break
        position = _put_number(out, position, probabilities[row])
        out[position] = 9
        position += 1
        for column in range(order):
            begin = begins[words[row, column]]
            length = begins[words[row, column] + 1] - begin  # with the newline that ends it
            if position + length + STRIDE + NUMBER_ROOM > out.shape[0]:
                return row, line
            for step in range(0, length, STRIDE):
                for index in range(STRIDE):  # a fixed length, which becomes one instruction; too much is written over
                    out[position + step + index] = text[begin + step + index]
            position += length
            out[position - 1] = 32 if column < order - 1 else 9
        if with_backoffs:
            position = _put_number(out, position, backoffs[row])
            position += 1
        out[position - 1] = 10
        row += 1
    return row, position


def write_arpa(
    path: str | Path, text: np.ndarray, sizes: Sequence[int], blocks: Callable[[int], Iterable[NGramBlock]]
) -> None:
    """Writes an ARPA file (gzip where the name ends in .gz), whole or not at all.

    text: the words as `NGram.text` has them; sizes: how many n-grams there are of each length; blocks(n): those of n words.
    """
    text = np.append(text, np.full(1 + STRIDE, 10, np.uint8))
    begins = np.append(0, np.flatnonzero(text[: len(text) - STRIDE] == 10) + 1)
    room = max(1 << 20, len(sizes) * (2 * STRIDE + int(np.diff(begins).max())))

    def lines_of(block: NGramBlock) -> list[bytes]:
        probabilities = np.maximum(block.probabilities / LN10, -LOG10_ZERO)
        backoffs = np.maximum(block.backoffs / LN10, -LOG10_ZERO)
        in_log10, row, out, pieces = NGramBlock(block.words, probabilities, backoffs), 0, np.empty(room, np.uint8), []
        while row < len(block.words):
            row, used = _put_lines(out, text, begins, in_log10, row, block.words.shape[1] < len(sizes))
            pieces.append(out[:used].tobytes())
        return pieces

    with written(path, "wb", force=False) as plain, packed(plain, path) as file:
        header = "".join(f"ngram {order}={size}\n" for order, size in enumerate(sizes, 1))
        file.write(f"\\data\\\n{header}".encode())
        for order in range(1, len(sizes) + 1):
            file.write(f"\n\\{order}-grams:\n".encode())
            for pieces in in_parallel(lines_of, _parts(blocks(order)), ahead=2 * (os.cpu_count() or 1)):
                file.writelines(pieces)
        file.write(b"\n\\end\\\n")


def _parts(blocks: Iterable[NGramBlock]) -> Iterator[NGramBlock]:
    """Yields blocks of at most LINES_AT_ONCE n-grams, one after another."""
    for block in blocks:
        for low in range(0, len(block.words), LINES_AT_ONCE):
            yield NGramBlock(*(part[low : low + LINES_AT_ONCE] for part in block))


def packed(file: IO[bytes], path: str | Path) -> AbstractContextManager:
    """The file itself, or one that packs what is written to it where the path ends in .gz."""
    return gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6) if str(path).endswith(".gz") else nullcontext(file)
