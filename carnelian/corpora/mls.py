"""Multilingual LibriSpeech: read books in eight languages, `transcripts.txt` and a tree of FLAC or Opus (openslr.org/94)."""

from collections.abc import Iterator
from pathlib import Path

from carnelian.console import note
from carnelian.data.text.text_files import read_corpus_lines
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError

MLS_SUBSETS = ("train", "dev", "test")


def mls(folder: Path) -> dict[str, Iterator[Utterance]]:
    """The subsets train, dev and test of a language's folder (mls_german), and train's limited parts of 9 hours and 1 hour."""
    subsets = {name: folder / name for name in MLS_SUBSETS if (folder / name / "transcripts.txt").is_file()}
    if not subsets:
        raise ManifestError(f"{folder}: no train/transcripts.txt in it. Give one language's folder, such as mls_german")
    found = {name: read_mls_part(path, None) for name, path in subsets.items()}
    for hours in ("9hr", "1hr"):
        handles = sorted((folder / "train" / "limited_supervision" / hours).rglob("handles.txt"))
        if handles:
            found[f"train_{hours}"] = read_mls_part(
                folder / "train", {name for path in handles for name in read_corpus_lines(path)}
            )
    return found


def read_mls_part(folder: Path, wanted: set[str] | None) -> Iterator[Utterance]:
    """The utterances of `transcripts.txt` (`NAME<tab>TEXT`), all or the wanted ones; NAME is SPEAKER_BOOK_NUMBER."""
    suffix = ".opus" if next((folder / "audio").glob("*/*/*.opus"), None) else ".flac"
    missing = 0
    for line in read_corpus_lines(folder / "transcripts.txt"):
        name, tab, text = line.partition("\t")
        parts = name.split("_")
        if not tab or len(parts) != 3:
            raise ManifestError(
                f'{folder}/transcripts.txt: a line "{line[:60]}", expected "SPEAKER_BOOK_NUMBER<tab>TEXT"'
            )
        if wanted is None or name in wanted:
            path = folder / "audio" / parts[0] / parts[1] / f"{name}{suffix}"
            missing += not path.is_file()
            yield Utterance(str(path), 0.0, text.strip(), more={"id": name, "speaker": parts[0]})
    if missing:
        note(f"{folder}: {missing:,} transcribed recordings are not there")
