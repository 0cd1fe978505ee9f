"""Reads the binary n-gram models of the CMU-Cambridge toolkit, version 2, of which SCTK's tests have one."""

import math
from pathlib import Path

import numpy as np

WORDS_IN_A_TABLE = 65_000  # positions are kept in two bytes, with tables of where they overflow
GOOD_TURING = 1


class CmuModel:
    """Probabilities of words; counts are kept in two bytes, by tables, back-off weights in four."""

    def __init__(self, path: Path):
        self.data, self.place = path.read_bytes(), 0
        assert self.one(">i4") == 970314
        self.order, self.words, _, _, counts = (int(each) for each in self.several(">u2", 5))
        assert self.one(">u2") == GOOD_TURING
        self.several(">f8", 2), self.several(">u2", 2), self.one(">i4"), self.several(">f8", 2)
        assert self.several(">u2", 2).tolist() == [0, 1]  # counts in two bytes, weights in four
        self.one(">u2")
        self.numbers = self.vocabulary()
        marginal = self.several(">u2", self.words + 1)
        tables = [self.several(">i4", counts + 1) for _ in range(self.order)]
        sizes = self.several(">u2", self.order)
        overflows = [self.several(">i4", size) for size in sizes]
        self.unigrams = self.several(">f8", self.words + 1)
        self.several(">f8", self.words + 1), self.several(">u2", self.words + 1), self.several(">u2", self.order)
        seen, ranges = self.several(">u2", self.order), self.several(">u2", self.order)
        for size in seen:
            self.several(">i4", size + 1)
        self.discounts = [self.several(">f8", size + 1) for size in ranges]
        self.children(tables, marginal, overflows)

    def one(self, kind: str):
        return self.several(kind, 1)[0].item()

    def several(self, kind: str, count: int) -> np.ndarray:
        found = np.frombuffer(self.data, kind, int(count), self.place)
        self.place += found.nbytes
        return found

    def vocabulary(self) -> dict[str, int]:
        self.one(">i4"), self.several(">f8", 2), self.one(">i4")
        slots, _ = self.several(">i4", 2)
        values = self.several(">i4", slots)
        strings = self.several("u1", self.one(">i4")).tobytes().split(b"\0")
        return {text.decode(): int(value) for text, value in zip(strings, values) if text}

    def children(self, tables, marginal, overflows) -> None:
        """Reads the tree: each n-gram's count and back-off weight, and where those that are longer by a word begin."""
        sizes = [self.words + 1, *self.several(">i4", self.order)[1:]]
        counts = [self.several(">u2", sizes[0])]
        weights, begins = [self.several(">f4", sizes[0])], [self.several(">u2", sizes[0])]
        self.ids = [None, *(self.several(">u2", size) for size in sizes[1:])]
        counts += [self.several(">u2", size) for size in sizes[1:]]
        weights += [self.several(">f4", size) for size in sizes[1:-1]]
        begins += [self.several(">u2", size) for size in sizes[1:-1]]
        assert self.place == len(self.data)
        self.counts = [table[each] for table, each in zip(tables, counts)]
        self.marginal, self.weights = tables[0][marginal], weights
        self.begins = [
            np.append(short + WORDS_IN_A_TABLE * (np.searchsorted(over, np.arange(len(short)), "right") - 1), size)
            for short, over, size in zip(begins, overflows, sizes[1:])
        ]

    def places(self, ids: list[int]) -> list[int]:
        """The places of an n-gram's beginnings, as many as there are."""
        found: list[int] = []
        for depth, number in enumerate(ids):
            if not depth:
                if self.marginal[number] <= 0:
                    break
                found.append(number)
                continue
            begin, end = self.begins[depth - 1][found[-1]], self.begins[depth - 1][found[-1] + 1]
            place = begin + int(np.searchsorted(self.ids[depth][begin:end], number))
            if place >= end or self.ids[depth][place] != number:
                break
            found.append(place)
        return found

    def probability(self, ids: list[int]) -> float:
        if len(ids) == 1:
            return float(self.unigrams[ids[0]])
        found, context = self.places(ids), len(ids) - 1
        if len(found) == len(ids):
            count = self.counts[context][found[-1]]
            discounts = self.discounts[context]
            kept = count * (discounts[count] if count < len(discounts) else 1.0)
            before = self.marginal[found[0]] if context == 1 else self.counts[context - 1][found[-2]]
            return float(kept / before)
        weight = self.weights[context - 1][found[-1]] if len(found) == context else 1.0
        return float(weight) * self.probability(ids[1:])

    def bits(self, words: tuple[str, ...], unknown: float) -> float:
        """The information of the last word after the others."""
        if words[-1] not in self.numbers:
            return unknown
        return -math.log2(self.probability([self.numbers.get(word, 0) for word in words]))
