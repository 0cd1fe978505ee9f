"""The normalisations by their names on the command line."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from carnelian.data.alphabet import Alphabet
from carnelian.data.text.languages import LANGUAGE_RULES, LANGUAGE_RULES_VERSION
from carnelian.data.text.normalize import TextNormalizer
from carnelian.data.text.numbers import spells_numbers
from carnelian.data.text.report import Normalizer
from carnelian.data.text.whisper import WhisperNormalizer
from carnelian.errors import CarnelianError

NORMALIZE_OPTIONS: dict[str, dict[str, bool]] = {
    "keep-case": {"keep_case": True},
    "keep-numbers": {"keep_numbers": True},
    "drop-hesitations": {"drop_hesitations": True},
    "strip-accents": {"strip_accents": True},
    "keep-accents": {"strip_accents": False},
}
NORMALIZE_HELP = (
    "write text as it is spoken before it is used: a language (en, es, de, fr, ...), basic, or whisper-english; "
    "more after commas: " + ", ".join(NORMALIZE_OPTIONS)
)


def make_normalizer(name: str, alphabet: Alphabet | None = None) -> Normalizer:
    """The normaliser of a name as on the command line: `en`, `es,drop-hesitations`, `basic`, `whisper-english`.

    CarnelianError for a name that there is not.
    """
    first, *options = [part.strip() for part in name.split(",")]
    if unknown := [option for option in options if option not in NORMALIZE_OPTIONS]:
        raise CarnelianError(f'--normalize {name}: no option "{unknown[0]}". Known: {", ".join(NORMALIZE_OPTIONS)}')
    settings: dict[str, Any] = {key: value for option in options for key, value in NORMALIZE_OPTIONS[option].items()}
    if first.startswith("whisper"):
        if options:
            raise CarnelianError(f"--normalize {name}: {first} has no options. Give it alone")
        return WhisperNormalizer(first)
    if first == "basic":
        normalizer = TextNormalizer(alphabet=alphabet, **({"keep_numbers": True} | settings))
    elif re.fullmatch("[a-z]{2}([_-][A-Za-z]{2})?", first):
        language = first.replace("-", "_")
        if not settings.get("keep_numbers") and not spells_numbers(language):
            raise CarnelianError(f"--normalize {name}: numbers cannot be written out in it. Give {name},keep-numbers")
        normalizer = TextNormalizer(language=language, alphabet=alphabet, **settings)
    else:
        raise CarnelianError(
            f'--normalize {name}: no such normalisation. Give a language code such as "en", "es", "de" or "fr", '
            '"basic", "whisper-english" or "whisper-basic"'
        )
    normalizer.label = " ".join([f"{first} {LANGUAGE_RULES_VERSION}", *sorted(options)])
    return normalizer


def likely_normalizations(texts: Iterable[str]) -> list[str]:
    """The names of normalisations that may suit texts, the likeliest first: by the frequent words of their language.

    `basic` stands before languages of which there is no such word.
    """
    words = Counter(word for text in texts for word in re.findall(r"[^\W\d_]+", text.lower()))
    scores = {name: sum(words[word] for word in rules.frequent.split()) for name, rules in LANGUAGE_RULES.items()}
    return sorted([*scores, "basic"], key=lambda name: -scores.get(name, 0.5))
