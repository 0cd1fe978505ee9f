"""Whether one of two recognizers is really better: `carnelian compare FIRST SECOND`."""

import json
from pathlib import Path
from typing import Annotated

from carnelian.errors import ManifestError
from carnelian.scoring.confidence import difference
from carnelian.scoring.report import print_rates, score_texts
from carnelian.scoring.significance import matched_pairs


def compare(
    first: Annotated[Path, "what `carnelian evaluate --out` wrote for one recognizer"],
    second: Annotated[Path, "and for another, on the same utterances"],
) -> None:
    """Say whether one of two recognizers is really better, or whether it may be chance.

    Example: carnelian compare a.jsonl b.jsonl
    """
    ours, theirs = read(first), read(second)
    if [line["text"] for line in ours] != [line["text"] for line in theirs]:
        raise ManifestError(f"{second}: not the utterances of {first}. Evaluate both on the same manifests")
    references = [line["text"] for line in ours]
    hypotheses = [[line["hypothesis"] for line in lines] for lines in (ours, theirs)]
    reports = [score_texts(references, each) for each in hypotheses]
    print_rates({str(path): report for path, report in zip((first, second), reports)})
    interval, better = difference(reports[0].utterances, reports[1].utterances)
    tested = matched_pairs(references, *hypotheses)
    print(f"first minus second: {100 * interval.low:+.2f} to {100 * interval.high:+.2f} % (95 %, bootstrap)")
    print(f"the first is better in {100 * better:.1f} % of the draws")
    print(
        f"matched pairs: {tested.segments} segments, z {tested.z:+.2f}, probability by chance {tested.probability:.3g}"
    )


def read(path: Path) -> list[dict]:
    """The lines of a file of hypotheses."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if all(isinstance(line["text"], str) and isinstance(line["hypothesis"], str) for line in lines) and lines:
            return lines
        found = "lines without text" if lines else "an empty file"
    except OSError as error:
        found = str(error.strerror)
    except (ValueError, KeyError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
    raise ManifestError(
        f'{path}: no hypotheses ({found}). Write them with "carnelian evaluate MODEL MANIFEST --out FILE"'
    )
