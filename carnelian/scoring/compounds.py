"""Word errors where "white paper" equals "whitepaper": adjacent words may be joined to match one word of the other side.

This is `merge_compounds=True` of the package kaldialign, by which the Open ASR Leaderboard scores since 2026; equally
cheap alignments are chosen between as kaldialign does, which differs from sclite.
"""

from collections.abc import Sequence

import numpy as np

from carnelian.jit import compiled
from carnelian.scoring.wer import DELETION, EDIT_KINDS, HIT, INSERTION, SUBSTITUTION, Edit, Errors, numbered


def count_compounds(reference: Sequence[str], hypothesis: Sequence[str]) -> Errors:
    """The errors between two sequences of words; all words of a compound that matches are hits."""
    if reference == hypothesis:
        return Errors(hits=len(reference))
    insertions = deletions = substitutions = 0
    for edit in align_compounds(reference, hypothesis):
        insertions += edit.kind == "insertion"
        deletions += edit.kind == "deletion"
        substitutions += edit.kind == "substitution"
    return Errors(len(reference) - substitutions - deletions, substitutions, deletions, insertions)


def align_compounds(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Edit]:
    """The fewest edits that turn the reference into the hypothesis; a matched compound is one hit, its parts spaced."""
    edits = []
    words, others = numbered(reference, hypothesis)
    path = compound_path.for_work(len(reference) * len(hypothesis))
    steps = path(words, others, joined_words(reference, hypothesis))
    for r, past_r, h, past_h in steps:
        one, other = " ".join(reference[r:past_r]), " ".join(hypothesis[h:past_h])
        if past_r == r:
            edits.append(Edit(EDIT_KINDS[INSERTION], None, other))
        elif past_h == h:
            edits.append(Edit(EDIT_KINDS[DELETION], one, None))
        else:
            same = one == other or past_r - r + past_h - h > 2
            edits.append(Edit(EDIT_KINDS[HIT if same else SUBSTITUTION], one, other))
    return edits


def joined_words(reference: Sequence[str], hypothesis: Sequence[str]) -> np.ndarray:
    """The compounds (N, 4) int32 that match a word: words of each side up to them, how many of each side they take.

    They are in the order in which cells of the table of costs are filled, shorter compounds first.
    """
    found = [(r, h, k, 1) for r, h, k in compounds_of(reference, hypothesis)]
    found += [(r, h, 1, k) for h, r, k in compounds_of(hypothesis, reference)]
    return np.array(sorted(found, key=lambda each: (each[0], each[1], each[3], each[2])), dtype=np.int32).reshape(-1, 4)


def compounds_of(parts: Sequence[str], wholes: Sequence[str]) -> list[tuple[int, int, int]]:
    """Where the `k` words of `parts` that end at `p` spell word `w` of `wholes`: (p, w, k), both counted from 1 on."""
    places: dict[str, list[int]] = {}
    for place, whole in enumerate(wholes, 1):
        places.setdefault(whole, []).append(place)
    longest = max(map(len, places), default=0)
    found = []
    for end in range(2, len(parts) + 1):
        joined, k = parts[end - 1], 1
        while k < end and len(joined) < longest:
            k += 1
            joined = parts[end - k] + joined
            found += [(end, place, k) for place in places.get(joined, ())]
    return found


@compiled()
def compound_path(reference, hypothesis, compounds):
    """The steps (L, 4) of the cheapest alignment: from and to which word of the reference, and of the hypothesis.

    A substitution is taken only where it is cheaper than both a deletion and an insertion, a deletion only where it is
    cheaper than an insertion, a compound only where it is cheaper than all of them.
    """
    R, H = len(reference), len(hypothesis)
    cost = np.zeros((R + 1, H + 1), dtype=np.int32)
    back_r, back_h = np.zeros((R + 1, H + 1), dtype=np.int32), np.zeros((R + 1, H + 1), dtype=np.int32)
    for h in range(1, H + 1):
        cost[0, h], back_h[0, h] = h, h - 1
    for r in range(1, R + 1):
        cost[r, 0], back_r[r, 0] = r, r - 1
    c = 0
    for r in range(1, R + 1):
        for h in range(1, H + 1):
            replaced = cost[r - 1, h - 1] + (reference[r - 1] != hypothesis[h - 1])
            deleted, inserted = cost[r - 1, h] + 1, cost[r, h - 1] + 1
            if replaced < deleted and replaced < inserted:
                best, from_r, from_h = replaced, r - 1, h - 1
            elif deleted < inserted:
                best, from_r, from_h = deleted, r - 1, h
            else:
                best, from_r, from_h = inserted, r, h - 1
            while c < len(compounds) and compounds[c, 0] == r and compounds[c, 1] == h:
                one, other = r - compounds[c, 2], h - compounds[c, 3]
                if cost[one, other] < best:
                    best, from_r, from_h = cost[one, other], one, other
                c += 1
            cost[r, h], back_r[r, h], back_h[r, h] = best, from_r, from_h
    path = np.empty((R + H, 4), dtype=np.int32)
    length, r, h = 0, R, H
    while r or h:
        path[length, 1], path[length, 3] = r, h
        r, h = back_r[r, h], back_h[r, h]
        path[length, 0], path[length, 2] = r, h
        length += 1
    return path[:length][::-1]
