"""Error rates of transcripts of any origin: `carnelian score REFERENCE HYPOTHESIS`."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from carnelian.commands.sclite_options import ScliteOptions
from carnelian.commands.scoring_options import ScoringOptions
from carnelian.console import note
from carnelian.errors import ScoringError
from carnelian.files import check_outputs, written
from carnelian.scoring.report.tables import ScoreReport, print_confusions, print_groups, print_rates, report_of_edits
from carnelian.scoring.sclite.ctm import read_ctm
from carnelian.scoring.sclite.ctm_pairs import score_ctm
from carnelian.scoring.sclite.diff import score_stm_text
from carnelian.scoring.sclite.glm import map_ctm, map_stm
from carnelian.scoring.sclite.scorer import ScoredSegment, per_label, per_speaker, score_stm, score_trn
from carnelian.scoring.sclite.stm import read_stm, read_text
from carnelian.scoring.sclite.weights import WeightedErrors
from carnelian.scoring.transcript_files import (
    TRANSCRIPT_FORMATS,
    first_readings,
    format_of,
    hidden_names,
    paired_transcripts,
    read_transcripts,
)
from carnelian.scoring.wer import errors_by_group

TIMED = {("stm", "ctm"), ("ctm", "ctm")}


def score(
    reference: Annotated[
        Path, "the references: text, TRN, STM, CTM, a manifest or other JSON lines, TSV, Kaldi's text"
    ],
    hypothesis: Annotated[Path | None, "the hypotheses; may be left out where the first file's lines hold both"] = None,
    *,
    reference_format: Annotated[str, f"where it is not told by the file: {', '.join(TRANSCRIPT_FORMATS)}"] = "",
    hypothesis_format: Annotated[str, "likewise"] = "",
    encoding: Annotated[str, "of all files"] = "utf-8",
    scoring: ScoringOptions = ScoringOptions(),  # noqa: B008
    options: ScliteOptions = ScliteOptions(),  # noqa: B008
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
    weighted = WeightedErrors()
    kinds = (
        reference_format or format_of(reference, encoding),
        hypothesis_format or format_of(hypothesis, encoding),
    )
    normalized = scoring != ScoringOptions()
    if options != ScliteOptions() and normalized:
        raise ScoringError("--normalize and --merge-compounds do not go with the options of sclite. Give either")
    if not normalized and (kinds in TIMED or "trn" in kinds or options != ScliteOptions()):
        segments, titles = sclite_segments(reference, hypothesis, kinds, encoding, options)
        report = sclite_report(segments, options, encoding)
        groups = {"speakers": per_speaker(segments), "subsets": per_label(segments)}
        groups["subsets"] = {titles.get(label, label): errors for label, errors in groups["subsets"].items()}
        lines = [segment_line(each) for each in segments]
        weighted = sum((each.weighted for each in segments if each.weighted), WeightedErrors())
    else:
        names_kept = reference_format == hypothesis_format == "text"
        report, groups, lines = plain_report(reference, hypothesis, kinds, encoding, scoring, names_kept)
    if out:
        with written(out) as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    print_score(str(hypothesis), report, groups, weighted, json_output)


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
    rules, split = options.rules(encoding), options.split_hyphens
    if kinds == ("stm", "text"):
        if replace(options, sclite=False, case="fold") != ScliteOptions():
            raise ScoringError(
                "text is aligned with STM by GNU diff, which knows no such rules. Give --sclite and --case only"
            )
        truth = read_stm(reference, encoding)
        return score_stm_text(truth, read_text(hypothesis, encoding), rules), truth.labels
    if kinds in TIMED:
        words = read_ctm(hypothesis, encoding)
        if options.glm:
            words = map_ctm(words, options.map(encoding, "ctm", "hyp"), split_hyphens=split)
        if kinds[0] == "ctm":
            return score_ctm(read_ctm(reference, encoding), words, rules), {}
        truth = read_stm(reference, encoding)
        if options.glm:
            truth = map_stm(truth, options.map(encoding, "stm", "ref"), split_hyphens=split)
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
        maps = options.map(encoding, "trn", "ref"), options.map(encoding, "trn", "hyp")
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


def sclite_report(segments: Sequence[ScoredSegment], options: ScliteOptions, encoding: str) -> ScoreReport:
    """Returns the report of scored segments; its normalisation names the rules that differ from sclite's defaults."""
    parts = ["sclite"]
    parts += [flag for flag, given in (("-D", options.deletable), ("-F", options.fragments)) if given]
    parts += [f"characters {options.characters}"] if options.characters else []
    parts += [f"lexicon {options.lexicon}"] if options.lexicon else []
    parts += [f"weights {options.word_weights}"] if options.word_weights else []
    parts += [f"GLM {options.map(encoding, 'ref').name}"] if options.glm else []
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


def print_score(name: str, report: ScoreReport, groups: dict, weighted: WeightedErrors, json_output: bool) -> None:
    """Prints the report, the groups of more than one member, and the rate by weights where words have some."""
    if json_output:
        rates = {
            kind: {
                name: {"words": errors.reference_words, "errors": errors.total, "wer": errors.rate}
                for name, errors in each.items()
            }
            for kind, each in groups.items()
        }
        figures = report.as_dict() | rates | ({"weighted_wer": weighted.rate} if weighted != WeightedErrors() else {})
        print(json.dumps(figures, indent=2, ensure_ascii=False))
        return
    print_rates({name: report})
    print_confusions(report)
    for kind, each in groups.items():
        if len(each) > 1:
            print_groups(f"By {kind.removesuffix('s')}", each)
    if weighted != WeightedErrors():
        print(f"by the words' weights: WER {100 * weighted.rate:.2f} %")
    wrong = sum(errors.total > 0 for errors in report.utterances)
    share = 100 * wrong / len(report.utterances) if report.utterances else 0.0
    print(f"{wrong} of {len(report.utterances)} utterances have errors ({share:.1f} %)")
