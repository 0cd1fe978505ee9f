"""Whether one of two recognizers is really better: `carnelian compare FIRST SECOND`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from carnelian.commands.scoring_options import ScoringOptions
from carnelian.console import duration_text, note, table
from carnelian.data.text.pairs import read_results
from carnelian.errors import ManifestError
from carnelian.files import check_outputs
from carnelian.scoring.confidence import difference
from carnelian.scoring.paired_tests import PairedTest, mcnemar_test, sign_test, signed_rank_test
from carnelian.scoring.report.tables import print_rates, score_texts
from carnelian.scoring.significance import matched_pairs
from carnelian.scoring.wer import Errors, errors_by_group
from carnelian.training.curves import differing_settings, read_curves, write_curves


def compare(
    results: Annotated[
        list[Path], "two files that `carnelian evaluate --out` wrote for the same utterances, or the folders of runs"
    ],
    *,
    scoring: ScoringOptions = ScoringOptions(),  # noqa: B008
    out: Annotated[Path, "of runs: write the learning curves here, as .html, or as an image such as .png"] = Path(
        "curves.html"
    ),
    overwrite: Annotated[bool, "replace the file of curves if it exists"] = False,
) -> None:
    """Say whether one of two recognizers is really better, or whether it may be chance; or compare how runs learnt.

    Of results: NIST's tests (matched pairs of segments, McNemar's on utterances, and where speakers are known the sign and the
    signed-rank test on them) and the bootstrap. Of runs: their learning curves, and the settings in which their recipes differ.

    Example: carnelian compare a.jsonl b.jsonl
    """
    if all(path.is_dir() for path in results):
        compare_runs(results, out, overwrite)
    elif len(results) == 2:
        compare_results(results[0], results[1], scoring)
    else:
        raise ManifestError(f"compare: {len(results)} files. Give two files of results, or the folders of runs")


def compare_runs(folders: Sequence[Path], out: Path, overwrite: bool) -> None:
    """Writes the learning curves of runs, and prints their best validations and differing settings."""
    check_outputs(out, overwrite=overwrite)
    runs = [read_curves(folder) for folder in folders]
    rows = []
    for run in runs:
        last = run.points["loss"][-1] if run.points["loss"] else (0, 0.0, 0.0, math.nan)
        best = f"{100 * run.best:.2f}" if run.best is not None else "–"
        durations = [duration_text(3600 * hours) for hours in last[1:3]]
        rows.append((run.name, int(last[0]), *durations, f"{last[3]:.3f}", best))
    table("Runs", ("run", "steps", "time", "audio", "loss", "best WER %"), rows)
    settings = differing_settings(runs)
    if settings:
        table("Settings that differ", ("setting", *(run.name for run in runs)), settings)
    write_curves(out, runs)
    note(f"wrote {out}")


def compare_results(first: Path, second: Path, scoring: ScoringOptions) -> None:
    """Prints the error rates of two systems on the same utterances, and whether their difference may be chance."""
    ours, theirs = read_results(first), read_results(second)
    if [line["text"] for line in ours] != [line["text"] for line in theirs]:
        raise ManifestError(f"{second}: not the utterances of {first}. Evaluate both on the same manifests")
    references = scoring.normalized(line["text"] for line in ours)
    hypotheses = [scoring.normalized(line["hypothesis"] for line in lines) for lines in (ours, theirs)]
    reports = [
        score_texts(references, each, merge_compounds=scoring.merge_compounds, normalization=scoring.label)
        for each in hypotheses
    ]
    print_rates({str(path): report for path, report in zip((first, second), reports)})
    interval, better = difference(reports[0].utterances, reports[1].utterances)
    print(f"first minus second: {100 * interval.low:+.2f} to {100 * interval.high:+.2f} % (95 %, bootstrap)")
    print(f"the first is better in {100 * better:.1f} % of the draws")
    tested = matched_pairs(references, *hypotheses)
    print(
        f"matched pairs: {tested.segments} segments, z {tested.z:+.2f}, probability by chance {tested.probability:.3g}"
    )
    for test in paired_tests(ours, *(report.utterances for report in reports)):
        print(
            f"{test.name}: the first is worse {test.worse} times, better {test.better} times, "
            f"probability by chance {test.probability:.3g}"
        )


def paired_tests(lines: list[dict], ours: Sequence[Errors], theirs: Sequence[Errors]) -> list[PairedTest]:
    """Returns McNemar's test on utterances, and the tests on speakers where there are several."""
    tests = [mcnemar_test(ours, theirs)]
    speakers = [str(line.get("speaker", "")) for line in lines]
    if len(set(speakers)) > 1:
        sides = [errors_by_group(speakers, each) for each in (ours, theirs)]
        tests += [sign_test(*sides), signed_rank_test(*sides)]
    return tests
