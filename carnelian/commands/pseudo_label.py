"""carnelian pseudo-label: recordings without transcripts become a manifest to train on, with a recognizer's transcripts."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from carnelian.commands.options import RecognizerOptions
from carnelian.console import duration_text, note, table, track
from carnelian.errors import CarnelianError, ManifestError
from carnelian.files import check_outputs, one_line
from carnelian.ranges import Fraction

if TYPE_CHECKING:
    from carnelian.data.transcript import Transcript
    from carnelian.data.utterance import Utterance
    from carnelian.inference.recognizer import Recognizer

THRESHOLDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


def pseudo_label(
    model: Annotated[Path, "a checkpoint, the folder of a run, an exported .onnx, or a pretrained model's name"],
    manifests: Annotated[list[Path], "manifests of recordings; texts in them are not used"],
    *,
    out: Annotated[Path, "the manifest to write"],
    min_confidence: Annotated[
        Fraction, "utterances whose words are less confident than this, in the mean, are left out"
    ] = 0.9,
    options: RecognizerOptions = RecognizerOptions(),  # noqa: B008
    overwrite: Annotated[bool, "replace the manifest if it exists"] = False,
) -> None:
    """Write a manifest of recordings with the transcripts that a recognizer is confident of, to train another one on.

    Each line has the utterance's confidence: the mean of its words'. The table says how much speech other thresholds would keep.

    Example: carnelian pseudo-label runs/an4 data/unlabelled.jsonl --out data/pseudo.jsonl
    """
    from carnelian.data.utterance import Manifest, write_manifest  # here: --help must not wait for numpy

    check_outputs(out, overwrite=overwrite)
    recognizer = options.load(model)
    utterances = list(Manifest(*manifests))
    if not utterances:
        raise ManifestError(f"{manifests[0]}: there are no recordings in it. Give a manifest with at least one")
    unread: list[str] = []
    labelled = list(label(recognizer, utterances, options.batch_seconds, unread))
    kept = [each for each in labelled if each.text and each.more["confidence"] >= min_confidence]
    if not kept:
        best = max((each.more["confidence"] for each in labelled), default=0.0)
        raise ManifestError(
            f"no utterance has a confidence of {min_confidence:g}; the highest is {best:.3f}. Lower --min-confidence"
        )
    write_manifest(out, kept)
    rows = []
    for threshold in sorted({*THRESHOLDS, min_confidence}):
        above = [each.duration for each in labelled if each.text and each.more["confidence"] >= threshold]
        mark = "written" if threshold == min_confidence else ""
        rows.append((f"{threshold:g}", f"{len(above):,}", duration_text(sum(above)), mark))
    table(str(out), ("confidence", "utterances", "audio", ""), rows)
    if silent := sum(not each.text for each in labelled):
        note(f"{silent} recordings without a word are left out")
    if unread:
        raise CarnelianError(
            f"{len(unread)} of {len(utterances)} recordings left out: {one_line('; '.join(unread[:3]), 200)}"
        )


def label(
    recognizer: "Recognizer", utterances: "list[Utterance]", batch_seconds: float, unread: list[str]
) -> "Iterator[Utterance]":
    """Yields the utterances with the recognizer's text and its confidence, in their order; unreadable ones are added to `unread`."""
    from dataclasses import replace

    def leave_out(index: int, error: CarnelianError) -> None:
        unread.append(one_line(str(error)))
        note(f"carnelian: {unread[-1]}")

    found = recognizer.recognize(utterances, batch_seconds=batch_seconds, unread=leave_out)
    by_index = {each.index: each.transcript for each in track(found, "labelling", len(utterances))}
    for index, utterance in enumerate(utterances):
        if index in by_index:
            confidence = round(mean_confidence(by_index[index]), 4)
            yield replace(utterance, text=by_index[index].text, more={**utterance.more, "confidence": confidence})


def mean_confidence(transcript: "Transcript") -> float:
    """Returns the mean confidence of a transcript's words, 0 for one without words."""
    return sum(word.confidence for word in transcript.words) / max(1, len(transcript.words))
