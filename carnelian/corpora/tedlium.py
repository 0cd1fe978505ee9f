"""TED-LIUM, releases 1 to 3: talks as SPHERE with an STM each (openslr.org/7, /19 and /51)."""

import re
from collections.abc import Iterator
from pathlib import Path

from carnelian.console import note
from carnelian.data.text.text_files import encoding_of
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError
from carnelian.scoring.sclite.stm import read_stm

TEDLIUM_SUBSETS = ("train", "dev", "test")


def tedlium(folder: Path) -> dict[str, Iterator[Utterance]]:
    """The subsets train, dev and test; of release 3 `data` is the training set, and dev and test are in `legacy`."""
    found: dict[str, Path] = {}
    for subset in TEDLIUM_SUBSETS:
        parents = [folder / subset, folder / "legacy" / subset]
        for parent in [folder / "data", *parents] if subset == "train" else parents:
            if (parent / "stm").is_dir() and (parent / "sph").is_dir():
                found.setdefault(subset, parent)
    if not found:
        raise ManifestError(f"{folder}: no train/stm with train/sph in it, nor data/stm. Give the folder of TED-LIUM")
    return {subset: read_tedlium_part(parent) for subset, parent in found.items()}


def read_tedlium_part(folder: Path) -> Iterator[Utterance]:
    """The utterances of a subset, talk by talk."""
    absent = []
    for stm in sorted((folder / "stm").glob("*.stm")):
        recording = folder / "sph" / f"{stm.stem}.sph"
        if not recording.is_file():
            absent.append(stm.stem)
            continue
        for segment in read_stm(stm, encoding_of(stm)).segments:
            text = spell_tedlium(segment.text)
            if segment.ignored or not text or segment.end <= segment.start:
                continue
            times = f"{round(100 * segment.start):07d}-{round(100 * segment.end):07d}"
            more = {"id": f"{stm.stem}-{times}", "speaker": segment.speaker}
            yield Utterance(str(recording), segment.end - segment.start, text, segment.start, more)
    silent = {path.stem for path in (folder / "sph").glob("*.sph")} - {
        path.stem for path in (folder / "stm").glob("*.stm")
    }
    if absent or silent:
        note(
            f"{folder}: {len(absent)} talks have no recording, {len(silent)} recordings no transcript; they are left out"
        )


def spell_tedlium(text: str) -> str:
    """A transcript as lower-case words: noises `{NOISE}` and `<unk>` dropped, "word(2)" as "word", "it 's" as "it's"."""
    text = re.sub(r"\{[^}]*\}|<[^>]*>|\[[^\]]*\]", " ", text)
    text = re.sub(r"\(\d+\)", "", text).lower()
    return " ".join(re.sub(r" +'", "'", " ".join(text.split())).split())
