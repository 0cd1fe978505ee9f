"""Error rates and speed of a model on manifests: `carnelian evaluate MODEL MANIFEST...`."""

import json
import time
from pathlib import Path
from typing import Annotated

from carnelian.commands.options import RecognizerOptions
from carnelian.commands.scoring_options import ScoringOptions
from carnelian.console import note, track
from carnelian.data.utterance import Manifest, Utterance
from carnelian.errors import CarnelianError, ManifestError
from carnelian.files import written
from carnelian.inference.recognizer import Recognizer
from carnelian.scoring.leaderboard import LeaderboardLine, write_leaderboard
from carnelian.scoring.report import ScoreReport, plot_confusions, print_confusions, print_rates


def evaluate(
    model: Annotated[Path, "a checkpoint, a run's folder for its last one, or an exported .onnx model"],
    manifests: Annotated[list[Path], "manifests of utterances with their text"],
    *,
    options: RecognizerOptions = RecognizerOptions(),  # noqa: B008
    scoring: ScoringOptions = ScoringOptions(),  # noqa: B008
    out: Annotated[Path | None, "write each utterance's hypothesis and errors to this JSON-lines file"] = None,
    export: Annotated[
        tuple[str, Path] | None,
        "write results in another program's form: leaderboard (Open ASR Leaderboard) and a folder",
    ] = None,
    warm_up: Annotated[int, "utterances recognized once before the time is taken"] = 0,
    plot: Annotated[Path | None, "draw the words most often confused as a heat map, a PNG or SVG file"] = None,
    json_output: Annotated[bool, "print one JSON object instead of tables"] = False,
) -> None:
    """Measure word and character error rates, with a 95 % interval, the most frequent errors, and the real-time factor.

    Example: carnelian evaluate runs/an4 data/an4/test.jsonl
    """
    if export and export[0] != "leaderboard":
        raise CarnelianError(f'--export {export[0]}: not known. Give "leaderboard" and a folder')
    recognizer = options.load(model)
    reports: dict[str, ScoreReport] = {}
    audio_seconds = seconds = 0.0
    lines: list[dict] = []
    for manifest in manifests:
        utterances = list(Manifest(manifest))
        if not utterances:
            raise ManifestError(f"{manifest}: it is empty. Give a manifest with utterances and their text")
        list(recognizer.recognize(utterances[:warm_up], batch_seconds=options.batch_seconds))
        hypotheses, durations, taken = recognized_texts(recognizer, utterances, manifest.name, options.batch_seconds)
        seconds, audio_seconds = seconds + taken, audio_seconds + sum(durations)
        report = scoring.report([utterance.text for utterance in utterances], hypotheses)
        reports[manifest.stem if len(manifests) == 1 else str(manifest)] = report
        lines += result_lines(utterances, hypotheses, report)
        if export:
            share = taken / len(utterances)
            rows = zip(utterances, durations, hypotheses)
            results = (LeaderboardLine(each.audio_filepath, s, share, each.text, text) for each, s, text in rows)
            path, left_out = write_leaderboard(export[1], f"carnelian/{model.stem}", manifest.stem, results)
            note(f"wrote {path}" + (f"; {left_out} utterances without a reference left out" if left_out else ""))
    if out:
        with written(out) as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    print_results(reports, audio_seconds, seconds, plot, json_output)


def recognized_texts(
    recognizer: Recognizer, utterances: list[Utterance], name: str, batch_seconds: float
) -> tuple[list[str], list[float], float]:
    """Returns the hypotheses and durations of utterances, in their order, and the seconds that recognizing them took."""
    started = time.perf_counter()
    recognized = recognizer.recognize(utterances, batch_seconds=batch_seconds)
    results = sorted(track(recognized, name, len(utterances)), key=lambda each: each.index)
    taken = time.perf_counter() - started
    return [each.transcript.text for each in results], [each.transcript.duration for each in results], taken


def result_lines(utterances: list[Utterance], hypotheses: list[str], report: ScoreReport) -> list[dict]:
    """Returns the lines of `--out`: what `compare` and `score` read."""
    return [
        {
            "audio_filepath": utterance.audio_filepath,
            "text": utterance.text,
            "hypothesis": hypothesis,
            "errors": errors.total,
            "words": errors.reference_words,
            "normalization": report.normalization,
            **{key: utterance.more[key] for key in ("speaker",) if key in utterance.more},
        }
        for utterance, hypothesis, errors in zip(utterances, hypotheses, report.utterances)
    ]


def print_results(
    reports: dict[str, ScoreReport], audio_seconds: float, seconds: float, plot: Path | None, json_output: bool
) -> None:
    """Prints the error rates and the speed; RTFx is seconds of audio by seconds of work, the real-time factor its inverse."""
    speed = {
        "audio_seconds": round(audio_seconds, 1),
        "seconds": round(seconds, 2),
        "real_time_factor": seconds / audio_seconds,
        "rtfx": audio_seconds / seconds,
    }
    if json_output:
        figures = {name: report.as_dict() for name, report in reports.items()}
        print(json.dumps({"manifests": figures, **speed}, indent=2))
        return
    print_rates(reports)
    for report in reports.values():
        print_confusions(report)
        if plot:
            plot_confusions(report, plot)
    print(
        f"real-time factor {speed['real_time_factor']:.5f}, RTFx {speed['rtfx']:.1f} "
        f"({audio_seconds:.0f} s of audio in {seconds:.1f} s)"
    )
    if all(report.normalization == "none" for report in reports.values()):
        note("words are compared as they stand; --normalize makes both sides alike before")
