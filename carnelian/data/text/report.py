"""What normalising text did, and what a normaliser is."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

EXAMPLES = 5  # changed sentences that a report keeps


@dataclass
class NormalizationReport:
    """What normalising texts did: how many were kept, what was written out, changed, removed, and dropped."""

    sentences: int = 0
    words: int = 0
    altered: int = 0
    numbers: int = 0
    frame_lines: int = 0
    empty: int = 0
    dropped: int = 0
    abbreviations: Counter = field(default_factory=Counter)
    symbols: Counter = field(default_factory=Counter)
    tags: Counter = field(default_factory=Counter)
    hesitations: Counter = field(default_factory=Counter)
    punctuation: Counter = field(default_factory=Counter)
    changed: Counter = field(default_factory=Counter)
    unknown: Counter = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)

    def rows(self) -> list[tuple[str, object]]:
        """The report as lines of a table; most frequent first."""

        def most(counter: Counter) -> str:
            return " ".join(f"{name} {count}" for name, count in counter.most_common(12))

        rows = [
            ("sentences", self.sentences),
            ("words", self.words),
            ("sentences changed", self.altered),
            ("numbers written out", self.numbers),
            ("abbreviations written out", most(self.abbreviations)),
            ("symbols written out", most(self.symbols)),
            ("punctuation removed", most(self.punctuation)),
            ("tags removed", most(self.tags)),
            ("hesitations", most(self.hesitations)),
            ("lines of a Gutenberg frame dropped", self.frame_lines),
            ("sentences without words dropped", self.empty),
            ("sentences with unknown letters dropped", self.dropped),
            ("letters that lost their marks", most(self.changed)),
            ("unknown letters", most(self.unknown)),
        ]
        return [(name, value) for name, value in rows if value not in ("", 0) or name in ("sentences", "words")]


class Normalizer(Protocol):
    """Gives the text that is compared or learnt; None where nothing is left, or letters that cannot be spelled are.

    `label` is its name and version, which belong beside every figure and into every manifest.
    """

    label: str

    def __call__(self, sentence: str, report: NormalizationReport | None = None) -> str | None: ...
