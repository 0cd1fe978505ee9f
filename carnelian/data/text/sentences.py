"""Running text, such as books, as the sentences that a language model is made of."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from carnelian.data.text.normalize import TextNormalizer
from carnelian.data.text.report import NormalizationReport
from carnelian.data.text.text_files import read_lines

GUTENBERG_START = re.compile(r"\*\*\* ?START OF (THE|THIS) PROJECT GUTENBERG|\*END\*? ?THE SMALL PRINT", re.I)
GUTENBERG_END = re.compile(r"\*\*\* ?END OF (THE|THIS) PROJECT GUTENBERG|^End of (the )?Project Gutenberg", re.I)
GUTENBERG_CREDITS = re.compile(r"(Produced|E-text prepared|Transcribed|This etext was) ", re.I)
GUTENBERG_OPENING = 2000  # lines among which the mark that opens a book is looked for
SENTENCE_END = re.compile(r"(?<=[.?!…])[\"'»”’)\]]*\s+|\s*;\s+")


def without_frame(lines: Iterable[str], report: NormalizationReport) -> Iterator[str]:
    """The lines of a book without what Project Gutenberg puts before and after it; other texts whole."""
    opening: list[str] = []
    stream = iter(lines)
    for line in stream:
        opening.append(line)
        if GUTENBERG_START.search(line):
            report.frame_lines += len(opening)
            break
        if len(opening) == GUTENBERG_OPENING:
            yield from opening
            yield from stream
            return
    else:
        yield from opening
        return
    credits = True  # who typed the book stands in a paragraph before it
    for line in stream:
        if credits and line.strip():
            credits = bool(GUTENBERG_CREDITS.match(line))
            while credits and line.strip():
                report.frame_lines += 1
                line = next(stream, "")
            credits = False
        if GUTENBERG_END.search(line):
            report.frame_lines += 1 + sum(1 for _ in stream)
            return
        yield line


def split_sentences(lines: Iterable[str], unfinished: Callable[[str], bool] = lambda piece: False) -> Iterator[str]:
    """Paragraphs (apart by empty lines) cut after . ? ! … and at semicolons, but not after `unfinished` pieces."""
    paragraph: list[str] = []
    for line in chain(lines, [""]):
        if line.strip():
            paragraph.append(line.strip())
            continue
        sentence = ""
        for piece in SENTENCE_END.split(" ".join(paragraph)):
            sentence = f"{sentence} {piece}".strip()
            if not unfinished(piece) and sentence:
                yield sentence
                sentence = ""
        if sentence:
            yield sentence
        paragraph = []


def normalize_text_file(
    path: str | Path,
    spelling: TextNormalizer,
    report: NormalizationReport,
    *,
    encoding: str = "utf-8",
    lines: bool = False,
) -> Iterator[str]:
    """The prepared sentences of a text file; `report` is added to. lines: each line is one sentence already."""
    text = without_frame(read_lines(path, encoding), report)
    for sentence in text if lines else split_sentences(text, spelling.unfinished):
        written = spelling(sentence, report)
        if written is not None:
            yield written
