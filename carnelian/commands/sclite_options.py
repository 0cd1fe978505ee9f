"""NIST's rules of scoring, as options of `carnelian score`."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

from carnelian.errors import ScoringError
from carnelian.files import reading
from carnelian.ngram.load import load_language_model
from carnelian.scoring.sclite.alignment import ScliteRules
from carnelian.scoring.sclite.glm import GlobalMap, read_glm
from carnelian.scoring.sclite.segmentation import read_lexicon
from carnelian.scoring.sclite.weights import UNKNOWN_BITS, WordWeights, read_word_weights

Case = Literal["fold", "ascii", "keep"]
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class ScliteOptions:
    """NIST's rules; what sclite calls them stands in parentheses."""

    sclite: Annotated[
        bool, "sclite's alignment, alternates { a / b / @ } in all formats; always for TRN, STM and CTM"
    ] = False
    glm: Annotated[Path | None, "rewrite both sides by this GLM file (csrfilt)"] = None
    split_hyphens: Annotated[bool, "with --glm: words with a hyphen are several words (csrfilt -dh)"] = False
    deletable: Annotated[bool, "words in parentheses may be missing (-D)"] = False
    fragments: Annotated[bool, "a cut word- equals what begins as it does (-F)"] = False
    characters: Annotated[
        str, "score characters: all (-c), or non-ascii, which keeps ASCII words whole (-c NOASCII)"
    ] = ""
    drop_hyphens: Annotated[bool, "with --characters: hyphens are no characters (-c DH)"] = False
    lexicon: Annotated[
        Path | None, "join the characters of one side to words of this list as the other side has them (-S)"
    ] = None
    segment: Annotated[str, "with --lexicon: that side, hypothesis (algo1) or reference (algo2)"] = "hypothesis"
    word_weights: Annotated[
        Path | None, "words count by their weights: a list of them (-w), or an n-gram model, then their bits (-L)"
    ] = None
    case: Annotated[str, "fold capitals, fold only ascii ones, or keep them apart (-s)"] = "fold"
    time_mediated: Annotated[bool, "align by word times, two CTM files only (-T)"] = False
    intersection: Annotated[str, "ref, hyp or both: leave out what lies outside the other side in time (-m)"] = ""
    speakers: Annotated[str, "how names tell speakers: spu_id (before - or _) or wsj (3 characters) (-i)"] = "spu_id"

    def rules(self, encoding: str) -> ScliteRules:
        """The rules of these options. ScoringError for a value that there is not."""
        for option, value, known in (
            ("characters", self.characters, ("", "all", "non-ascii")),
            ("case", self.case, get_args(Case)),
            ("intersection", self.intersection, ("", "ref", "hyp", "both")),
            ("speakers", self.speakers, ("spu_id", "wsj")),
            ("segment", self.segment, ("hypothesis", "reference")),
        ):
            if value not in known:
                raise ScoringError(f"--{option} {value}: not known. Take one of {', '.join(filter(None, known))}")
        if self.word_weights and (self.time_mediated or self.characters or self.lexicon):
            raise ScoringError(
                "--word-weights does not go with --time-mediated, --characters and --lexicon. Give either"
            )
        if self.lexicon and self.time_mediated:
            raise ScoringError("--lexicon does not go with --time-mediated. Give either")
        rules = ScliteRules(
            deletable=self.deletable,
            fragments=self.fragments,
            characters=self.characters,  # type: ignore[arg-type]
            drop_hyphens=self.drop_hyphens,
            case=self.case,  # type: ignore[arg-type]
            time_mediated=self.time_mediated,
            segment=self.segment,  # type: ignore[arg-type]
        )
        lexicon = read_lexicon(self.lexicon, rules.folded, encoding) if self.lexicon else None
        weights = weights_in(self.word_weights, encoding) if self.word_weights else None
        return replace(rules, lexicon=lexicon, weights=weights)

    def map(self, encoding: str, *kinds: str) -> GlobalMap:
        """The GLM rules for a kind of input; without a file, none."""
        return read_glm(self.glm, kinds, encoding) if self.glm else GlobalMap([])


def weights_in(path: Path, encoding: str) -> WordWeights:
    """Returns the weights in a list of words, or the information in bits by the n-gram model in a file."""
    with reading(path, "word weights or a language model", ScoringError), path.open("rb") as file:
        opening = file.read(4096)
    if b"\0" not in opening and not opening.startswith(GZIP) and b"\\data\\" not in opening:
        return read_word_weights(path, encoding)
    model = load_language_model(path)

    def bits(words: tuple[str, ...]) -> float:
        if not model.known(words[-1:])[0]:
            return UNKNOWN_BITS
        return -float(model.word_scores(words, start=False, end=False)[-1]) / math.log(2)

    return WordWeights(bits, model.order, str(path))
