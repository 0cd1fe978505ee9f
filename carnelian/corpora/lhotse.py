"""Lhotse's manifests: cuts (cuts.jsonl.gz), or recordings and supervisions beside each other; read without Lhotse."""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carnelian.console import note
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError
from carnelian.files import reason_of

LHOTSE_SUFFIXES = (".jsonl.gz", ".jsonl")


def lhotse(source: Path) -> dict[str, Iterator[Utterance]]:
    """The subsets: each file of cuts in a folder, each pair of recordings and supervisions, or the one file that is given.

    `librispeech_cuts_dev-clean.jsonl.gz` is the subset "librispeech_dev-clean".
    """
    if source.is_file():
        return {subset_name(source): read_cuts(source)}
    if not source.is_dir():
        raise ManifestError(f"{source}: no such file or folder. Give Lhotse's cuts, or the folder of its manifests")
    files = sorted(path for path in source.iterdir() if path.name.endswith(LHOTSE_SUFFIXES))
    subsets = {subset_name(path): read_cuts(path) for path in files if "cuts" in path.name}
    for path in files:
        partner = path.with_name(path.name.replace("supervisions", "recordings"))
        if "supervisions" in path.name and partner.is_file():
            subsets.setdefault(subset_name(path), read_supervisions(partner, path))
    if not subsets:
        raise ManifestError(f"{source}: no *cuts*.jsonl.gz, and no *recordings* with *supervisions*, in it")
    return subsets


def subset_name(path: Path) -> str:
    """A manifest's name without what says its kind."""
    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    for kind in ("cuts", "supervisions", "recordings"):
        name = name.replace(f"_{kind}_", "_").replace(f"{kind}_", "").replace(f"_{kind}", "")
    return name if name not in ("cuts", "supervisions", "recordings") else "all"


def read_cuts(path: Path) -> Iterator[Utterance]:
    """An utterance for each supervision of the cuts. A note counts those that are left out.

    Left out are cuts whose audio is not a part of one file, and supervisions that an earlier cut had: where recordings are cut
    into windows, a supervision is in every window that it touches.
    """
    left_out: Counter[str] = Counter()
    seen: set[tuple[str, str, float]] = set()
    for number, cut in read_objects(path):
        recording = cut.get("recording")
        if cut.get("type", "MonoCut") not in ("MonoCut", "MultiCut") or not recording:
            left_out["mixed or without a recording"] += 1
            continue
        try:
            if reason := why_unreadable(recording):
                left_out[reason] += 1
                continue
            for supervision in cut.get("supervisions", []):
                found = of_supervision(recording, supervision, float(cut["start"]), path, cut.get("channel", 0))
                key = found.audio_filepath, str(found.more["id"]), round(found.offset, 3)
                if key in seen:
                    left_out["supervisions that an earlier cut had"] += 1
                    continue
                seen.add(key)
                yield found
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ManifestError(f"{path}:{number}: not a cut as Lhotse writes it ({error!r})") from None
    note_left_out(path, left_out)


def read_supervisions(recordings: Path, supervisions: Path) -> Iterator[Utterance]:
    """An utterance for each supervision of the recordings."""
    left_out: Counter[str] = Counter()
    known = {recording.get("id"): recording for _, recording in read_objects(recordings)}
    for number, supervision in read_objects(supervisions):
        recording = known.get(supervision.get("recording_id"))
        try:
            reason = why_unreadable(recording) if recording else "of recordings that are not there"
            if not recording or reason:
                left_out[reason] += 1
                continue
            yield of_supervision(recording, supervision, 0.0, recordings, 0)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ManifestError(f"{supervisions}:{number}: not a supervision as Lhotse writes it ({error!r})") from None
    note_left_out(supervisions, left_out)


def why_unreadable(recording: dict[str, Any]) -> str:
    """Why a recording's audio is not simply a file; empty where it is one. Another sample rate changes no time."""
    sources = recording.get("sources") or []
    if len(sources) != 1 or sources[0].get("type") not in ("file", "url"):
        return "of recordings that are commands, in memory, or in several files"
    transforms = [each.get("name") for each in recording.get("transforms") or []]
    return "" if set(transforms) <= {"Resample"} else "with transformed recordings (speed, tempo, volume)"


def of_supervision(recording: dict, supervision: dict, start: float, path: Path, channel: Any) -> Utterance:
    """A supervision as an utterance; its start counts from `start` of the recording."""
    source = recording["sources"][0]
    audio = source["source"]
    if "://" not in audio and not Path(audio).is_file():  # relative to where Lhotse ran, or to the manifest
        audio = str(next((p / audio for p in path.absolute().parents if (p / audio).is_file()), audio))
    more: dict[str, Any] = {"id": supervision["id"]}
    more |= {key: supervision[key] for key in ("speaker", "language") if supervision.get(key)}
    channel = supervision.get("channel", channel)
    if len(source.get("channels", [0])) > 1 and isinstance(channel, int):
        more["channel"] = channel
    offset = max(0.0, start + float(supervision["start"]))
    return Utterance(audio, float(supervision["duration"]), supervision.get("text") or "", offset, more)


def read_objects(path: Path) -> Iterator[tuple[int, dict]]:
    """The JSON objects of a file, gzip or not, a line each, with their lines' numbers."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    found = json.loads(line)
                    if not isinstance(found, dict):
                        raise ValueError(f"line {number} is no object")
                    yield number, found
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise ManifestError(
            f"{path}: not a manifest of JSON lines ({reason_of(error)}). Write it again with Lhotse"
        ) from None


def note_left_out(path: Path, left_out: Counter[str]) -> None:
    """Notes what was left out."""
    for reason, count in left_out.items():
        note(f"{path}: {count:,} {reason} are left out")
