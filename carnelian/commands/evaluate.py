"""Error rates and speed of a model on manifests: `carnelian evaluate MODEL MANIFEST...`."""

import json
import math
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from carnelian.commands.options import RecognizerOptions
from carnelian.commands.scoring_options import ScoringOptions
from carnelian.commands.transcribe import CHANNEL_HELP
from carnelian.console import note, track
from carnelian.data.utterance import Manifest, Utterance, refuse_no_texts
from carnelian.errors import AudioError, CarnelianError, ManifestError
from carnelian.files import check_outputs, one_line, written
from carnelian.scoring.leaderboard import LeaderboardLine, leaderboard_name, write_leaderboard
from carnelian.scoring.report.plots import plot_confusions
from carnelian.scoring.report.tables import ScoreReport, print_confusions, print_rates
from carnelian.scoring.sclite.trn import write_trn

if TYPE_CHECKING:
    from carnelian.data.transcript import Transcript
    from carnelian.inference.recognizer import Recognizer


@dataclass(frozen=True, slots=True)
class EvaluatedUtterance:
    """What was recognized in an utterance, the confidence of each word, and its seconds of audio."""

    utterance: Utterance
    hypothesis: str
    duration: float
    confidences: tuple[float, ...] = ()


def evaluate(
    model: Annotated[Path, "a checkpoint, a run's folder for its last one, or an exported .onnx model"],
    manifests: Annotated[list[Path], "manifests of utterances with their text"],
    *,
    options: RecognizerOptions = RecognizerOptions(),  # noqa: B008
    scoring: ScoringOptions = ScoringOptions(),  # noqa: B008
    channels: Annotated[str, CHANNEL_HELP] = "mix",
    out: Annotated[Path | None, "write each utterance's hypothesis and errors to this JSON-lines file"] = None,
    export: Annotated[
        tuple[str, Path] | None,
        "write results in another program's form: leaderboard (Open ASR) or trn (sclite), and a folder",
    ] = None,
    warm_up: Annotated[int, "utterances recognized once before the time is taken"] = 0,
    report: Annotated[Path | None, "write one HTML file with rates, groups, calibration and every utterance"] = None,
    beside: Annotated[list[Path], "another system's --out file, to show in the report; may be given again"] = [],  # noqa: B006
    plot: Annotated[Path | None, "draw the words most often confused as a heat map, a PNG or SVG file"] = None,
    overwrite: Annotated[bool, "replace outputs that exist"] = False,
    json_output: Annotated[bool, "print one JSON object instead of tables"] = False,
) -> None:
    """Measure word and character error rates, with a 95 % interval, the most frequent errors, and the real-time factor.

    A recording that cannot be read is named and left out; the exit code is then 2.

    Example: carnelian evaluate runs/an4 data/an4/test.jsonl
    """
    if export and export[0] not in EXPORTS:
        raise CarnelianError(f'--export {export[0]}: not known. Give "leaderboard" or "trn", and a folder')
    if beside and not report:
        raise CarnelianError("--beside: has no effect without --report FILE")
    plots = plot_files(plot, manifests)
    check_outputs(out, report, *plots, *export_files(export, model, manifests), overwrite=overwrite)
    recognizer = options.load(model)
    listed = {str(manifest): read_references(manifest) for manifest in manifests}
    reports: dict[str, ScoreReport] = {}
    lines: list[dict[str, Any]] = []
    evaluated: dict[str, list[EvaluatedUtterance]] = {}
    unread: list[str] = []
    audio_seconds = seconds = 0.0
    for manifest, utterances in listed.items():
        list(recognizer.recognize(utterances[:warm_up], batch_seconds=options.batch_seconds, unread=lambda *_: None))
        started, name = time.perf_counter(), Path(manifest).stem
        results = recognized_texts(recognizer, utterances, channels, options.batch_seconds, name, unread)
        taken = time.perf_counter() - started
        if not results:
            raise AudioError(f"{manifest}: none of {len(utterances)} recordings can be read; first: {unread[0]}")
        seconds, audio_seconds = seconds + taken, audio_seconds + sum(each.duration for each in results)
        scores = scoring.report([each.utterance.text for each in results], [each.hypothesis for each in results])
        reports[name if len(listed) == 1 else manifest] = scores
        lines += result_lines(results, scores)
        evaluated[name] = results
        if export:
            EXPORTS[export[0]](export_files(export, model, [Path(manifest)]), results, taken / len(results))
    if out:
        write_lines(out, lines)
    if report:
        report_evaluation(report, model.stem, evaluated, scoring, options.words(), beside)
    print_results(reports, audio_seconds, seconds, plots, json_output, len(unread))
    if unread:
        count = sum(map(len, listed.values()))
        raise AudioError(f"{len(unread)} of {count} recordings left out, for the reasons above")


def plot_files(plot: Path | None, manifests: list[Path]) -> list[Path]:
    """The picture of each manifest: PLOT, or for several PLOT with the manifest's name in it."""
    if plot is None or len(manifests) == 1:
        return [plot] if plot else []
    from carnelian.data.sources import distinct_stems

    names = distinct_stems([str(manifest) for manifest in manifests])
    return [plot.with_name(f"{plot.stem}-{name}{plot.suffix}") for name in names]


def read_references(manifest: Path) -> list[Utterance]:
    """The utterances of a manifest with their texts; ManifestError where there are none, or all are empty."""
    utterances = list(Manifest(manifest))
    if not utterances:
        raise ManifestError(f"{manifest}: it is empty. Give a manifest with utterances and their text")
    refuse_no_texts(manifest, utterances)
    return utterances


def recognized_texts(
    recognizer: "Recognizer",
    utterances: list[Utterance],
    channels: str,
    batch_seconds: float,
    name: str,
    unread: list[str],
) -> list[EvaluatedUtterance]:
    """Returns the results of the utterances that can be read, in their order; `unread` is extended by a line for each other.

    Of separate channels a hypothesis has the words of all, in the order of their times.
    """
    from carnelian.data.sources import channel_choice, measure_utterances
    from carnelian.data.transcript import merge_segments

    measured, indices, unopened = measure_utterances(utterances, channel_choice(channels))
    unread += unopened

    def leave_out(index: int, error: CarnelianError) -> None:
        unread.append(one_line(str(error)))
        note(f"carnelian: {unread[-1]}")

    def evaluated(index: int, rows: dict[int, "Transcript"]) -> EvaluatedUtterance:
        transcripts = [rows[row] for row in sorted(rows)]
        whole = merge_segments(transcripts)
        text = " ".join(word.text for word in whole.words) if len(transcripts) > 1 and whole.words else whole.text
        confidences = tuple(word.confidence for word in whole.words)
        seconds = sum(each.duration for each in transcripts)
        return EvaluatedUtterance(utterances[index], text, seconds, confidences)

    found = recognizer.recognize(measured, batch_seconds=batch_seconds, unread=leave_out)
    expected = Counter(indices)
    sides: dict[int, dict[int, Transcript]] = {}  # of utterances with channels still to come: transcripts are large
    results: dict[int, EvaluatedUtterance] = {}
    for each in track(found, name, len(measured)):
        index = indices[each.index]
        sides.setdefault(index, {})[each.index] = each.transcript
        if len(sides[index]) == expected[index]:
            results[index] = evaluated(index, sides.pop(index))
    results |= {index: evaluated(index, rows) for index, rows in sides.items()}  # a channel of theirs was left out
    return [results[index] for index in sorted(results)]


def result_lines(results: list[EvaluatedUtterance], report: ScoreReport) -> list[dict]:
    """Returns the lines of `--out`: what `compare` and `score` read."""
    return [
        {
            "audio_filepath": each.utterance.audio_filepath,
            "text": each.utterance.text,
            "hypothesis": each.hypothesis,
            "errors": errors.total,
            "words": errors.reference_words,
            "normalization": report.normalization,
            **{key: each.utterance.more[key] for key in ("speaker",) if key in each.utterance.more},
        }
        for each, errors in zip(results, report.utterances)
    ]


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Writes a JSON-lines file."""
    with written(path, errors="backslashreplace") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def report_evaluation(
    path: Path,
    model: str,
    evaluated: dict[str, list[EvaluatedUtterance]],
    scoring: ScoringOptions,
    vocabulary: set[str] | None,
    beside: list[Path],
) -> None:
    """Writes the HTML report of all manifests, each a subset."""
    from carnelian.commands.html_report import html_report

    results = [each for of_manifest in evaluated.values() for each in of_manifest]
    html_report(
        path,
        model,
        [each.utterance for each in results],
        [name for name, of_manifest in evaluated.items() for _ in of_manifest],
        scoring.normalized(each.utterance.text for each in results),
        scoring.normalized(each.hypothesis for each in results),
        [each.confidences for each in results],
        normalize=scoring.normalized,
        normalization=scoring.label,
        beside=beside,
        vocabulary=vocabulary,
    )


def export_files(export: tuple[str, Path] | None, model: Path, manifests: list[Path]) -> list[Path]:
    """The files that `--export` writes: for the leaderboard one for each manifest, in TRN one of each side."""
    if export is None:
        return []
    names = [Path(manifest).stem for manifest in manifests]
    if export[0] == "leaderboard":
        return [export[1] / leaderboard_name(f"carnelian/{model.stem}", name) for name in names]
    return [export[1] / f"{name}.{side}.trn" for name in names for side in ("ref", "hyp")]


def export_leaderboard(files: list[Path], results: list[EvaluatedUtterance], share: float) -> None:
    """Writes a manifest's results in the form of the Open ASR Leaderboard; `share`: seconds of work for each utterance."""
    rows = (
        LeaderboardLine(each.utterance.audio_filepath, each.duration, share, each.utterance.text, each.hypothesis)
        for each in results
    )
    left_out = write_leaderboard(files[0], rows)
    note(f"wrote {files[0]}" + (f"; {left_out} utterances without a reference left out" if left_out else ""))


def export_trn(files: list[Path], results: list[EvaluatedUtterance], share: float) -> None:
    """Writes references and hypotheses as TRN, for sclite; names are SPEAKER-NUMBER-FILE, speakers without a hyphen."""
    speakers = [re.sub(r"[\W_]+", "", str(each.utterance.more.get("speaker", ""))) or "unknown" for each in results]
    stems = [re.sub(r"[\s()]+", "_", Path(each.utterance.audio_filepath).stem) for each in results]
    names = [f"{speaker}-{number:05d}-{stem}" for number, (speaker, stem) in enumerate(zip(speakers, stems))]
    write_trn(files[0], zip(names, (each.utterance.text for each in results)))
    write_trn(files[1], zip(names, (each.hypothesis for each in results)))
    note(f"wrote {files[0]} and {files[1]}")


EXPORTS = {"leaderboard": export_leaderboard, "trn": export_trn}


def print_results(
    reports: dict[str, ScoreReport],
    audio_seconds: float,
    seconds: float,
    plots: list[Path],
    json_output: bool,
    left_out: int,
) -> None:
    """Prints the error rates and the speed, and draws the pictures.

    RTFx is seconds of audio by seconds of work, the real-time factor its inverse.
    """
    for report, plot in zip(reports.values(), plots):
        plot_confusions(report, plot)
    speed = {
        "audio_seconds": round(audio_seconds, 1),
        "seconds": round(seconds, 2),
        "real_time_factor": seconds / audio_seconds,
        "rtfx": audio_seconds / seconds,
    }
    if json_output:
        figures = {name: as_json(report.as_dict()) for name, report in reports.items()}
        print(json.dumps({"manifests": figures, **speed, "left_out": left_out}, indent=2, allow_nan=False))
        return
    print_rates(reports)
    for report in reports.values():
        print_confusions(report)
    print(
        f"real-time factor {speed['real_time_factor']:.5f}, RTFx {speed['rtfx']:.1f} "
        f"({audio_seconds:.0f} s of audio in {seconds:.1f} s)"
    )
    if all(report.normalization == "none" for report in reports.values()):
        note("words are compared as written; --normalize normalizes both texts first")


def as_json(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures with null for a rate of no words, which is infinite: JSON has no word for that."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }
