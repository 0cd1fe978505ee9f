"""Manifests from a corpus: `carnelian prepare an4 SOURCE OUT`."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np

from carnelian.console import note, table, track
from carnelian.corpora.an4 import an4
from carnelian.corpora.folder import folder
from carnelian.corpora.librispeech import librispeech
from carnelian.data.audio import audio_info
from carnelian.data.parallel import in_parallel
from carnelian.data.utterance import Utterance, write_manifest
from carnelian.errors import AudioError, ManifestError

CORPORA: dict[str, Callable[[Path], dict[str, Iterator[Utterance]]]] = {
    "an4": an4,
    "librispeech": librispeech,
    "folder": folder,
}


def prepare(
    corpus: Annotated[str, f"the corpus: {', '.join(CORPORA)}"],
    source: Annotated[Path, "where it lies unpacked (folder: a tree of audio with .txt beside it, or a CSV or TSV)"],
    out: Annotated[Path, "the folder for the manifests, one SUBSET.jsonl each"],
    *,
    hold_out: Annotated[int, "so many speakers of `train` (or `all`) go to `dev` instead, to choose settings by"] = 0,
) -> None:
    """Write a manifest for each subset of a corpus; the audio stays where it is."""
    if corpus not in CORPORA:
        raise ManifestError(f'corpus "{corpus}": not known. Take one of {", ".join(CORPORA)}')
    subsets, left_out = {}, {}
    for subset, utterances in CORPORA[corpus](source).items():
        kept, unreadable = measure_durations(list(utterances), subset)
        if not kept:
            raise ManifestError(f"{source}: none of {len(unreadable)} recordings can be read; first: {unreadable[0]}")
        if unreadable:
            note(f"{subset}: {len(unreadable)} recordings cannot be read and are left out; first: {unreadable[0]}")
        subsets[subset], left_out[subset] = kept, len(unreadable)
    if hold_out:
        whole = "train" if "train" in subsets else "all"
        if whole not in subsets or "dev" in subsets:
            raise ManifestError(
                f"--hold-out makes a `dev` of a part of `train`; {corpus} has {', '.join(subsets)} here"
            )
        left_out["train"] = left_out.pop(whole)
        subsets["train"], subsets["dev"] = without_speakers(subsets.pop(whole), hold_out)
    rows = []
    for subset, kept in subsets.items():
        write_manifest(out / f"{subset}.jsonl", kept)
        hours = sum(utterance.duration for utterance in kept) / 3600
        rows.append((f"{subset}.jsonl", len(kept), f"{hours:.2f}", left_out.get(subset, 0)))
    table(f"{corpus} in {out}", ("manifest", "utterances", "hours", "left out"), rows)


def without_speakers(utterances: list[Utterance], count: int) -> tuple[list[Utterance], list[Utterance]]:
    """The utterances of all speakers but `count`, and of those; always the same ones are drawn."""
    speakers = sorted({str(utterance.more.get("speaker", "")) for utterance in utterances})
    if speakers == [""] or not 0 < count < len(speakers):
        known = "no speakers are known" if speakers == [""] else f"there are {len(speakers)} speakers"
        raise ManifestError(f"--hold-out {count}: {known}. Give a number between 1 and one less than there are")
    held = set(np.random.default_rng(0).choice(speakers, count, replace=False).tolist())
    parted: tuple[list[Utterance], list[Utterance]] = ([], [])
    for utterance in utterances:
        parted[str(utterance.more.get("speaker", "")) in held].append(utterance)
    return parted


def measure_durations(utterances: list[Utterance], subset: str) -> tuple[list[Utterance], list[AudioError]]:
    """The utterances with their recordings' durations, and what was wrong with those that cannot be read."""

    def measured(utterance: Utterance) -> Utterance | AudioError:
        try:
            info = audio_info(utterance.audio_filepath)
        except AudioError as error:
            return error
        if not info.frames:
            return AudioError(f"{utterance.audio_filepath}: 0 s of sound")
        return replace(utterance, duration=info.duration)

    results = list(track(in_parallel(measured, utterances), f"Reading {subset}", len(utterances)))
    kept = [result for result in results if isinstance(result, Utterance)]
    return kept, [result for result in results if isinstance(result, AudioError)]
