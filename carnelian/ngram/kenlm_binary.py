"""KenLM's binaries (format version 5), read without KenLM. The hash tables of its "probing" models are searched in the mapped
file; its tries, quantized and with compressed pointers too, become arrays.

Places and sizes as in KenLM's lm/binary_format.cc, vocab.cc, search_hashed.hh, trie.cc, bhiksha.cc and quantize.cc.
"""

import mmap
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from carnelian.errors import LanguageModelError
from carnelian.files import reading
from carnelian.jit import cached
from carnelian.ngram.checking import sound_entries
from carnelian.ngram.hashed import HIGHEST_ORDER, LN10, MIDDLE_ORDERS, hashed_tables
from carnelian.ngram.model import (
    EMPTY,
    LARGEST_BACKOFF,
    LARGEST_LOG10,
    LONGEST,
    STATE,
    NGram,
    NGramBlock,
    NGramBuilder,
    Tables,
    empty_arcs,
)

KENLM_MAGIC = b"mmap lm http://kheafield.com/code"
OPENING = struct.pack("<56s3f3IQ", KENLM_MAGIC + b" format version 5\n", 0.0, 1.0, -0.5, 1, 0xFFFFFFFF, 0, 1)
FIXED = struct.Struct("<B3xfIB3xI")  # order, slots per n-gram in a hash table, kind, whether words follow, version
KENLM_TYPES = ("probing", "rest costs", "trie", "quantized trie", "compressed trie", "quantized and compressed trie")
VALUES = np.dtype([("probability", "<f4"), ("backoff", "<f4")])
UNIGRAM = np.dtype([("probability", "<f4"), ("backoff", "<f4"), ("next", "<u8")])
SIGN = np.uint32(1 << 31)


def read_kenlm(path: str | Path) -> NGram:
    """Returns the model in a KenLM binary. Hash tables stay mapped; all values are checked, since compiled code trusts them.

    Raises LanguageModelError for a file that is cut, of another version, with rest costs, or without its words.
    """
    with reading(path, "a KenLM binary", LanguageModelError):
        with Path(path).open("rb") as file:
            # copy on write: the arrays count as writable, which is the type compiled code is cached for
            data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
        return _Binary(path, data).model()


class _Binary:
    """A binary's bytes, read from front to back: `position` is where the next part begins."""

    def __init__(self, path: str | Path, data: np.ndarray):
        self.data = data
        if data[: len(OPENING)].tobytes() != OPENING:
            raise LanguageModelError(
                f"{path}: a KenLM binary of another version than 5, or that was not finished. Build it again"
            )
        order, self.slots_each, self.kind, has_words, _ = FIXED.unpack_from(data.data, len(OPENING))
        position = len(OPENING) + FIXED.size
        self.counts = [int(count) for count in np.frombuffer(data, "<u8", order, position)]
        self.position = -(-(position + 8 * order) // 8) * 8
        if not 2 <= order <= LONGEST or self.kind >= len(KENLM_TYPES) or sum(self.counts) > len(data) * 8:
            raise ValueError("its header does not fit its size")
        if KENLM_TYPES[self.kind] == "rest costs" or not has_words:
            lack = "without its words" if not has_words else "with rest costs"
            raise LanguageModelError(f"{path}: a KenLM binary {lack}. Build it again, without options that do so")

    def model(self) -> NGram:
        return self.probing() if KENLM_TYPES[self.kind] == "probing" else self.trie()

    def take(self, count: int, dtype: np.dtype | str) -> np.ndarray:
        """The next values."""
        values = np.frombuffer(self.data, dtype, count, self.position)
        self.position += values.nbytes
        return values

    def words(self, count: int) -> list[str]:
        """The words, which stand at the end."""
        words = self.data[self.position :].tobytes().decode().split("\0")[:-1]
        if len(words) != count or words[0] != "<unk>" or any("\n" in word for word in words):
            raise ValueError("its words are not as many as its 1-grams")
        return words

    def slots(self, count: int) -> int:
        """Returns how many slots the hash table of `count` n-grams has."""
        return max(count + 1, int(np.float32(self.slots_each) * np.float32(count)))

    def probing(self) -> NGram:
        """A model in hash tables."""
        _, known = self.take(2, "<u4").tolist()
        if known > self.counts[0] + 1:
            raise ValueError("its words are not as many as its 1-grams")
        self.position += 12 * self.slots(self.counts[0])  # from hashes of words to their numbers
        unigrams = self.take(self.counts[0] + 1, VALUES)[:known]
        starts = np.cumsum([0, *map(self.slots, self.counts[1:-1])])
        middle = self.take(int(starts[-1]), MIDDLE_ORDERS)
        longest = self.take(self.slots(self.counts[-1]), HIGHEST_ORDER)
        words = self.words(known)
        tables = [(middle, begin, end) for begin, end in pairwise(starts.tolist())] + [(longest, 0, len(longest))]
        for table, begin, end in tables:
            backoffs = table["backoff"] if table is middle else table["probability"]
            if not sound_entries(table["key"], table["probability"], backoffs, begin, end):
                raise ValueError("a value is no logarithm, or a hash table is full")
        states = np.zeros(known, STATE)
        states["backoff"], states["shorter"] = natural(unigrams["backoff"]), EMPTY
        probabilities = natural(-np.abs(unigrams["probability"]))  # the sign tells KenLM something else
        mapped = Tables(probabilities, empty_arcs(0), states, hashed_tables(middle, starts, longest))
        index = {word: number for number, word in enumerate(words)}
        text = np.frombuffer("\n".join(words).encode(), np.uint8)
        counts = (known, *self.counts[1:])
        return NGram(mapped, text, counts, 0, index.get("<s>", -1), index.get("</s>", -1))

    def trie(self) -> NGram:
        """A model in a trie, as arrays."""
        known = int(self.take(1, "<u8")[0]) + 1
        self.position += 8 * self.counts[0]  # hashes of words
        if known != self.counts[0]:
            raise ValueError("its words are not as many as its 1-grams")
        first, *longer = self.blocks()
        builder = NGramBuilder(self.words(known), first.probabilities, first.backoffs, sum(self.counts[1:]))
        for block in longer:
            builder.add(*block)
        return builder.finish()

    def blocks(self) -> Iterator[NGramBlock]:
        """The n-grams of each length. In the trie the last word comes first, and what stands before it are its children."""
        bins = self.bins() if "quantized" in KENLM_TYPES[self.kind] else None
        known, longest = self.counts[0], len(self.counts)
        unigrams = self.take(known + 2, UNIGRAM)[: known + 1]
        rows = np.arange(known, dtype=np.int32)[:, None]
        yield NGramBlock(rows, natural(unigrams["probability"][:-1]), natural(unigrams["backoff"][:-1]))
        children = unigrams["next"]
        most = int(self.data[self.position + 1]) if "compressed" in KENLM_TYPES[self.kind] and longest > 2 else None
        for order, count in enumerate(self.counts[1:], 2):
            high, low_bits = self.pointers(count + 1, self.counts[order], most) if order < longest else (None, 0)
            widths = [len(each).bit_length() - 1 for each in bins[order - 2]] if bins else [31, 32]
            widths = widths[:1] if order == longest else widths
            words, *codes, low = self.fields(count + 1, [known.bit_length(), *widths, low_bits])
            words, codes = words[:-1], [each[:-1] for each in codes]
            sizes: np.ndarray = np.diff(children.astype(np.int64))
            if np.any(sizes < 0) or sizes.sum() != count or np.any(words >= known):
                raise ValueError("its trie does not fit together")
            rows = np.column_stack([np.repeat(rows, sizes, axis=0), words.astype(np.int32)])
            if bins:
                values = [each[code] for each, code in zip(bins[order - 2], codes)][::-1]
            else:
                values = [code.astype(np.uint32) for code in codes]
                values = [each.view(np.float32) for each in (values[0] | SIGN, *values[1:])]
            backoffs = values[1] if order < longest else np.zeros(count, np.float32)
            yield NGramBlock(rows[:, ::-1], natural(values[0]), natural(backoffs))
            children = low if high is None else low | high << np.uint64(low_bits)

    def bins(self) -> list[list[np.ndarray]]:
        """Returns the values of a quantized trie's codes, log10: of back-offs and of probabilities of each length from 2 on."""
        _, probability_bits, backoff_bits = self.take(8, "u1")[:3].tolist()
        found = []
        for _ in self.counts[2:]:
            probabilities = self.take(1 << probability_bits, "<f4")
            found.append([self.take(1 << backoff_bits, "<f4"), probabilities])
        return [*found, [self.take(1 << probability_bits, "<f4")]]

    def pointers(self, rows: int, highest: int, most: int | None) -> tuple[np.ndarray | None, int]:
        """Returns the high bits of each row's pointer, where they are stored separately (else None), and the number of low bits.

        highest: the largest pointer; most: the largest number of high bits to store separately, None where the trie is
        not compressed. Pointers never fall from row to row (KenLM's lm/bhiksha.cc): the low bits are stored with each
        row, and a list has for each value of the high bits the first row with it. KenLM separates as many bits as take
        the least space, and so does this.
        """
        bits = highest.bit_length()
        if most is None:
            return None, bits
        _, apart = min(((highest >> (bits - chop)) * 64 - rows * chop, chop) for chop in range(min(bits, most) + 1))
        begin = self.position
        self.position = -(-begin // 8) * 8 + 8
        grows = self.take((highest >> (bits - apart)) + 1, "<u8")
        self.position = begin + 8 + grows.nbytes + 7
        high = np.searchsorted(grows, np.arange(rows, dtype=np.uint64), "right") - 1
        return high.astype(np.uint64), bits - apart

    def fields(self, rows: int, widths: list[int]) -> list[np.ndarray]:
        """The fields of the next rows, each (rows,) uint64; they lie bit by bit beside one another."""
        total = sum(widths)
        end = self.position + (rows * total + 7) // 8 + 8
        if end > len(self.data):
            raise ValueError("it is cut short")
        bit = 8 * self.position
        found = []
        for width in widths:
            found.append(_bits(self.data, bit, total, rows, width))
            bit += width
        self.position = end
        return found


def natural(values: np.ndarray) -> np.ndarray:
    """Natural logarithms from those to base 10."""
    if not np.all((values > -LARGEST_LOG10) & (values <= LARGEST_BACKOFF)):
        raise ValueError("a value is no logarithm")
    return values * LN10


@cached
def _bits(data, first, stride, count, width):
    """`count` numbers of `width` bits (at most 57), `stride` bits apart, the first at bit `first`: (count,) uint64."""
    values = np.zeros(count, np.uint64)
    mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    for index in range(count):
        bit = first + index * stride
        value = np.uint64(0)
        for byte in range((bit & 7) + width + 7 >> 3):
            value |= np.uint64(data[(bit >> 3) + byte]) << np.uint64(8 * byte)
        values[index] = (value >> np.uint64(bit & 7)) & mask
    return values
