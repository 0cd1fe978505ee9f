"""Words divided otherwise than in the reference: the characters of one side are joined again by a lexicon."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from carnelian.errors import ScoringError
from carnelian.scoring.sclite.network import NULL, Arc, NetworkWord, Node, WordNetwork
from carnelian.scoring.sclite.stm import numbered_lines

MAX_WORD_LETTERS = 100  # letters; every beginning of a word is held


@dataclass(frozen=True)
class Lexicon:
    """Words that characters may be joined to."""

    words: frozenset[str]
    longest: int = field(init=False)
    beginnings: frozenset[str] = field(init=False)  # without them every row of characters would be tried to its end

    def __post_init__(self) -> None:
        object.__setattr__(self, "longest", max(map(len, self.words), default=1))
        beginnings = {word[:end] for word in self.words for end in range(1, len(word) + 1)}
        object.__setattr__(self, "beginnings", frozenset(beginnings))


def read_lexicon(path: str | Path, fold: Callable[[str], str], encoding: str = "utf-8") -> Lexicon:
    """The first word of each line, with capitals as `fold` makes them."""
    words = frozenset(fold(line.split()[0]) for _, line in numbered_lines(path, encoding))
    if (longest := max(map(len, words), default=0)) > MAX_WORD_LETTERS:
        raise ScoringError(
            f"{path}: a word of {longest} letters, expected {MAX_WORD_LETTERS} at most. Give a list of words"
        )
    if not words:
        raise ScoringError(f"{path}: no words. Give a file with a word in each line")
    return Lexicon(words)


def join_characters(network: WordNetwork, lexicon: Lexicon) -> None:
    """Adds to a network every word of the lexicon that some of its words in a row make together."""
    for arc in breadth_first(network.start):
        join_from(arc, arc.target, arc.word, lexicon, lexicon.longest - 1)


def join_from(first: Arc, node: Node, word: NetworkWord, lexicon: Lexicon, left: int) -> None:
    """Adds the words that begin with `word`, which reaches from the source of an arc to a node; at most `left` more."""
    if left <= 0:
        return
    for arc in node.outgoing:
        joined = words_together(word, arc.word)
        if joined.text in lexicon.words:
            added = Arc(joined, first.source, arc.target)
            added.source.outgoing.append(added)
            added.target.incoming.append(added)
        if joined.text in lexicon.beginnings or joined.text == NULL:
            join_from(first, arc.target, joined, lexicon, left - 1)


def words_together(word: NetworkWord, other: NetworkWord) -> NetworkWord:
    """Two words as one."""
    texts = [each.text for each in (word, other) if each.text != NULL]
    return replace(
        word,
        text="".join(texts) or NULL,
        end=other.end,
        deletable=word.deletable and other.deletable,
        fragment=word.fragment and other.fragment,
    )


def breadth_first(start: Node) -> Iterable[Arc]:
    """The arcs of a network in the order in which sclite joins them."""
    arcs, visited, fringe = [], {id(start)}, [start]
    for node in fringe:  # grows on the way
        for arc in node.outgoing:
            if id(arc.target) not in visited:
                visited.add(id(arc.target))
                fringe.append(arc.target)
        arcs += node.outgoing
    return arcs
