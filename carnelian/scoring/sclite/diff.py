"""The alignment of a whole text with a row of segments by GNU diff, for hypotheses that tell no utterances [sclite -d]."""

import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from carnelian.errors import ScoringError
from carnelian.files import one_line
from carnelian.scoring.sclite.alignment import PLAIN_RULES, ScliteRules
from carnelian.scoring.sclite.network import NULL
from carnelian.scoring.sclite.scorer import ScoredSegment
from carnelian.scoring.sclite.stm import StmFile
from carnelian.scoring.wer import Edit

LINE_FORMATS = ["--text", "--unchanged-line-format= %L", "--old-line-format=-%L", "--new-line-format=+%L"]
"""Prints the common lines too, as `diff -y` does, which sclite runs."""


class Part(NamedTuple):
    """An utterance or segment of a longer text."""

    name: str
    speaker: str
    words: Sequence[str]
    labels: tuple[str, ...] = ()


def score_stm_text(reference: StmFile, text: str, rules: ScliteRules = PLAIN_RULES) -> list[ScoredSegment]:
    """Scores a text without names and times against all segments of a reference, in their order; ignored ones are left out."""
    counts: Counter[str] = Counter()
    parts = []
    for segment in reference.segments:
        if segment.ignored:
            continue
        speaker = segment.speaker if rules.case == "keep" else segment.speaker.lower()
        words = first_alternates(rules.folded(segment.text))
        parts.append(Part(f"{speaker}-{counts[speaker]:03d}", speaker, words, segment.labels))
        counts[speaker] += 1
    return score_by_diff(parts, rules.folded(text).split())


def first_alternates(text: str) -> list[str]:
    """The words of a transcript with the first of all alternates; tags stay, as where sclite aligns by diff."""
    words, alternate = [], 0
    for word in text.split():
        if word[0] in "{}":
            alternate = int(word[0] == "{")
        elif alternate and word[0] == "/":
            alternate += 1
        elif alternate < 2 and word != NULL:
            words.append(word)
    return words


def score_by_diff(parts: Sequence[Part], words: Sequence[str]) -> list[ScoredSegment]:
    """Scores the words of a text against its parts, each word as it is written.

    Which of several equally long common subsequences counts is GNU diff's choice, and so are the counts. An added word
    belongs to the part of the reference word after it, at the end to the last part.
    """
    steps = diff_edits([word for part in parts for word in part.words], words)
    scored = []
    for number, part in enumerate(parts):
        left, edits = len(part.words), []
        while left:
            edits.append(next(steps))
            left -= edits[-1].reference is not None
        if number == len(parts) - 1:
            edits += steps
        scored.append(ScoredSegment(part.name, part.speaker, tuple(edits), labels=part.labels))
    return scored


def diff_edits(reference: Sequence[str], hypothesis: Sequence[str]) -> Iterator[Edit]:
    """The edits by which GNU diff makes one row of words into another; in a change, words are paired from the first on."""
    removed: list[str] = []
    added: list[str] = []
    for sign, word in diff_lines(reference, hypothesis):
        if sign != " ":
            (removed if sign == "-" else added).append(word)
            continue
        yield from paired(removed, added)
        removed, added = [], []
        yield Edit("hit", word, word)
    yield from paired(removed, added)


def paired(removed: Sequence[str], added: Sequence[str]) -> Iterator[Edit]:
    """The edits of a change."""
    for one, other in zip_longest(removed, added):
        yield Edit("insertion" if one is None else "deletion" if other is None else "substitution", one, other)


def diff_lines(reference: Sequence[str], hypothesis: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The words of both rows, each with "-" where it is only in the first, "+" only in the second, " " in both."""
    program = shutil.which("diff")
    if not program:
        raise ScoringError(
            "text is aligned with STM by GNU diff, which is not installed. Install diffutils, or give a CTM"
        )
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("reference", "hypothesis")]
        for path, words in zip(paths, (reference, hypothesis)):
            path.write_text("".join(f"{word}\n" for word in words), encoding="utf-8", newline="")
        done = subprocess.run([program, *LINE_FORMATS, *paths], capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode > 1:
        raise ScoringError(f"{program}: {one_line(done.stderr.strip(), 150)}. It must be GNU diff")
    return ((line[0], line[1:]) for line in done.stdout.split("\n") if line)
