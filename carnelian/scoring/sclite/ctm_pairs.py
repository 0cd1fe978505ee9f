"""Two CTM files beside each other: sclite aligns a channel in pieces of about 50 words, cut at common pauses."""

import math
from collections.abc import Iterator, Sequence

from carnelian.scoring.sclite.alignment import PLAIN_RULES, ScliteRules, align_items
from carnelian.scoring.sclite.ctm import CtmWord, ctm_groups, ctm_items
from carnelian.scoring.sclite.scorer import ScoredSegment, by_channel, refuse_unexpected

PIECE_WORDS = 50  # words, at least, in a piece


def score_ctm(
    reference: Sequence[CtmWord], words: Sequence[CtmWord], rules: ScliteRules = PLAIN_RULES
) -> list[ScoredSegment]:
    """Scores timed words against timed reference words, piece by piece; a channel counts as a speaker."""
    expected, recognized = by_channel(reference), by_channel(words)
    refuse_unexpected(recognized, expected, "words")
    scored = []
    for key in expected:
        speaker = "-".join(key)
        for number, pair in enumerate(common_pieces(expected[key], recognized.get(key, []))):
            one, other = (ctm_items(ctm_groups(each), rules.folded) for each in pair)
            scored.append(ScoredSegment(f"{speaker}-{number:04d}", speaker, *align_items(one, other, rules)))
    return scored


def common_pieces(
    reference: Sequence[CtmWord], words: Sequence[CtmWord]
) -> Iterator[tuple[Sequence[CtmWord], Sequence[CtmWord]]]:
    """The words of a channel in pieces that end where both are silent."""
    while reference or words:
        most = PIECE_WORDS
        while (taken := CommonPause(reference, words).within(most)) is None:
            most *= 2
        yield reference[: taken[0]], words[: taken[1]]
        reference, words = reference[taken[0] :], words[taken[1] :]


class CommonPause:
    """Looks for a pause that reference and recognized words share; never inside alternates."""

    def __init__(self, reference: Sequence[CtmWord], words: Sequence[CtmWord]):
        self.reference, self.words = reference, words
        self.alternate = [group[0].mark != "" for group in ctm_groups(reference) for _ in group]
        self.begins = [place == 0 for group in ctm_groups(words) for place in range(len(group))]

    def within(self, most: int) -> tuple[int, int] | None:
        """How many words of each come before the last common pause in about `most` words; None where there is none."""
        if len(self.reference) <= most and len(self.words) <= most:
            return len(self.reference), len(self.words)
        r, h = min(most, len(self.reference) - 1), min(most, len(self.words) - 1)
        while r >= 0 and self.alternate[r]:
            r -= 1
        r, h = self._synchronized(r, h)
        while r > 0 and h > 0:
            if overlap(pause_after(self.reference, r), pause_after(self.words, h)) >= 0:
                return r + 1, self._after_group(h)
            r, h = self._earlier(r, h)
        return (r + 1, self._after_group(h)) if r > 0 or h > 0 else None

    def _after_group(self, h: int) -> int:
        """The first place behind a recognized word that is not inside alternates; sclite, which cuts there, misreads them."""
        h += 1
        while h < len(self.words) and not self.begins[h]:
            h += 1
        return h

    def _synchronized(self, r: int, h: int) -> tuple[int, int]:
        """The later of two words moved back to where it overlaps the other."""
        skipped = True
        while skipped and r >= 0 and h >= 0:
            skipped = False
            if self._order(r, h) > 0:
                r, skipped = self._reference_back(r, h)
            else:
                h = self._words_back(r, h)
        return r, h

    def _earlier(self, r: int, h: int) -> tuple[int, int]:
        """One word back in whichever of the two is later, the other then moved back as far as it is later still."""
        skipped = True
        while skipped and r >= 0 and h >= 0:
            skipped = False
            if self._order(r, h) > 0:
                if r > 0:
                    r, skipped = self._before(r)
                h = h if skipped else self._words_back(r, h)
            else:
                h = max(h - 1, 0)
                r, skipped = self._reference_back(r, h)
        return r, h

    def _reference_back(self, r: int, h: int) -> tuple[int, bool]:
        """The reference word before, while it is later than the other; and whether alternates were passed."""
        skipped = False
        while not skipped and r >= 0 and self._order(r, h) > 0 and apart(self.reference[r], self.words[h]):
            r, skipped = self._before(r)
        return r, skipped

    def _words_back(self, r: int, h: int) -> int:
        """The recognized word before, while it is later than the other."""
        while r >= 0 and h >= 0 and self._order(r, h) < 0 and apart(self.reference[r], self.words[h]):
            h -= 1
        return h

    def _before(self, r: int) -> tuple[int, bool]:
        """The reference word before that is not in alternates, and whether any were passed."""
        r, skipped = r - 1, False
        while r >= 0 and self.alternate[r]:
            r, skipped = r - 1, True
        return r, skipped

    def _order(self, r: int, h: int) -> float:
        """Seconds by which the reference word begins after the recognized one."""
        return self.reference[r].start - self.words[h].start


def apart(one: CtmWord, other: CtmWord) -> bool:
    """Whether two words do not overlap in time."""
    return overlap((one.start, one.start + one.duration), (other.start, other.start + other.duration)) < 0


def pause_after(words: Sequence[CtmWord], place: int) -> tuple[float, float]:
    """The time from a word's end to the next word's start."""
    end = words[place].start + words[place].duration
    return end, words[place + 1].start if place + 1 < len(words) else math.inf


def overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    """The seconds that two (begin, end) times have in common; negative: the seconds between them."""
    return min(one[1], other[1]) - max(one[0], other[0])
