"""Error rates of transcripts of any origin: `carnelian score REFERENCE HYPOTHESIS`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from carnelian.commands.scoring_options import ScoringOptions
from carnelian.console import note
from carnelian.errors import ScoringError
from carnelian.files import check_outputs, written
from carnelian.scoring.report.tables import ScoreReport, print_confusions, print_groups, print_rates, report_of_edits
from carnelian.scoring.sclite.alignment import ScliteRules
from carnelian.scoring.sclite.ctm import read_ctm
from carnelian.scoring.sclite.ctm_pairs import score_ctm
from carnelian.scoring.sclite.glm import GlobalMap, map_ctm, map_stm, read_glm
from carnelian.scoring.sclite.scorer import ScoredSegment, per_label, per_speaker, score_stm, score_trn
from carnelian.scoring.sclite.stm import read_stm
from carnelian.scoring.transcript_files import (
    TRANSCRIPT_FORMATS,
    first_readings,
    format_of,
    hidden_names,
    paired_transcripts,
    read_transcripts,
)
from carnelian.scoring.wer import errors_by_group

Case = Literal["fold", "ascii", "keep"]
TIMED = {("stm", "ctm"), ("ctm", "ctm")}


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
    case: Annotated[str, "fold capitals, fold only ascii ones, or keep them apart (-s)"] = "fold"
    time_mediated: Annotated[bool, "align by word times, two CTM files only (-T)"] = False
    intersection: Annotated[str, "ref, hyp or both: leave out what lies outside the other side in time (-m)"] = ""
    speakers: Annotated[str, "how names tell speakers: spu_id (before - or _) or wsj (3 characters) (-i)"] = "spu_id"

    def rules(self) -> ScliteRules:
        """The rules of these options. ScoringError for a value that there is not."""
        for option, value, known in (
            ("characters", self.characters, ("", "all", "non-ascii")),
            ("case", self.case, get_args(Case)),
            ("intersection", self.intersection, ("", "ref", "hyp", "both")),
            ("speakers", self.speakers, ("spu_id", "wsj")),
        ):
            if value not in known:
                raise ScoringError(f"--{option} {value}: not known. Take one of {', '.join(filter(None, known))}")
        return ScliteRules(
            deletable=self.deletable,
            fragments=self.fragments,
            characters=self.characters,  # type: ignore[arg-type]
            drop_hyphens=self.drop_hyphens,
            case=self.case,  # type: ignore[arg-type]
            time_mediated=self.time_mediated,
        )

    def map(self, *kinds: str) -> GlobalMap:
        """The GLM rules for a kind of input; without a file, none."""
        return read_glm(self.glm, kinds) if self.glm else GlobalMap([])


def score(
    reference: Annotated[
        Path, "the references: text, TRN, STM, CTM, a manifest or other JSON lines, TSV, Kaldi's text"
    ],
    hypothesis: Annotated[Path | None, "the hypotheses; may be left out where the first file's lines hold both"] = None,
    *,
    reference_format: Annotated[str, f"where it is not told by the file: {', '.join(TRANSCRIPT_FORMATS)}"] = "",
    hypothesis_format: Annotated[str, "likewise"] = "",
    encoding: Annotated[str, "of both files"] = "utf-8",
    scoring: ScoringOptions = ScoringOptions(),  # noqa: B008
    options: ScliteOptions = ScliteOptions(),
    out: Annotated[Path | None, "write each utterance's counts and alignment to this JSON-lines file"] = None,
    overwrite: Annotated[bool, "replace the file of --out if it exists"] = False,
    json_output: Annotated[bool, "print one JSON object instead of tables"] = False,
) -> None:
    """Score transcripts of any origin: word error rate, by speaker and subset, with the rules of sclite where files are NIST's.

    Example: carnelian score reference.stm hypothesis.ctm --glm english.glm --deletable --fragments
    """
    check_outputs(out, overwrite=overwrite)
    for given in (reference_format, hypothesis_format):
        if given and given not in TRANSCRIPT_FORMATS:
            raise ScoringError(f'format "{given}": not known. Take one of {", ".join(TRANSCRIPT_FORMATS)}')
    if hypothesis is None and format_of(reference, encoding) != "json":
        raise ScoringError(f"{reference}: no hypotheses. Give their file; only JSON lines may hold both")
    hypothesis = hypothesis or reference
    kinds = (
        reference_format or format_of(reference, encoding),
        hypothesis_format or format_of(hypothesis, encoding),
    )
    normalized = scoring != ScoringOptions()
    if options != ScliteOptions() and normalized:
        raise ScoringError("--normalize and --merge-compounds do not go with the options of sclite. Give either")
    if not normalized and (kinds in TIMED or "trn" in kinds or options != ScliteOptions()):
        segments, titles = sclite_segments(reference, hypothesis, kinds, encoding, options)
        report = sclite_report(segments, options)
        groups = {"speakers": per_speaker(segments), "subsets": per_label(segments)}
        groups["subsets"] = {titles.get(label, label): errors for label, errors in groups["subsets"].items()}
        lines = [segment_line(each) for each in segments]
    else:
        names_kept = reference_format == hypothesis_format == "text"
        report, groups, lines = plain_report(reference, hypothesis, kinds, encoding, scoring, names_kept)
    if out:
        with written(out) as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    print_score(str(hypothesis), report, groups, json_output)


def plain_report(
    reference: Path,
    hypothesis: Path,
    kinds: tuple[str, str],
    encoding: str,
    scoring: ScoringOptions,
    names_kept: bool,
):
    """Returns the report, groups and lines of transcripts compared as text."""
    truth = read_transcripts(reference, kinds[0], encoding=encoding)
    found = read_transcripts(hypothesis, kinds[1], hypothesis=True, encoding=encoding, beside=hypothesis == reference)
    if kinds[0] in ("trn", "stm"):
        truth = first_readings(truth)
    if kinds[1] == "trn":
        found = first_readings(found)
    if not (truth.named or found.named or names_kept) and hidden_names(truth, found):
        note(
            "lines begin with names, which are not scored; --reference-format text and --hypothesis-format text keep them"
        )
        truth, found = (read_transcripts(path, "kaldi", encoding=encoding) for path in (reference, hypothesis))
    names, references, hypotheses, missing = paired_transcripts(truth, found)
    note_unpaired(missing, len(names))
    speakers = [truth.speakers.get(name, "") for name in names] if truth.speakers else None
    report = scoring.report(references, hypotheses, speakers)
    by_speaker = errors_by_group(speakers, report.utterances) if speakers else {}
    lines = [
        {"name": name, "text": text, "hypothesis": other, "errors": errors.total, "words": errors.reference_words}
        for name, text, other, errors in zip(names, references, hypotheses, report.utterances)
    ]
    return report, {"speakers": by_speaker, "subsets": {}}, lines


def sclite_segments(
    reference: Path, hypothesis: Path, kinds: tuple[str, str], encoding: str, options: ScliteOptions
) -> tuple[list[ScoredSegment], dict[str, str]]:
    """Returns the scored segments of two files, and the titles of their labels."""
    rules, split = options.rules(), options.split_hyphens
    if kinds in TIMED:
        words = read_ctm(hypothesis, encoding)
        if options.glm:
            words = map_ctm(words, options.map("ctm", "hyp"), split_hyphens=split)
        if kinds[0] == "ctm":
            return score_ctm(read_ctm(reference, encoding), words, rules), {}
        truth = read_stm(reference, encoding)
        if options.glm:
            truth = map_stm(truth, options.map("stm", "ref"), split_hyphens=split)
        reduce = {
            "reduce_reference": options.intersection in ("ref", "both"),
            "reduce_hypothesis": options.intersection in ("hyp", "both"),
        }
        return score_stm(truth, words, rules, **reduce), truth.labels
    names, references, hypotheses, missing = paired_transcripts(
        read_transcripts(reference, kinds[0], encoding=encoding),
        read_transcripts(hypothesis, kinds[1], hypothesis=True, encoding=encoding),
    )
    note_unpaired(missing, len(names))
    if options.glm:
        maps = options.map("trn", "ref"), options.map("trn", "hyp")
        references, hypotheses = (
            [each.transcript(text, split_hyphens=split) for text in texts]
            for each, texts in zip(maps, (references, hypotheses))
        )
    pairs = dict(zip(names, references)), dict(zip(names, hypotheses))
    return score_trn(*pairs, rules, speakers=options.speakers), {}


def note_unpaired(missing: int, count: int) -> None:
    """Notes references without a hypothesis."""
    if missing:
        note(f"{missing} of {count} references have no hypothesis; all their words count as deleted")


def sclite_report(segments: Sequence[ScoredSegment], options: ScliteOptions) -> ScoreReport:
    """Returns the report of scored segments; its normalisation names the rules that differ from sclite's defaults."""
    parts = ["sclite"]
    parts += [flag for flag, given in (("-D", options.deletable), ("-F", options.fragments)) if given]
    parts += [f"characters {options.characters}"] if options.characters else []
    parts += [f"GLM {options.map('ref').name}"] if options.glm else []
    return report_of_edits(
        [each.edits for each in segments], speakers=[each.speaker for each in segments], normalization=" ".join(parts)
    )


def segment_line(segment: ScoredSegment) -> dict:
    """Returns a line of `--out`: the counts, and the alignment as (kind, reference, hypothesis)."""
    errors = segment.errors
    return {
        "name": segment.name,
        "speaker": segment.speaker,
        "labels": list(segment.labels),
        "errors": errors.total,
        "words": errors.reference_words,
        "alignment": [list(edit) for edit in segment.edits],
    }


def print_score(name: str, report: ScoreReport, groups: dict, json_output: bool) -> None:
    """Prints the report and the groups of more than one member."""
    if json_output:
        rates = {
            kind: {
                name: {"words": errors.reference_words, "errors": errors.total, "wer": errors.rate}
                for name, errors in each.items()
            }
            for kind, each in groups.items()
        }
        print(json.dumps(report.as_dict() | rates, indent=2, ensure_ascii=False))
        return
    print_rates({name: report})
    print_confusions(report)
    for kind, each in groups.items():
        if len(each) > 1:
            print_groups(f"By {kind.removesuffix('s')}", each)
    wrong = sum(errors.total > 0 for errors in report.utterances)
    share = 100 * wrong / len(report.utterances) if report.utterances else 0.0
    print(f"{wrong} of {len(report.utterances)} utterances have errors ({share:.1f} %)")
