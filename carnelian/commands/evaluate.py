"""Error rates and speed of a model on manifests: `carnelian evaluate MODEL MANIFEST...`."""

import json
import time
from pathlib import Path
from typing import Annotated

from carnelian.commands.options import RecognizerOptions
from carnelian.console import note, track
from carnelian.data.utterance import Manifest
from carnelian.errors import ManifestError
from carnelian.files import written
from carnelian.scoring.report import ScoreReport, plot_confusions, print_confusions, print_rates, score_texts


def evaluate(
    model: Annotated[Path, "a checkpoint, a run's folder for its last one, or an exported .onnx model"],
    manifests: Annotated[list[Path], "manifests of utterances with their text"],
    *,
    options: RecognizerOptions = RecognizerOptions(),  # noqa: B008
    out: Annotated[Path | None, "write each utterance's hypothesis and errors to this JSON-lines file"] = None,
    plot: Annotated[Path | None, "draw the words most often confused as a heat map, a PNG or SVG file"] = None,
    json_output: Annotated[bool, "print one JSON object instead of tables"] = False,
) -> None:
    """Measure word and character error rates, with a 95 % interval, the most frequent errors, and the real-time factor.

    Example: carnelian evaluate runs/an4 data/an4/test.jsonl
    """
    recognizer = options.load(model)
    reports: dict[str, ScoreReport] = {}
    audio_seconds = seconds = 0.0
    lines = []
    for manifest in manifests:
        utterances = list(Manifest(manifest))
        if not utterances:
            raise ManifestError(f"{manifest}: it is empty. Give a manifest with utterances and their text")
        started = time.perf_counter()
        recognized = recognizer.recognize(utterances, batch_seconds=options.batch_seconds)
        results = sorted(track(recognized, manifest.name, len(utterances)), key=lambda each: each.index)
        seconds += time.perf_counter() - started
        audio_seconds += sum(each.transcript.duration for each in results)
        references = [utterance.text for utterance in utterances]
        report = score_texts(references, [each.transcript.text for each in results])
        reports[manifest.stem if len(manifests) == 1 else str(manifest)] = report
        lines += [
            {
                "audio_filepath": utterance.audio_filepath,
                "text": utterance.text,
                "hypothesis": each.transcript.text,
                "errors": errors.total,
                "words": errors.reference_words,
            }
            for utterance, each, errors in zip(utterances, results, report.utterances)
        ]
    if out:
        with written(out) as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    speed = {
        "audio_seconds": round(audio_seconds, 1),
        "seconds": round(seconds, 2),
        "real_time_factor": seconds / audio_seconds,
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
    print(f"real-time factor {speed['real_time_factor']:.5f} ({audio_seconds:.0f} s of audio in {seconds:.1f} s)")
    note("words are compared as they stand; no normalisation is applied to either side")
