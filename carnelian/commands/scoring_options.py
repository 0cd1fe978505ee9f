"""How references and hypotheses are compared: the options that `evaluate`, `score` and `tune` share."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from carnelian.data.text.names import NORMALIZE_HELP, make_normalizer, normalized_texts
from carnelian.scoring.report import ScoreReport, score_texts


@dataclass(frozen=True)
class ScoringOptions:
    """What is done to both sides before they are compared, and what counts as equal."""

    normalize: Annotated[str, NORMALIZE_HELP] = ""
    merge_compounds: Annotated[bool, 'count "white paper" and "whitepaper" as equal'] = False

    def __post_init__(self) -> None:
        if self.normalize:
            make_normalizer(self.normalize)  # a name that there is not is refused before anything slow

    @property
    def label(self) -> str:
        """Name and version of the normalisation."""
        return make_normalizer(self.normalize).label if self.normalize else "none"

    def normalized(self, texts: Iterable[str]) -> list[str]:
        """The texts as they are compared."""
        return normalized_texts(make_normalizer(self.normalize), texts) if self.normalize else list(texts)

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
