"""Transcripts with alternates as networks of words, in the order in which sclite builds and visits them.

The order decides between equally cheap alignments, so it is that of NIST's SCTK 2.4 (net_adt.c, text.c): alternates
follow each other as written, and words that are split into characters go behind those that are not.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from carnelian.errors import ScoringError
from carnelian.files import one_line

DEEPEST = 50  # alternates inside each other
NULL = "@"
"""The word for "nothing" among alternates; it may be passed without an error."""
IN_ALTERNATES = re.compile(r"[{}/]|[^\s{}/]+")
OUTSIDE = re.compile(r"\{|[^\s{]\S*")
WORD_TAG = re.compile(r"(?<!\\);")


@dataclass(frozen=True, slots=True)
class NetworkWord:
    """A word as scored, with its times in seconds where they are known.

    deletable: it may be left out, or be added, without an error. fragment: it is cut, its hyphen stands for the rest.
    weight: what it counts, where words are weighted.
    """

    text: str
    start: float = 0.0
    end: float = 0.0
    deletable: bool = False
    fragment: bool = False
    weight: float = 0.0


NetworkItem: TypeAlias = "NetworkWord | list[list[NetworkItem]]"
"""A word, or alternates: sequences of items of which any one may have been spoken."""


@dataclass(slots=True, eq=False)
class Node:
    """A point between words; both lists are in sclite's order."""

    incoming: list["Arc"] = field(default_factory=list)
    outgoing: list["Arc"] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Arc:
    """A word between two nodes."""

    word: NetworkWord
    source: Node
    target: Node


@dataclass(slots=True, eq=False)
class WordNetwork:
    """Every reading of a transcript: the paths from `start` to `stop`."""

    start: Node
    stop: Node

    def arrays(self) -> tuple[list[NetworkWord], np.ndarray, np.ndarray, np.ndarray]:
        """Words in topological order (the first, index 0, is the empty beginning) and how they follow each other.

        Gives (words, predecessors, offsets, last): the predecessors of word i are
        `predecessors[offsets[i]:offsets[i + 1]]`, `last` are the words that may end the transcript.
        """
        arcs = self._topological()
        index = {id(arc): number for number, arc in enumerate(arcs, 1)}
        before = [[index[id(arc)] for arc in each.source.incoming] or [0] for each in arcs]
        offsets = np.cumsum([0, 0, *map(len, before)])
        predecessors = np.array([number for numbers in before for number in numbers], dtype=np.int64)
        last = np.array([index[id(arc)] for arc in self.stop.incoming] or [0], dtype=np.int64)
        return [NetworkWord(""), *(arc.word for arc in arcs)], predecessors, offsets, last

    def expand(self, pieces: Callable[[NetworkWord], Sequence[NetworkWord]]) -> None:
        """Puts several words in a row in the place of a word, where `pieces` gives another text than the word's."""
        for node in self._depth_first():
            for arc in list(node.outgoing):
                row = pieces(arc.word)
                if [word.text for word in row] != [arc.word.text]:
                    node.outgoing.remove(arc)
                    arc.target.incoming.remove(arc)
                    connect(node, arc.target, row)

    def weigh(self, weigh: Callable[[tuple[str, ...]], float], order: int) -> None:
        """Sets the weight of every word: the mean of `weigh` over its contexts of up to `order` - 1 words."""
        for arc in self._topological():
            contexts = [] if arc.word.deletable else self._contexts(arc.source, order - 1)
            weights = [weigh((*context, arc.word.text)) for context in contexts]
            arc.word = replace(arc.word, weight=sum(weights) / len(weights) if weights else 0.0)

    def _contexts(self, node: Node, words: int) -> list[tuple[str, ...]]:
        """Every sequence of up to `words` words that ends at a node."""
        if node is self.start or not words:
            return [()]
        return [(*before, arc.word.text) for arc in node.incoming for before in self._contexts(arc.source, words - 1)]

    def _depth_first(self) -> list[Node]:
        """The nodes in the order in which sclite visits them to change their arcs."""
        found, visited, fringe = [], {id(self.start)}, deque([self.start])
        while fringe:
            node = fringe.popleft()
            found.append(node)
            for arc in node.outgoing:
                if id(arc.target) not in visited:
                    visited.add(id(arc.target))
                    fringe.appendleft(arc.target)
        return found

    def _topological(self) -> list[Arc]:
        """The arcs, each after all that may precede it."""
        waiting = {id(node): len(node.incoming) for node in self._depth_first()}
        arcs, fringe = [], deque([self.start])
        while fringe:
            node = fringe.popleft()
            for arc in node.outgoing:
                waiting[id(arc.target)] -= 1
                if not waiting[id(arc.target)]:
                    fringe.append(arc.target)
            arcs += node.outgoing
        return arcs


def network(items: Sequence[NetworkItem]) -> WordNetwork:
    """The network of a transcript's items."""
    start, stop = Node(), Node()
    connect(start, stop if items else start, items)
    return WordNetwork(start, stop if items else start)


def connect(source: Node, target: Node, items: Sequence[NetworkItem]) -> None:
    """Adds arcs for the items between two nodes; where there are no items, the nodes must be one."""
    nodes = [source, *(Node() for _ in items[1:]), target]
    for item, left, right in zip(items, nodes, nodes[1:]):
        if isinstance(item, NetworkWord):
            arc = Arc(item, left, right)
            left.outgoing.append(arc)
            right.incoming.append(arc)
        else:
            for alternate in item:
                connect(left, right, alternate)


def parse_transcript(text: str) -> list[NetworkItem]:
    """The items of a transcript; alternates are written `{ a / b c / @ }`, tags behind a semicolon (`word;tag`) dropped.

    A word's last character, where it is an asterisk, is dropped as well (sclite's mark of mispronounced words).
    """
    items: list[NetworkItem] = []
    position = 0
    while found := OUTSIDE.search(text, position):
        if found[0] == "{":
            alternates, position = parse_alternates(text, found.end(), 1)
            if alternates:
                items.append(alternates)
        else:
            items.append(plain_word(found[0]))
            position = found.end()
    return items


def parse_alternates(text: str, position: int, depth: int) -> tuple[list[list[NetworkItem]], int]:
    """The alternates after an opening brace, and the place behind the closing one."""
    if depth > DEEPEST:
        raise ScoringError(f'"{one_line(text.strip(), 80)}": alternates inside each other, {DEEPEST} deep at most')
    alternates: list[list[NetworkItem]] = [[]]
    while found := IN_ALTERNATES.search(text, position):
        position = found.end()
        if found[0] == "}":
            return [each for each in alternates if each], position
        if found[0] == "/":
            alternates.append([])
        elif found[0] == "{":
            inner, position = parse_alternates(text, position, depth + 1)
            if inner:
                alternates[-1].append(inner)
        else:
            alternates[-1].append(plain_word(found[0]))
    raise ScoringError(f'"{one_line(text.strip(), 80)}": a brace {{ is not closed. Write alternates as {{ a / b / @ }}')


def plain_word(token: str, start: float = 0.0, end: float = 0.0) -> NetworkWord:
    """A token without its tags, escapes and trailing asterisk."""
    text = token
    if ";" in text or "\\" in text:
        text = re.sub(r"\\(.)", r"\1", WORD_TAG.split(text)[0])
    if len(text) > 1 and text.endswith("*"):
        text = text[:-1]
    return NetworkWord(text, start, end)


def first_reading(items: Iterable[NetworkItem]) -> list[NetworkWord]:
    """The words of a transcript with the first of all alternates."""
    words: list[NetworkWord] = []
    for item in items:
        words += [item] if isinstance(item, NetworkWord) else first_reading(item[0])
    return [word for word in words if word.text != NULL]
