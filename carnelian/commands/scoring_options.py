"""How references and hypotheses are compared: the options that `evaluate`, `score` and `tune` share."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from carnelian.data.text.names import NORMALIZE_HELP, make_normalizer
from carnelian.data.text.report import Normalizer
from carnelian.scoring.report.tables import ScoreReport, score_texts


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
        self, references: Iterable[str], hypotheses: Iterable[str], speakers: Sequence[Hashable] | None = None
    ) -> ScoreReport:
        """The score report of two lists of texts, both normalised."""
        return score_texts(
            self.normalized(references),
            self.normalized(hypotheses),
            speakers=speakers,
            merge_compounds=self.merge_compounds,
            normalization=self.label,
        )
