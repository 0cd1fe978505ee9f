"""LibriSpeech: read books, as FLAC with a `.trans.txt` per chapter (openslr.org/12)."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from carnelian.console import note
from carnelian.corpora.openslr import LIBRISPEECH, download_librispeech
from carnelian.data.text.text_files import read_corpus_lines
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError

LIBRISPEECH_COUNTS = {part: (resource.utterances,) for part, resource in LIBRISPEECH.items()}


def librispeech(folder: Path, *, download: str = "", mirror: Sequence[str] = ()) -> dict[str, Iterator[Utterance]]:
    """The subsets that the folder holds (train-clean-100, ...); it may be their parent, or the parent's parent.

    download: parts to fetch first where they are not there whole, apart by commas or spaces, or "all".
    mirror: addresses of folders to fetch them from instead of OpenSLR's.
    """
    if download:
        parts = list(LIBRISPEECH) if download == "all" else re.split(r"[,\s]+", download.strip())
        present = {
            name
            for name, path in find_librispeech_parts(folder).items()
            if (count_recordings(path),) == LIBRISPEECH_COUNTS.get(name)
        }
        download_librispeech(parts, folder, mirror, present)
    subsets = find_librispeech_parts(folder)
    if not subsets:
        raise ManifestError(
            f"{folder}: no LibriSpeech in it (SUBSET/SPEAKER/CHAPTER/*.trans.txt). Give the folder that holds its subsets, "
            "or fetch them with --download"
        )
    return {name: read_librispeech_part(path) for name, path in subsets.items()}


def find_librispeech_parts(folder: Path) -> dict[str, Path]:
    """The folders of the subsets by name."""
    inside = folder / "LibriSpeech"
    parent = inside if inside.is_dir() else folder
    subsets = sorted(path for path in parent.glob("*") if any(path.glob("*/*/*.trans.txt")))
    if not subsets and any(folder.glob("*/*/*.trans.txt")):
        subsets = [folder]
    return {subset.name: subset for subset in subsets}


def count_recordings(folder: Path) -> int:
    """How many transcribed recordings a subset's folder holds."""
    return sum(1 for _ in folder.glob("*/*/*.flac"))


def read_librispeech_part(folder: Path) -> Iterator[Utterance]:
    """The utterances of a subset, chapter by chapter; recordings without words are counted in a note."""
    silent = 0
    for chapter in sorted(folder.glob("*/*/*.trans.txt")):
        lines = [line.partition(" ") for line in read_corpus_lines(chapter)]
        silent += sum(1 for _ in chapter.parent.glob("*.flac")) > len(lines)
        for name, _, text in lines:
            yield Utterance(
                str(chapter.parent / f"{name}.flac"), 0.0, text.lower(), more={"speaker": name.split("-")[0]}
            )
    if silent:
        note(f"{folder}: {silent} chapters have recordings without a line in their .trans.txt; these are left out")
