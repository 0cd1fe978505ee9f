"""Running text to sentences of spoken words, as language models and references want them. The door to num2words."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from carnelian.data.alphabet import Alphabet
from carnelian.data.text.text_files import read_lines
from carnelian.errors import LanguageModelError, MissingExtraError

APOSTROPHES = str.maketrans("’‘ʼ`´", "'''''")
GUTENBERG_START = re.compile(r"\*\*\* ?START OF (THE|THIS) PROJECT GUTENBERG|\*END\*? ?THE SMALL PRINT", re.I)
GUTENBERG_END = re.compile(r"\*\*\* ?END OF (THE|THIS) PROJECT GUTENBERG|^End of (the )?Project Gutenberg", re.I)
GUTENBERG_CREDITS = re.compile(r"(Produced|E-text prepared|Transcribed|This etext was) ", re.I)
GUTENBERG_OPENING = 2000  # lines among which the mark that opens a book is looked for
NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*(?:(?:st|nd|rd|th)\b|[º°ª])?")
POINT_DECIMALS = ("en", "zh", "ja", "ko", "th", "he")  # languages whose decimals follow a point
LONGEST_NUMBER = 15  # digits; longer ones are read digit by digit
SENTENCE_END = re.compile(r"(?<=[.?!…])[\"'»”’)\]]*\s+|\s*;\s+")


@dataclass
class NormalizationReport:
    """What preparing a text did: sentences and words kept, numbers written out, letters changed, what was dropped."""

    sentences: int = 0
    words: int = 0
    numbers: int = 0
    frame_lines: int = 0
    empty: int = 0
    changed: Counter = field(default_factory=Counter)
    unknown: Counter = field(default_factory=Counter)
    dropped: int = 0

    def rows(self) -> list[tuple[str, object]]:
        """The report as lines of a table; most frequent letters first."""

        def letters(counter: Counter) -> str:
            return " ".join(f"{letter} {count}" for letter, count in counter.most_common(12))

        rows = [
            ("sentences", self.sentences),
            ("words", self.words),
            ("numbers written out", self.numbers),
            ("lines of a Gutenberg frame dropped", self.frame_lines),
            ("sentences without words dropped", self.empty),
            ("sentences with unknown letters dropped", self.dropped),
            ("letters that lost their marks", letters(self.changed)),
            ("unknown letters", letters(self.unknown)),
        ]
        return [(name, value) for name, value in rows if value not in ("", 0) or name in ("sentences", "words")]


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


def split_sentences(lines: Iterable[str]) -> Iterator[str]:
    """Paragraphs (apart by empty lines) cut after . ? ! … and at semicolons."""
    paragraph: list[str] = []
    for line in chain(lines, [""]):
        if line.strip():
            paragraph.append(line.strip())
            continue
        yield from (sentence for sentence in SENTENCE_END.split(" ".join(paragraph)) if sentence)
        paragraph = []


class TextNormalizer:
    """Sentences as a model's alphabet spells them.

    language: of the numbers, such as "en" or "es"; without it digits count as unknown letters.
    alphabet: the judge of what can be spelled; without it all letters of all scripts can, and the apostrophe.
    keep_case: leave capitals; else small letters, or capitals where the alphabet knows only those.
    """

    def __init__(self, *, language: str | None = None, alphabet: Alphabet | None = None, keep_case: bool = False):
        self.language = language
        self.alphabet = alphabet
        only_capitals = alphabet is not None and bool(alphabet.unknown("a")) and not alphabet.unknown("A")
        self.fold = str if keep_case else str.upper if only_capitals else str.lower
        self.known: dict[str, str | None] = {}
        if language is not None:
            number_words("1", language)

    def __call__(self, sentence: str, report: NormalizationReport) -> str | None:
        """The sentence as words apart by single spaces, or None where it has none or letters the alphabet lacks."""
        text = unicodedata.normalize("NFC", sentence).translate(APOSTROPHES)
        if self.language is not None:
            text, count = NUMBER.subn(lambda match: f" {number_words(match[0], self.language or '')} ", text)
            report.numbers += count
        text = unicodedata.normalize("NFC", self.fold(text))
        for letter in set(text) - self.known.keys():
            self.known[letter] = self._letter(letter)
        report.changed.update(
            letter for letter in text if letter.isalpha() and self.known[letter] not in (letter, None)
        )
        unknown = [letter for letter in text if self.known[letter] is None]
        if unknown:
            report.unknown.update(unknown)
            report.dropped += 1
            return None
        words = "".join(self.known[letter] or "" for letter in text).split()
        words = [word for word in (word.strip("'") for word in words) if word]
        if not words:
            report.empty += 1
            return None
        report.sentences += 1
        report.words += len(words)
        return " ".join(words)

    def _letter(self, letter: str) -> str | None:
        """What stands for a letter: itself, its base, a space or nothing; None where the alphabet lacks it."""
        if letter.isspace():
            return " "
        in_words = letter.isalnum() or unicodedata.category(letter)[0] == "M"
        if self.alphabet is None:
            return letter if (in_words and not letter.isnumeric()) or letter == "'" else None if in_words else " "
        if not self.alphabet.unknown(letter):
            return letter
        if not in_words:
            return "" if letter == "'" else " "
        base = "".join(part for part in unicodedata.normalize("NFKD", letter) if unicodedata.category(part)[0] != "M")
        return base if base != letter and not self.alphabet.unknown(base) else None


def number_words(number: str, language: str) -> str:
    """A number, with marks between thousands and before decimals as the language has them, or an ordinal, in words."""
    try:
        from num2words import num2words
    except ImportError:
        raise MissingExtraError("num2words", "text", "Writing numbers as words") from None
    digits = number.rstrip("stndrhº°ª")
    thousands, decimal = (",", ".") if language[:2] in POINT_DECIMALS else (".", ",")
    if re.fullmatch(rf"\d{{1,3}}(\{thousands}\d{{3}})+(\{decimal}\d+)?", digits):
        value = digits.replace(thousands, "").replace(decimal, ".")
    else:
        whole, _, decimals = digits.replace(",", ".").rpartition(".")
        value = f"{whole.replace('.', '')}.{decimals}" if whole else digits
    try:
        if len(value) > LONGEST_NUMBER or re.match(r"0\d", value):
            return " ".join(num2words(int(digit), lang=language) for digit in value if digit.isdigit())
        if "." in value:
            return num2words(float(value), lang=language)
        return num2words(int(value), lang=language, to="ordinal" if digits != number else "cardinal")
    except NotImplementedError:
        raise LanguageModelError(
            f'--language {language}: numbers cannot be written out in it. Give a code such as "en", "es" or "de"'
        ) from None


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
    for sentence in text if lines else split_sentences(text):
        written = spelling(sentence, report)
        if written is not None:
            yield written
