"""Text as it is spoken: one normaliser for transcripts, language-model text, references and hypotheses."""

import re
import unicodedata
from collections.abc import Callable

from carnelian.data.alphabet import Alphabet
from carnelian.data.text.languages import LANGUAGE_RULES, LANGUAGE_RULES_VERSION, NUMBERS_ONLY
from carnelian.data.text.numbers import SpokenNumbers
from carnelian.data.text.report import EXAMPLES, NormalizationReport

APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ`´′ʹ＇‛ʻꞌ", "'"))
INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
COMPATIBLE = re.compile("[\ufb00-\ufb06\uff01-\uff5e]")  # ligatures and full-width forms
RAISED = re.compile("[²³¹\u2070-\u2079\u2080-\u2089]")
VULGAR = re.compile("[¼½¾⅐-⅞]")
NOISE_TAG = re.compile(r"\[[^\[\]\n]{0,40}\]|<[^<>\n]{0,40}>")
STROKES = {"ß": "ss", "ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}
STROKES |= {letter.upper(): base.upper() for letter, base in STROKES.items() if letter not in "ßı"}
AT_SENTENCE_ENDS = ("et cetera", "etcétera", "und so weiter", "incorporated", "limited", "corporation", "junior")
ACRONYM = re.compile(r"\b(?:[^\W\d_]\.\s?){2,}(?:[^\W\d_]\b)?")


class TextNormalizer:
    """Sentences as they are spoken, in small letters without punctuation, words apart by single spaces.

    language: whose numbers, abbreviations and symbols are written out, such as "en" or "es". Without it, digits are
    unknown letters, unless keep_numbers.
    alphabet: the judge of what can be spelled; without it all letters of all scripts can, and the apostrophe.
    keep_case: leave capitals; else small letters, or capitals where the alphabet knows only those.
    keep_numbers: leave digits as they are.
    drop_hesitations: leave out "uh" and the like; else each is spelled one way.
    strip_accents: é becomes e; by default as the language has it.
    """

    def __init__(
        self,
        *,
        language: str | None = None,
        alphabet: Alphabet | None = None,
        keep_case: bool = False,
        keep_numbers: bool = False,
        drop_hesitations: bool = False,
        strip_accents: bool | None = None,
    ):
        self.language, self.alphabet, self.keep_numbers = language, alphabet, keep_numbers
        self.drop_hesitations = drop_hesitations
        only_capitals = alphabet is not None and bool(alphabet.unknown("a")) and not alphabet.unknown("A")
        self.fold: Callable[[str], str] = str if keep_case else str.upper if only_capitals else lowered(language)
        self.known: dict[str, str | None] = {}
        self.numbers = SpokenNumbers(language) if language and not keep_numbers else None
        rules = LANGUAGE_RULES.get((language or "")[:2], NUMBERS_ONLY)
        self.strip_accents = rules.strip_accents if strip_accents is None else strip_accents
        self.abbreviations = tuple(rules.abbreviations.values())
        alternatives = "|".join(f"({pattern})" for pattern in rules.abbreviations) or "(?!)"
        self.abbreviation = re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)", re.I)
        self.symbols = rules.symbols
        self.hesitations = tuple(rules.hesitations.values())
        self.hesitation = re.compile("|".join(f"({pattern})" for pattern in rules.hesitations) or "(?!)", re.I)
        self.openings = {letter for pattern in rules.hesitations for letter in pattern + pattern.upper()}
        self.label = f"{language or 'basic'} {LANGUAGE_RULES_VERSION}"

    def __call__(self, sentence: str, report: NormalizationReport | None = None) -> str | None:
        """The sentence normalised, or None where it has no words or letters the alphabet lacks."""
        report = NormalizationReport() if report is None else report
        text = self._written_out(composed(sentence), report)
        text = unicodedata.normalize("NFC", self.fold(text))
        letters = set(text)
        for letter in letters - self.known.keys():
            self.known[letter] = self._letter(letter)
        if odd := {letter for letter in letters if self.known[letter] != letter}:
            self._count_letters(text, odd, report)
            if any(self.known[letter] is None for letter in odd):
                report.dropped += 1
                return None
        words = text.translate({ord(letter): self.known[letter] for letter in odd}).split()
        words = self._without_hesitations([word for word in (word.strip("'") for word in words) if word], report)
        if not words:
            report.empty += 1
            return None
        written = " ".join(words)
        report.sentences += 1
        report.words += len(words)
        if written != sentence:
            report.altered += 1
            if len(report.examples) < EXAMPLES:
                report.examples.append((sentence, written))
        return written

    def _count_letters(self, text: str, odd: set[str], report: NormalizationReport) -> None:
        """Adds letters that are unknown, lost their marks, or are removed to the report."""
        for letter in odd:
            kind = self.known[letter]
            if kind is None:
                report.unknown[letter] += text.count(letter)
            elif letter.isalpha():
                report.changed[letter] += text.count(letter)
            elif not letter.isspace():
                report.punctuation[letter] += text.count(letter)

    def unfinished(self, piece: str) -> bool:
        """Whether the full stop at the end of a piece of text is that of an abbreviation or of an initial."""
        last = piece.rsplit(None, 1)[-1] if piece else ""
        if re.fullmatch(r"[^\W\d_]\.", last):
            return last[0].isupper()
        found = self.abbreviation.match(f"{last} x") if last.endswith(".") else None
        return bool(found and self.abbreviations[(found.lastindex or 1) - 1] not in AT_SENTENCE_ENDS)

    def _written_out(self, text: str, report: NormalizationReport) -> str:
        """Text with tags removed and abbreviations, numbers and symbols in words."""
        if tags := NOISE_TAG.findall(text):
            report.tags.update(tags)
            text = NOISE_TAG.sub(" ", text)
        if self.language:
            text = self.abbreviation.sub(lambda match: self._abbreviation(match, report), text)
            text = ACRONYM.sub(lambda match: " ".join(re.findall(r"[^\W\d_]", match[0])) + " ", text)
        if self.numbers:
            text, count = self.numbers(text)
            report.numbers += count
        for symbol, words in self.symbols.items():
            if symbol in text:
                report.symbols[symbol] += text.count(symbol)
                text = text.replace(symbol, f" {words} ")
        return text

    def _abbreviation(self, match: re.Match, report: NormalizationReport) -> str:
        """The words that an abbreviation stands for."""
        report.abbreviations[match[0].lower()] += 1
        return f" {self.abbreviations[(match.lastindex or 1) - 1]} "

    def _without_hesitations(self, words: list[str], report: NormalizationReport) -> list[str]:
        """The words with hesitations spelled one way, or without them."""
        found = [word for word in words if word[0] in self.openings and self.hesitation.fullmatch(word)]
        if not found:
            return words
        report.hesitations.update(found)
        if self.drop_hesitations:
            return [word for word in words if word not in found]
        return [self.fold(self._hesitation(word)) if word in found else word for word in words]

    def _hesitation(self, word: str) -> str:
        """The one spelling of a hesitation."""
        match = self.hesitation.fullmatch(word)
        return self.hesitations[(match.lastindex or 1) - 1] if match else word

    def _letter(self, letter: str) -> str | None:
        """What stands for a letter: itself, its base, a space or nothing; None where the alphabet lacks it."""
        if letter.isspace():
            return " "
        in_words = letter.isalnum() or unicodedata.category(letter)[0] == "M"
        base = without_marks(letter)
        if self.alphabet is None:
            if in_words and letter.isnumeric():
                return letter if self.keep_numbers else None
            if in_words and self.strip_accents and base.isascii():
                return base
            return letter if in_words or letter == "'" else " "
        if not self.alphabet.unknown(letter):
            plain = self.strip_accents and in_words and base.isascii() and not self.alphabet.unknown(base)
            return base if plain else letter
        if not in_words:
            return "" if letter == "'" else " "
        return base if base != letter and not self.alphabet.unknown(base) else None


def without_marks(letter: str) -> str:
    """The letter without accents and strokes."""
    parts = unicodedata.normalize("NFKD", letter)
    return "".join(STROKES.get(part, part) for part in parts if unicodedata.category(part)[0] != "M")


def composed(text: str) -> str:
    """Text in one Unicode form: composed, with one apostrophe, without ligatures and invisible characters."""
    text = unicodedata.normalize("NFC", INVISIBLE.sub("", text)).translate(APOSTROPHES)
    text = COMPATIBLE.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    text = RAISED.sub(lambda match: f" {unicodedata.normalize('NFKC', match[0])} ", text)
    return VULGAR.sub(lambda match: f" {unicodedata.normalize('NFKC', match[0])} ", text)


def lowered(language: str | None) -> Callable[[str], str]:
    """What puts text of a language in small letters; Turkish and Azerbaijani have an i without a dot."""
    if (language or "")[:2] in ("tr", "az"):
        return lambda text: text.replace("İ", "i").replace("I", "ı").lower()
    return str.lower
