"""NIST's files of transcripts for the fuzzer: each scored beside a whole partner."""

from collections.abc import Callable
from pathlib import Path

from carnelian.commands.sclite_options import ScliteOptions
from carnelian.commands.score import sclite_segments
from carnelian.scoring.transcript_files import format_of

STM = """;; LABEL "O" "Overall" "all"
rec A s1 0.00 1.50 <O,F> the { cat / dog @ / @ } sat (uh) wh- a\\;b word;tag
rec A s2 1.50 2.00 <O> IGNORE_TIME_SEGMENT_IN_SCORING
rec B s3 0.25 3.00 on -day mats
"""
CTM = """;; words
rec A 0.10 0.20 the 0.90
rec A * * <ALT_BEGIN>
rec A 0.40 0.20 cat
rec A * * <ALT>
rec A * * <ALT_END>
rec B 0.50 0.30 mats NA
"""
TRN = ";; lines\nthe { cat / dog } (uh) wh- sat (s1-1)\non a mat (s2_1)\n"
GLM = """;; rules
* name "a.glm"
* case_sensitive = 'F'
UH => %HESITATION / [ ] __ [ ]
CAT'S => [{CAT IS / CAT HAS}] / [ ] __ [ ]
;; INPUT_DEPENDENT_APPLICATION = "ctm"
MR => MISTER
"""
WEIGHTS = ";; 'Headings' 'Word Spelling' 'Count'\n;; Default missing weight '2.5'\nthe 1\ncat 3.5\n"
LEXICON = "the\ncat\ndog\n日本\n"


def beside(kinds: tuple[str, str], partner: str, **options: object) -> Callable[[Path], object]:
    """Scores a file as the reference beside a whole hypothesis."""

    def read(path: Path) -> object:
        other = path.with_name(f"partner.{kinds[1]}")
        other.write_text(partner)
        return sclite_segments(path, other, kinds, "utf-8", ScliteOptions(**options))  # type: ignore[arg-type]

    return read


def setting(option: str) -> Callable[[Path], object]:
    """Scores two whole files by the rules in a file."""

    def read(path: Path) -> object:
        reference, other = path.with_name("reference.trn"), path.with_name("partner.trn")
        reference.write_text(TRN)
        other.write_text(TRN)
        return sclite_segments(reference, other, ("trn", "trn"), "utf-8", ScliteOptions(**{option: path}))

    return read


def recognized(path: Path) -> object:
    """Scores a file of any kind as a hypothesis, by its own first lines."""
    reference = path.with_name("reference.stm")
    reference.write_text(STM)
    format_of(path)
    return sclite_segments(reference, path, ("stm", "ctm"), "utf-8", ScliteOptions(intersection="both"))


NIST_FILES = {
    "stm": (beside(("stm", "ctm"), CTM, deletable=True, fragments=True), ".stm", STM),
    "ctm": (beside(("ctm", "ctm"), CTM, time_mediated=True), ".ctm", CTM),
    "words": (recognized, ".ctm", CTM),
    "trn": (beside(("trn", "trn"), TRN, characters="all", drop_hyphens=True), ".trn", TRN),
    "glm": (setting("glm"), ".glm", GLM),
    "weights": (setting("word_weights"), ".wwl", WEIGHTS),
    "lexicon": (setting("lexicon"), ".lex", LEXICON),
}
