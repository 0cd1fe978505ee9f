"""CTM, NIST's time-marked conversations: recognized words with their times, and alternates among them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from carnelian.errors import ScoringError
from carnelian.files import one_line, written
from carnelian.scoring.sclite.network import NULL, NetworkItem, NetworkWord, plain_word
from carnelian.scoring.sclite.stm import finite_seconds, numbered_lines

ALTERNATES = re.compile(r"<ALT(_BEGIN|_END)?>", re.I)


@dataclass(frozen=True, slots=True)
class CtmWord:
    """A word in a channel of a recording; start and duration in seconds, confidence 0 to 1 or None."""

    recording: str
    channel: str
    start: float
    duration: float
    word: str
    confidence: float | None = None

    @property
    def middle(self) -> float:
        """The time that decides to which reference segment a word belongs."""
        return self.start + self.duration / 2

    @property
    def mark(self) -> str:
        """What a line that is no word says: "begin", "next" or "end" of alternates; "" for a word."""
        found = ALTERNATES.fullmatch(self.word)
        return {"_BEGIN": "begin", "": "next", "_END": "end"}[(found[1] or "").upper()] if found else ""


def read_ctm(path: str | Path, encoding: str = "utf-8") -> list[CtmWord]:
    """The words of a CTM file: `recording channel start duration word [confidence]`; `;;` begins a comment."""
    words: list[CtmWord] = []
    inside: tuple[str, str] | None = None  # recording and channel of alternates that are not closed
    for number, line in numbered_lines(path, encoding):
        if line.startswith(";"):
            continue
        fields = line.split()
        try:
            recording, channel, start, duration, word = fields[:5]
            mark = ALTERNATES.fullmatch(word) is not None  # which has no times: `* *`
            times = (0.0, 0.0) if mark else (finite_seconds(start.removeprefix("&&")), finite_seconds(duration))
            known = len(fields) > 5 and not mark and fields[5].upper() != "NA"
            confidence = float(fields[5]) if known else None
        except ValueError:
            raise ScoringError(
                f'{path}:{number}: "{one_line(line.strip(), 60)}" is no CTM line. Give: recording channel start duration word '
                "[confidence]"
            ) from None
        words.append(CtmWord(recording, channel, *times, word, confidence))
        place = (recording, channel)
        allowed = ("", "next", "end") if inside == place else ("", "begin") if inside is None else ()
        if words[-1].mark not in allowed:
            raise ScoringError(f"{path}:{number}: alternates out of turn. Write <ALT_BEGIN> .. <ALT> .. <ALT_END>")
        inside = None if words[-1].mark == "end" else place if mark else inside
    if inside:
        raise ScoringError(f"{path}: the last <ALT_BEGIN> has no <ALT_END>. Write <ALT_BEGIN> .. <ALT> .. <ALT_END>")
    return words


def write_ctm(path: str | Path, words: Iterable[CtmWord]) -> None:
    """Writes words as a CTM file, in the order given."""
    with written(path) as file:
        for each in words:
            times = "* *" if each.mark else f"{each.start:.3f} {each.duration:.3f}"
            confidence = "" if each.confidence is None else f" {each.confidence:.4f}"
            file.write(f"{each.recording} {each.channel} {times} {each.word}{confidence}\n")


def ctm_groups(words: Sequence[CtmWord]) -> list[list[CtmWord]]:
    """Words one by one, but alternates with their marks together."""
    groups: list[list[CtmWord]] = []
    inside = False
    for word in words:
        if inside:
            groups[-1].append(word)
        else:
            groups.append([word])
        inside = word.mark != "end" if inside else word.mark == "begin"
    return groups


def ctm_items(groups: Iterable[Sequence[CtmWord]], folded) -> list[NetworkItem]:
    """The items of a network for such groups; `folded` is what case folding does to a word."""
    items: list[NetworkItem] = []
    for group in groups:
        if not group[0].mark:
            items.append(timed(group[0], folded))
            continue
        alternates: list[list[NetworkItem]] = []
        for word in group:
            if word.mark in ("begin", "next"):
                alternates.append([])
            elif not word.mark:
                alternates[-1].append(timed(word, folded))
        items.append([each or [NetworkWord(NULL)] for each in alternates])
    return items


def timed(word: CtmWord, folded) -> NetworkWord:
    """A word of a CTM as it is scored."""
    return plain_word(folded(word.word), word.start, word.start + word.duration)
