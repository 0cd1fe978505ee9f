"""Numbers as they are spoken: cardinals, ordinals, years, decimals, fractions, money, times. The only importer of num2words."""

import re
from functools import lru_cache

from carnelian.data.text.languages import LANGUAGE_RULES, NUMBERS_ONLY, LanguageRules
from carnelian.errors import LanguageModelError, MissingExtraError

POINT_DECIMALS = ("en", "zh", "ja", "ko", "th", "he")  # languages whose decimals follow a point
LONGEST_NUMBER = 15  # digits; longer ones are read digit by digit
NUMERAL = r"\d(?:[\d.,]*\d)?"
TELEPHONE = re.compile(r"(?<![\d.,-])(?:\+?\d{1,3}[ .-])?(?:\(?\d{3}\)?[ .-])?\d{3}[.-]\d{4}(?![\d.,-])")
SCALES = {"bn": "billion", "m": "million", "k": "thousand"}
SPACED_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?![\d.])")
WHOLE_NUMBER = re.compile(r"\d+(?:[.,]\d+)?|\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?:\.\d{3})+(?:,\d+)?")
HALF_DAY = re.compile(r"(?<=\d)\s?([ap])\.?\s?m\b\.?", re.I)
CLOCK_TIME = re.compile(r"(?<![\d:.,])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?:\s*uhr\b)?(?![\d:])", re.I)
FRACTION = re.compile(r"(?<![\d/⁄.,])(?:(\d+)[ -])?(\d{1,2})[/⁄](\d{1,2})(?![\d/⁄])")
DECADE = re.compile(r"(?<![\d.,])'?(1[0-9]|20)?([1-9])0'?s\b", re.I)
MINUS_SIGN = re.compile(r"(?:(?<=\s)|^)[-−](?=\d)", re.M)
INFLECTING = re.compile(r"\b(am|im|vom|zum|beim|dem|den|des|bis)\s+$", re.I)  # words that put a German ordinal into -n
MILLIONS = {
    "en": "hundred|thousand|million|billion|trillion|bn|m|k",
    "es": "mil|millones|millón",
    "de": "millionen|milliarden|million",
}
MILLIONS["fr"] = "mille|millions?|milliards?"
#: nouns that end like feminine ones in Spanish and are not
MASCULINE = ("día", "mapa", "problema", "tema", "sistema", "programa", "idioma", "clima", "planeta", "cometa", "poeta")


class SpokenNumbers:
    """Writes out the numbers of a language, given as a code such as "en"."""

    def __init__(self, language: str):
        self.language = language
        self.rules: LanguageRules = LANGUAGE_RULES.get(language[:2], NUMBERS_ONLY)
        self.decimal = "." if language[:2] in POINT_DECIMALS else ","
        number_words("1", language)  # a language without numbers is refused now
        signs = "".join(map(re.escape, self.rules.currencies)) or "¤"
        scale = MILLIONS.get(language[:2], "(?!)")
        self.money = re.compile(
            rf"([{signs}])\s?({NUMERAL})(?:\s?({scale})\b)?|({NUMERAL})(?:\s?({scale})\b)?\s?([{signs}])", re.I
        )
        units = "|".join(sorted(self.rules.units, key=len, reverse=True)) or "(?!)"
        self.units = re.compile(rf"(?<=\d)\s?({units})(?!\w)", re.I)
        self.percent = re.compile(r"(?<=\d)\s?%")
        self.number = re.compile(rf"({NUMERAL})(?:({self.rules.ordinal})(?!\w))?", re.I)

    def __call__(self, text: str) -> tuple[str, int]:
        """The text with its numbers as words, and how many there were."""
        if not re.search(r"\d", text):
            return text, 0
        count = 0

        def counted(spoken):
            def replaced(match: re.Match) -> str:
                nonlocal count
                words = spoken(match)
                count += words != match[0]
                return words if words == match[0] else f" {words} "

            return replaced

        if self.decimal == ",":
            text = SPACED_THOUSANDS.sub(lambda match: re.sub(r"\D", "", match[0]), text)
        if self.rules.minus:
            text = MINUS_SIGN.sub(f"{self.rules.minus} ", text)
        text = self.money.sub(counted(self._money), text)
        text = self.units.sub(lambda match: f" {self._unit(match[1])} ", text)
        if self.rules.percent:
            text = self.percent.sub(f" {self.rules.percent} ", text)
        text = TELEPHONE.sub(counted(lambda match: self._digits(match[0])), text)
        if self.language[:2] == "en":
            text = HALF_DAY.sub(r" \1 m ", text)
        if self.language[:2] in LANGUAGE_RULES:
            text = CLOCK_TIME.sub(counted(self._time), text)
        if self.language[:2] == "en":
            text = FRACTION.sub(counted(self._fraction), text)
            text = DECADE.sub(counted(self._decade), text)
        if self.language[:2] == "es":
            text = re.sub(rf"({NUMERAL})(\s+)([^\W\d_]+)", counted(self._agreeing), text)
        return self.number.sub(counted(self._number), text), count

    def _number(self, match: re.Match) -> str:
        digits, ordinal = match.groups()
        if ordinal is not None:
            words = ordinal_words(digits, ordinal, self.language)
            return (
                f"{words}n" if self.language[:2] == "de" and INFLECTING.search(match.string[: match.start()]) else words
            )
        if re.fullmatch(self.rules.years, digits):
            return cleaned(spelled_out(int(digits), self.language, "year"))
        if WHOLE_NUMBER.fullmatch(digits):
            return number_words(digits, self.language)
        parts = re.split(r"([.,])", digits)  # 1.2.3 or 4,5,6: several numbers
        point = self.rules.point if self.decimal == "." else ""
        return " ".join(
            number_words(part, self.language) if part.isdigit() else point if part == "." else "" for part in parts
        )

    def _money(self, match: re.Match) -> str:
        sign, digits, scale = (match[1], match[2], match[3]) if match[1] else (match[6], match[4], match[5])
        one, many, hundredth, hundredths = self.rules.currencies[sign]
        scale = scale and SCALES.get(scale.lower(), scale)
        whole, mark, rest = digits.rpartition(self.decimal)
        if scale:
            of = "de " if re.match("mill(?!e$)", scale, re.I) and self.language[:2] in ("es", "fr") else ""
            return f"{number_words(digits, self.language)} {scale.lower()} {of}{many}"
        if mark and len(rest) == 2 and hundredth:
            money, cents = self._amount(whole, one, many), self._amount(str(int(rest)), hundredth, hundredths)
            if whole == "0" or not int(rest):
                return cents if int(rest) else money
            return money + {"en": " and ", "es": " con ", "fr": " et "}.get(self.language[:2], " ") + cents
        return self._amount(digits, one, many)

    def _amount(self, digits: str, one: str, many: str) -> str:
        return f"{self._counted(number_words(digits, self.language), digits)} {one if digits == '1' else many}"

    def _counted(self, words: str, digits: str) -> str:
        """A number before a noun: Spanish and German shorten "one"."""
        if self.language[:2] == "es":
            return re.sub(r"veintiuno$", "veintiún", re.sub(r"\buno$", "un", words))
        return "ein" if self.language[:2] == "de" and digits == "1" else words

    def _unit(self, unit: str) -> str:
        return next(words for pattern, words in self.rules.units.items() if re.fullmatch(pattern, unit, re.I))

    def _digits(self, text: str) -> str:
        return " ".join(number_words(digit, self.language) for digit in text if digit.isdigit())

    def _time(self, match: re.Match) -> str:
        hour, minute, second = (int(each) if each else 0 for each in match.groups())
        words = [number_words(str(hour), self.language)]
        if self.language[:2] == "de":
            words = ["ein" if hour == 1 else words[0], self.rules.clock]
        if self.language[:2] == "fr":
            words = ["une" if hour == 1 else words[0], "heure" if hour == 1 else "heures"]
        if minute:
            words += [
                *(["oh"] if minute < 10 and self.language[:2] == "en" else []),
                number_words(str(minute), self.language),
            ]
        elif self.language[:2] == "en" and not re.match(r"\s?[ap]\.?\s?m\b", match.string[match.end() :], re.I):
            words += [self.rules.clock] if 0 < hour <= 12 else ["hundred"]
        if match[3]:
            words += [number_words(str(second), self.language)]
        return " ".join(words)

    def _fraction(self, match: re.Match) -> str:
        whole, above, below = match[1], int(match[2]), int(match[3])
        if not 0 < above < below <= 10:
            return match[0]
        name = {2: "half", 4: "quarter"}.get(below) or number_words(str(below), "en", "ordinal")
        if above == 1:
            return f"{number_words(whole, 'en')} and a {name}" if whole else f"one {name}"
        part = f"{number_words(str(above), 'en')} {name}s"
        return f"{number_words(whole, 'en')} and {part}" if whole else part

    def _decade(self, match: re.Match) -> str:
        century = match[1]
        tens = re.sub("y$", "ies", number_words(match[2] + "0", "en"))
        return f"{number_words(century, 'en')} {tens}" if century else tens

    def _agreeing(self, match: re.Match) -> str:
        """A Spanish number in agreement with the noun behind it: 21 años, 200 personas."""
        digits, space, noun = match.groups()
        if noun.lower() in ("y", "o", "de", "del", "a", "al", "en", "por", "con", "que", "horas", "e", "u"):
            return match[0]
        words = number_words(digits, self.language)
        stem = noun.lower().removesuffix("s")
        if stem.endswith("a") and stem not in MASCULINE:
            words = re.sub(r"\b(\w*)cientos\b", r"\1cientas", re.sub(r"\bquinientos\b", "quinientas", words))
            words = re.sub(r"uno$", "una", words)
        else:
            words = self._counted(words, digits)
        return f"{words}{space}{noun}"


def ordinal_words(digits: str, ending: str, language: str) -> str:
    """An ordinal number in words; Spanish and French agree with its ending, German takes its basic form."""
    words = cleaned(spelled_out(int(re.sub(r"\D", "", digits)), language, "ordinal"))
    if language[:2] == "es":
        if "ª" in ending:
            return re.sub(r"o\b", "a", words)
        return re.sub(r"(primer|tercer)o$", r"\1", words) if ending.endswith("er") else words
    return "première" if language[:2] == "fr" and digits == "1" and "r" in ending and ending != "er" else words


def number_words(number: str, language: str, kind: str = "cardinal") -> str:
    """A number, with marks between thousands and before decimals as the language has them, or an ordinal, in words."""
    digits = number.rstrip("stndrhº°ª")
    thousands, decimal = (",", ".") if language[:2] in POINT_DECIMALS else (".", ",")
    if re.fullmatch(rf"\d{{1,3}}(\{thousands}\d{{3}})+(\{decimal}\d+)?", digits):
        value, mark = digits.replace(thousands, "").replace(decimal, "."), decimal
    else:
        whole, mark, decimals = re.sub("[.,]", ".", digits).rpartition(".")
        value = f"{whole.replace('.', '')}.{decimals}" if whole else digits
        mark = digits[len(whole)] if whole else decimal
    if len(value) > LONGEST_NUMBER or re.match(r"0\d", value):
        return " ".join(cleaned(spelled_out(int(digit), language)) for digit in value if digit.isdigit())
    if "." in value:
        whole, decimals = value.split(".")
        return decimal_words(whole, decimals, mark, language)
    words = cleaned(spelled_out(int(value), language, "ordinal" if digits != number else kind))
    if language[:2] == "es":  # 21.000 is veintiún mil, which num2words does not know
        words = re.sub(
            r"\b(veinti|)uno (mil|millones|billones)\b", lambda m: f"{'veintiún' if m[1] else 'un'} {m[2]}", words
        )
    return words


def decimal_words(whole: str, decimals: str, mark: str, language: str) -> str:
    """A number with decimals in words; decimals are read digit by digit, or as a number of two digits."""
    rules = LANGUAGE_RULES.get(language[:2])
    if rules is None:
        return cleaned(spelled_out(float(f"{whole}.{decimals}"), language))
    point = "punto" if language[:2] == "es" and mark == "." else rules.point
    apart = rules.digits or decimals.startswith("0") or len(decimals) > 2
    parts = [spelled_out(int(part), language) for part in (decimals if apart else [decimals])]
    return cleaned(" ".join([spelled_out(int(whole), language), point, *parts]))


def cleaned(words: str) -> str:
    """Number words in small letters without commas and hyphens."""
    return " ".join(re.sub("[,-]", " ", words).lower().split())


@lru_cache(maxsize=4096)
def spelled_out(value: int | float, language: str, kind: str = "cardinal") -> str:
    """A number as num2words spells it; where it cannot, as a cardinal number, or else digit by digit.

    LanguageModelError for a language that it does not know.
    """
    try:
        from num2words import num2words
    except ImportError:
        raise MissingExtraError("num2words", "text", "Writing numbers as words") from None
    digits = [int(digit) for digit in str(value) if digit.isdecimal()]
    try:
        return num2words(value, lang=language, to=kind)
    except Exception as error:  # of any kind: some languages have no years or ordinals, others fail at some numbers
        if kind != "cardinal":
            return spelled_out(value, language)
        if isinstance(error, NotImplementedError) or len(digits) == 1:
            raise LanguageModelError(
                f'--language {language}: numbers cannot be written out in it. Give a code such as "en", "es" or "de"'
            ) from None
    return " ".join(spelled_out(digit, language) for digit in digits)


def spells_numbers(language: str) -> bool:
    """Whether numbers can be written out in a language; True where num2words, which would know, is not installed."""
    try:
        spelled_out(1, language)
    except MissingExtraError:
        return True
    except LanguageModelError:
        return False
    return True
