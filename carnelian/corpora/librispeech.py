"""LibriSpeech: read books, as FLAC with a `.trans.txt` per chapter (openslr.org/12)."""

from collections.abc import Iterator
from pathlib import Path

from carnelian.data.text.text_files import read_corpus_lines
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError


def librispeech(folder: Path) -> dict[str, Iterator[Utterance]]:
    """The subsets that the folder holds (train-clean-100, ...); it may be their parent, or the parent's parent."""
    inside = folder / "LibriSpeech"
    parent = inside if inside.is_dir() else folder
    subsets = sorted(path for path in parent.glob("*") if any(path.glob("*/*/*.trans.txt")))
    if not subsets and any(folder.glob("*/*/*.trans.txt")):
        subsets = [folder]
    if not subsets:
        raise ManifestError(
            f"{folder}: no LibriSpeech in it (SUBSET/SPEAKER/CHAPTER/*.trans.txt). Give the folder that holds its subsets"
        )
    return {subset.name: read_librispeech_part(subset) for subset in subsets}


def read_librispeech_part(folder: Path) -> Iterator[Utterance]:
    """The utterances of a subset, chapter by chapter."""
    for chapter in sorted(folder.glob("*/*/*.trans.txt")):
        for line in read_corpus_lines(chapter):
            name, _, text = line.partition(" ")
            yield Utterance(
                str(chapter.parent / f"{name}.flac"), 0.0, text.lower(), more={"speaker": name.split("-")[0]}
            )
