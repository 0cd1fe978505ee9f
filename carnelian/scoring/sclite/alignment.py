"""The cheapest alignment of two transcripts by sclite's rules, alternates and all."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from carnelian.jit import compiled
from carnelian.scoring.sclite.network import NULL, NetworkItem, NetworkWord, network
from carnelian.scoring.sclite.segmentation import Lexicon, join_characters
from carnelian.scoring.sclite.weights import WeightedErrors, WordWeights
from carnelian.scoring.wer import DELETION, EDIT_KINDS, HIT, INSERTION, SCLITE, SUBSTITUTION, Edit, align_words

NULL_COST, DELETABLE_COST, NULLS_COST = 0.001, 2.0, 1.0
"""Costs of passing a null word, of leaving out or adding a deletable word, of two null words in the place of each other."""
NOTHING = NetworkWord("")
"""What stands beside a deletable word that is missing or added."""


@dataclass(frozen=True, slots=True)
class ScliteRules:
    """How words are compared; what each setting is called in sclite stands in brackets.

    deletable: words in parentheses may be missing [-D].
    fragments: a word cut by a hyphen equals any word that begins (or ends) as it does [-F].
    characters: score characters instead of words: "all" [-c], or "non-ascii", which keeps ASCII words whole [-c NOASCII].
    drop_hyphens: hyphens are no characters [-c DH].
    case: "fold" capitals of every script, only those of "ascii" (sclite's way with UTF-8), or "keep" them apart [-s].
    time_mediated: align by word times instead of spelling [-T].
    lexicon: words of one side are split into characters, and joined again as this list and the other side say [-S];
        characters "all" splits ASCII words too [-S ... ASCIITOO]. segment: that side ["hypothesis" algo1, "reference" algo2].
    weights: what words weigh in the alignment [-w, -L].
    """

    deletable: bool = False
    fragments: bool = False
    characters: Literal["", "all", "non-ascii"] = ""
    drop_hyphens: bool = False
    case: Literal["fold", "ascii", "keep"] = "fold"
    time_mediated: bool = False
    lexicon: Lexicon | None = None
    segment: Literal["hypothesis", "reference"] = "hypothesis"
    weights: WordWeights | None = None

    def folded(self, text: str) -> str:
        """The text in small letters, as far as `case` says."""
        if self.case == "ascii":
            return text.encode().lower().decode()
        return text if self.case == "keep" else text.lower()

    def marked(self, items: Iterable[NetworkItem]) -> list[NetworkItem]:
        """The items with deletable words and fragments marked as such."""
        return [
            self._marked(item) if isinstance(item, NetworkWord) else [self.marked(each) for each in item]
            for item in items
        ]

    def _marked(self, word: NetworkWord) -> NetworkWord:
        text, fragment = word.text, word.text.startswith("-") or word.text.endswith("-")
        if self.deletable and len(text) > 1 and text[0] == "(" and text[-1] == ")":
            text, fragment = text[1:-1], text.endswith("-)")
            word = replace(word, text=text, deletable=True)
        return replace(word, fragment=True) if self.fragments and fragment and len(text) > 1 else word

    def pieces(self, word: NetworkWord) -> list[NetworkWord]:
        """The characters of a word, which share its time evenly."""
        if len(word.text) <= 1:
            return [word]
        text = word.text.replace("-", "") if self.drop_hyphens else word.text
        parts = re.findall(r"[\x00-\x7f]+|[^\x00-\x7f]", text) if self.characters == "non-ascii" else list(text)
        parts = parts or [NULL]
        seconds = (word.end - word.start) / len(parts)
        return [
            replace(word, text=part, start=word.start + seconds * n, end=word.start + seconds * (n + 1), fragment=False)
            for n, part in enumerate(parts)
        ]


PLAIN_RULES = ScliteRules()
"""Every word as it stands, capitals folded: what sclite does without options."""


class AlignedItems(NamedTuple):
    """The edits between two transcripts and, where words are weighted, the sums of the weights."""

    edits: tuple[Edit, ...]
    weighted: WeightedErrors | None = None


def align_items(
    reference: Sequence[NetworkItem], hypothesis: Sequence[NetworkItem], rules: ScliteRules
) -> AlignedItems:
    """The edits between two parsed transcripts, as sclite chooses them among equally cheap ones.

    A deletable word that is missing, or is added, counts as a hit, as in sclite; its counterpart is "".
    """
    reference, hypothesis = rules.marked(reference), rules.marked(hypothesis)
    if not (rules.time_mediated or rules.lexicon or rules.weights):
        words = plain_words(reference, rules), plain_words(hypothesis, rules)
        if words[0] is not None and words[1] is not None:
            return AlignedItems(tuple(align_words(words[0], words[1], SCLITE)))
    return align_networks(reference, hypothesis, rules)


def plain_words(items: Sequence[NetworkItem], rules: ScliteRules) -> list[str] | None:
    """The words (or characters) of a transcript without anything special, or None."""
    words = [item for item in items if isinstance(item, NetworkWord)]
    if len(words) < len(items) or any(word.deletable or word.fragment or word.text == NULL for word in words):
        return None
    if rules.characters:
        words = [piece for word in words for piece in rules.pieces(word)]
        if any(word.text == NULL for word in words):
            return None
    return [word.text for word in words]


def align_networks(
    reference: Sequence[NetworkItem], hypothesis: Sequence[NetworkItem], rules: ScliteRules
) -> AlignedItems:
    """The edits between two transcripts that are not plain words, or by the words' times, weights or a lexicon."""
    networks = network(reference), network(hypothesis)
    if rules.lexicon:
        side = networks[rules.segment == "hypothesis"]
        side.expand(replace(rules, characters=rules.characters or "non-ascii").pieces)
        join_characters(side, rules.lexicon)
    elif rules.characters:
        for each in networks:
            each.expand(rules.pieces)
    if rules.weights:
        for each in networks:
            each.weigh(rules.weights.weigh, rules.weights.order)
    (words_r, before_r, offsets_r, last_r), (words_h, before_h, offsets_h, last_h) = (
        each.arrays() for each in networks
    )
    same = equal_words(words_r, words_h)
    costs = weighted_costs if rules.weights else timed_costs if rules.time_mediated else spelling_costs
    deletion, insertion = (gap_costs(words, rules) for words in (words_r, words_h))
    path = network_path.for_work(len(words_r) * len(words_h))(
        (before_r, offsets_r, last_r), (before_h, offsets_h, last_h), deletion, insertion, costs(words_r, words_h, same)
    )
    steps = [step for r, h, kind in path if (step := network_step(words_r[r], words_h[h], kind, same[r, h]))]
    weighted = sum((weights_of_step(*step) for step in steps), WeightedErrors()) if rules.weights else None
    edits = (Edit(kind, written_word(one), written_word(other)) for kind, one, other in steps)
    return AlignedItems(tuple(edits), weighted)


Step = tuple[str, NetworkWord | None, NetworkWord | None]


def network_step(one: NetworkWord, other: NetworkWord, kind: int, same: bool) -> Step | None:
    """The kind and the words of a step through two networks; None where it is nothing beside nothing."""
    if (kind == INSERTION or one.text == NULL) and (kind == DELETION or other.text == NULL):
        return None
    if kind == SUBSTITUTION:
        return EDIT_KINDS[HIT if same else SUBSTITUTION], one, other
    if kind == DELETION:
        return (EDIT_KINDS[HIT], one, NOTHING) if one.deletable else (EDIT_KINDS[DELETION], one, None)
    return (EDIT_KINDS[HIT], NOTHING, other) if other.deletable else (EDIT_KINDS[INSERTION], None, other)


def weights_of_step(kind: str, one: NetworkWord | None, other: NetworkWord | None) -> WeightedErrors:
    """What a step adds to the sums of weights."""
    reference, hypothesis = (word.weight if word else 0.0 for word in (one, other))
    if kind == EDIT_KINDS[HIT]:
        return WeightedErrors(reference, hits=hypothesis)
    if kind == EDIT_KINDS[SUBSTITUTION]:
        return WeightedErrors(reference, substitutions=reference + hypothesis)
    return WeightedErrors(reference, deletions=reference, insertions=hypothesis)


def written_word(word: NetworkWord | None) -> str | None:
    """A word as it is written in transcripts; None for none."""
    if word is None:
        return None
    return f"({word.text})" if word.deletable else word.text


def equal_words(reference: Sequence[NetworkWord], hypothesis: Sequence[NetworkWord]) -> np.ndarray:
    """Which words (A, B) count as equal."""
    numbers: dict[str, int] = {}
    ids = [
        np.array([numbers.setdefault(word.text, len(numbers)) for word in words]) for words in (reference, hypothesis)
    ]
    same = np.equal.outer(*ids)
    for r, one in enumerate(reference):
        for h, other in enumerate(hypothesis) if one.fragment else ():
            same[r, h] = equal_fragment(one.text, other.text)
    for h, other in enumerate(hypothesis):
        for r, one in enumerate(reference) if other.fragment else ():
            same[r, h] = same[r, h] or (not one.fragment and equal_fragment(other.text, one.text))
    return same


def equal_fragment(fragment: str, word: str) -> bool:
    """Whether a word ends as a fragment that begins with a hyphen does, or begins as one that ends with it does."""
    return word.endswith(fragment[1:]) if fragment.startswith("-") else word.startswith(fragment[:-1])


def spelling_costs(reference: Sequence[NetworkWord], hypothesis: Sequence[NetworkWord], same: np.ndarray) -> np.ndarray:
    """The cost (A, B) float32 of each word in the place of each other."""
    costs = np.where(same, np.float32(0), np.float32(SCLITE[0]))
    costs[np.ix_(null_words(reference), null_words(hypothesis))] = NULLS_COST
    return costs


def timed_costs(reference: Sequence[NetworkWord], hypothesis: Sequence[NetworkWord], same: np.ndarray) -> np.ndarray:
    """The cost (A, B) float32: how far apart two words begin and end, in seconds."""
    starts = [np.array([word.start for word in words]) for words in (reference, hypothesis)]
    ends = [np.array([word.end for word in words]) for words in (reference, hypothesis)]
    apart = abs(np.subtract.outer(*starts)) + abs(np.subtract.outer(*ends))
    return (apart + np.where(same, 0.0, NULL_COST)).astype(np.float32)


def weighted_costs(reference: Sequence[NetworkWord], hypothesis: Sequence[NetworkWord], same: np.ndarray) -> np.ndarray:
    """The cost (A, B) float32: the weights of two words that differ, together."""
    weights = [np.array([word.weight for word in words], dtype=np.float64) for words in (reference, hypothesis)]
    return np.where(same, 0.0, np.add.outer(*weights)).astype(np.float32)


def gap_costs(words: Sequence[NetworkWord], rules: ScliteRules) -> np.ndarray:
    """The cost (A,) float32 of each word that has no counterpart."""
    if rules.time_mediated:
        costs = [word.end - word.start for word in words]
    elif rules.weights:
        costs = [word.weight for word in words]
    else:
        costs = [DELETABLE_COST if word.deletable else SCLITE[1] for word in words]
    array = np.array(costs, dtype=np.float32)
    array[null_words(words)] = NULL_COST
    return array


def null_words(words: Sequence[NetworkWord]) -> np.ndarray:
    """The places of null words."""
    return np.array([place for place, word in enumerate(words) if word.text == NULL], dtype=np.int64)


@compiled()
def network_path(reference, hypothesis, deletion, insertion, substitution):
    """The steps (L, 3) of the cheapest path through two networks: word of each, and SUBSTITUTION, DELETION or INSERTION.

    Each network is (predecessors, offsets, last) of `WordNetwork.arrays`. Costs are added in float32, as sclite does,
    so that sums that differ only by rounding are chosen between as it chooses.
    """
    before_r, offsets_r, last_r = reference
    before_h, offsets_h, last_h = hypothesis
    R, H = len(offsets_r) - 1, len(offsets_h) - 1
    far = np.float32(1e9)
    cost = np.zeros((R, H), dtype=np.float32)
    from_r, from_h = np.zeros((R, H), dtype=np.int32), np.zeros((R, H), dtype=np.int32)
    for r in range(R):
        for h in range(H):
            if r == 0 and h == 0:
                continue
            deleted, deleted_r = far, 0
            inserted, inserted_h = far, 0
            replaced, replaced_r, replaced_h = far, 0, 0
            for i in range(offsets_r[r], offsets_r[r + 1]):
                p = before_r[i]
                if cost[p, h] < deleted:
                    deleted, deleted_r = cost[p, h], p
                for j in range(offsets_h[h], offsets_h[h + 1]):
                    if cost[p, before_h[j]] < replaced:
                        replaced, replaced_r, replaced_h = cost[p, before_h[j]], p, before_h[j]
            for j in range(offsets_h[h], offsets_h[h + 1]):
                if cost[r, before_h[j]] < inserted:
                    inserted, inserted_h = cost[r, before_h[j]], before_h[j]
            deleted = np.float32(deleted + deletion[r])
            inserted = np.float32(inserted + insertion[h])
            replaced = np.float32(replaced + substitution[r, h])
            if replaced <= deleted and replaced <= inserted:
                cost[r, h], from_r[r, h], from_h[r, h] = replaced, replaced_r, replaced_h
            elif deleted < inserted:
                cost[r, h], from_r[r, h], from_h[r, h] = deleted, deleted_r, h
            else:
                cost[r, h], from_r[r, h], from_h[r, h] = inserted, r, inserted_h
    best, r, h = far, 0, 0
    for one in last_r:
        for other in last_h:
            if cost[one, other] < best:
                best, r, h = cost[one, other], one, other
    path = np.empty((R + H, 3), dtype=np.int64)
    length = 0
    while r or h:
        back_r, back_h = from_r[r, h], from_h[r, h]
        kind = INSERTION if back_r == r else DELETION if back_h == h else SUBSTITUTION
        path[length] = r, h, kind
        length += 1
        r, h = back_r, back_h
    return path[:length][::-1]
