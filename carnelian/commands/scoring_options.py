"""How references and hypotheses are compared: the options that `evaluate`, `score` and `tune` share."""

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from carnelian.console import note
from carnelian.data.text.names import NORMALIZE_HELP, likely_normalizations, make_normalizer
from carnelian.data.text.report import Normalizer
from carnelian.errors import MissingExtraError
from carnelian.scoring.report.tables import ScoreReport, score_texts

WRITTEN = re.compile(r"[A-Z0-9.,;:!?¿¡]")  # signs of text as people write it
LOWER = 0.8  # times the error rate: what a normalisation must reach to be spoken of


@dataclass(frozen=True)
class ScoringOptions:
    """What is done to both sides before they are compared, and what counts as equal."""

    normalize: Annotated[str, NORMALIZE_HELP] = ""
    merge_compounds: Annotated[bool, 'count "white paper" and "whitepaper" as equal'] = False

    def __post_init__(self) -> None:
        self.normalizer  # noqa: B018  # a name that there is not is refused before anything slow

    @cached_property
    def normalizer(self) -> Normalizer | None:
        """What is applied to both sides, if anything."""
        return make_normalizer(self.normalize) if self.normalize else None

    @property
    def label(self) -> str:
        """Name and version of the normalisation."""
        return self.normalizer.label if self.normalizer else "none"

    def normalize_text(self, text: str) -> str:
        """The text as it is compared."""
        return self.normalizer(text) or "" if self.normalizer else text

    def normalized(self, texts: Iterable[str]) -> list[str]:
        """The texts as they are compared."""
        return [self.normalize_text(text) for text in texts]

    def report(
        self, references: Sequence[str], hypotheses: Sequence[str], speakers: Sequence[Hashable] | None = None
    ) -> ScoreReport:
        """The score report of two lists of texts, both normalised; noted is what a normalisation would give."""
        report = score_texts(
            self.normalized(references),
            self.normalized(hypotheses),
            speakers=speakers,
            merge_compounds=self.merge_compounds,
            normalization=self.label,
        )
        self.note_gain(references, hypotheses, report)
        return report

    def note_gain(self, references: Sequence[str], hypotheses: Sequence[str], report: ScoreReport) -> None:
        """Says what the error rate would be with a normalisation, where it is much lower and none was asked for."""
        if self.normalize or not report.words.total or not any(map(WRITTEN.search, references)):
            return
        name = likely_normalizations(references)[0]
        try:
            other = ScoringOptions(normalize=name, merge_compounds=self.merge_compounds)
            rate = other.report(references, hypotheses).words.rate
        except MissingExtraError:
            return
        if rate < LOWER * report.words.rate:
            note(f"with --normalize {name} the word error rate would be {100 * rate:.2f} %")
