"""The HTML report of `carnelian evaluate --report`: what it needs beside the hypotheses, gathered from recordings and
other results."""

from collections.abc import Callable, Sequence
from pathlib import Path

from carnelian.commands.report_audio import sample_audio
from carnelian.console import bar, note
from carnelian.data.text.pairs import read_results
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError
from carnelian.scoring.report.evaluation import SystemResult, write_html_report
from carnelian.scoring.report.frame import ReportUtterance


def html_report(
    path: Path,
    name: str,
    utterances: Sequence[Utterance],
    subsets: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    confidences: Sequence[Sequence[float]],
    *,
    normalize: Callable[[Sequence[str]], list[str]],
    normalization: str,
    beside: Sequence[Path] = (),
    vocabulary: set[str] | None = None,
) -> None:
    """Writes the report of one system, and of others beside it whose results `carnelian evaluate --out` wrote.

    references, hypotheses: as they were compared, after normalisation by `normalize`. confidences: of the words of each
    hypothesis; they are left out where normalisation changed the number of words.
    """
    counts = [len(text.split()) for text in hypotheses]
    systems = [SystemResult(name, hypotheses, confidences if counts == list(map(len, confidences)) else [])]
    systems += [SystemResult(other.stem, normalize(hypotheses_beside(other, utterances))) for other in beside]
    rows = [
        ReportUtterance(
            utterance.audio_filepath, reference, utterance.duration, subset, str(utterance.more.get("speaker", ""))
        )
        for utterance, subset, reference in zip(utterances, subsets, references)
    ]
    with bar("writing the report", len(rows)) as advance:
        write_html_report(
            path,
            f"Evaluation of {name}",
            rows,
            systems,
            normalization=normalization,
            vocabulary=vocabulary,
            sample=lambda order: sample_audio(utterances, order),
            advance=advance,
        )
    note(f"wrote {path}; open it in a browser")


def hypotheses_beside(path: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Returns another system's hypotheses for the same utterances, from the lines of `carnelian evaluate --out`.

    Raises ManifestError.
    """
    lines = read_results(path)
    names = [str(line.get("audio_filepath")) for line in lines]
    found = dict(zip(names, (line["hypothesis"] for line in lines)))
    if sorted(names) != sorted(each.audio_filepath for each in utterances):
        raise ManifestError(
            f"{path}: not the results of these {len(utterances)} utterances. Evaluate both on the same manifests"
        )
    if len(found) < len(lines):  # several segments of a recording are told apart by their order only
        return [line["hypothesis"] for line in lines]
    return [found[each.audio_filepath] for each in utterances]
