"""A corpus to look at: `carnelian explore MANIFEST...`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from carnelian.commands.evaluate import recognized_texts
from carnelian.commands.options import RecognizerOptions
from carnelian.commands.report_audio import sample_audio
from carnelian.commands.scoring_options import ScoringOptions
from carnelian.console import bar, note, track
from carnelian.data.sources import distinct_stems
from carnelian.data.utterance import Utterance, read_manifest
from carnelian.errors import ManifestError
from carnelian.files import check_outputs
from carnelian.scoring.report.evaluation import SystemResult
from carnelian.scoring.report.explorer import write_explorer
from carnelian.scoring.report.frame import ReportUtterance


def explore(
    manifests: Annotated[list[Path], "the manifests"],
    *,
    out: Annotated[Path, "the HTML file"] = Path("explore.html"),
    model: Annotated[Path | None, "a model that recognizes the utterances, whose worst ones then come first"] = None,
    options: RecognizerOptions = RecognizerOptions(),  # noqa: B008
    scoring: ScoringOptions = ScoringOptions(),  # noqa: B008
    overwrite: Annotated[bool, "replace the file if it exists"] = False,
) -> None:
    """Write one HTML file to look at a corpus: hours, durations, rates, alphabet, vocabulary, and every utterance.

    Outliers come first, with the reason: without a text, far longer or shorter or faster than the others, with rare characters, with
    words that are not in the --language-model, twice in the manifests. Some of them, and some at random, can be played.

    Example: carnelian explore data/an4/train.jsonl --out an4.html
    """
    check_outputs(out, overwrite=overwrite)
    vocabulary = options.words()
    names = distinct_stems([str(manifest) for manifest in manifests])
    utterances: list[Utterance] = []
    subsets: list[str] = []
    for manifest, name in zip(manifests, names):
        utterances += track(read_manifest(manifest), f"reading {name}")
        subsets += [name] * (len(utterances) - len(subsets))
    if not utterances:
        raise ManifestError(f"{manifests[0]}: it is empty. Give a manifest with utterances")
    system, unread = recognized_system(model, utterances, options, scoring) if model else (None, [])
    texts = scoring.normalized(each.text for each in utterances)
    rows = [
        ReportUtterance(each.audio_filepath, text, each.duration, subset, str(each.more.get("speaker", "")))
        for each, text, subset in zip(utterances, texts, subsets)
    ]
    with bar("writing the page", len(rows)) as advance:
        write_explorer(
            out,
            ", ".join(names),
            rows,
            system=system,
            vocabulary=vocabulary,
            duplicates=duplicates_of(utterances),
            unread=unread,
            sample=lambda order: sample_audio(utterances, order),
            advance=advance,
        )
    note(f"wrote {out}; open it in a browser")


def recognized_system(
    model: Path, utterances: list[Utterance], options: RecognizerOptions, scoring: ScoringOptions
) -> tuple[SystemResult, list[int]]:
    """Returns what a model recognizes, and the indices of the utterances that cannot be read."""
    left_out: list[str] = []
    results = recognized_texts(options.load(model), utterances, "mix", options.batch_seconds, "recognizing", left_out)
    found = {id(each.utterance): each for each in results}
    unread = [index for index, each in enumerate(utterances) if id(each) not in found]
    hypotheses = [found[id(each)].hypothesis if id(each) in found else "" for each in utterances]
    confidences = [found[id(each)].confidences if id(each) in found else () for each in utterances]
    return SystemResult(model.stem, scoring.normalized(hypotheses), confidences), unread


def duplicates_of(utterances: Sequence[Utterance]) -> list[tuple[int, int]]:
    """Returns (index, index of the first one) of utterances that are a segment with a text that was there before."""
    seen: dict[tuple[str, float, str], int] = {}
    keys = ((each.audio_filepath, each.offset, each.text) for each in utterances)
    pairs = [(index, seen.setdefault(key, index)) for index, key in enumerate(keys)]
    return [(index, first) for index, first in pairs if index != first]
