"""What the LDC's corpora have in common: files found on discs however they were copied, and sides of telephone calls."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from carnelian.console import note
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError

SIDES = {"A": 0, "B": 1}
"""The channel of each side of a two-channel telephone recording."""


def find_files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """The files with these suffixes (in any case) below a folder, sorted; symbolic links to discs are followed."""
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder. Give the folder that holds the corpus's discs")
    wanted = tuple(suffix.lower() for suffix in suffixes)
    found: list[Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        found += [Path(parent, name) for name in names if name.lower().endswith(wanted)]
    return sorted(found)


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by their names without suffix, in lower case; of two with one name the first."""
    stems: dict[str, Path] = {}
    for path in paths:
        stems.setdefault(path.stem.lower(), path)
    return stems


def side(path: Path, call: str, letter: str, start: float, end: float, text: str, speaker: str = "") -> Utterance:
    """An utterance on one side ("A" or "B") of a call's recording.

    Its id is Kaldi's, `CALL-SIDE_START-END` in centiseconds; a side without a known speaker is a speaker of its own.
    """
    name = f"{call}-{letter}"
    times = f"{round(100 * start):06d}-{round(100 * end):06d}"
    more = {"id": f"{name}_{times}", "speaker": speaker or name, "channel": SIDES[letter]}
    return Utterance(str(path), end - start, text, start, more)


def telephone_words(text: str) -> str:
    """A transcript's words in letters a to z and apostrophes; hyphens are spaces, so that "uh-huh" is two and "th-" is "th"."""
    words = re.sub(r"[^a-z' ]", "", text.lower().replace("-", " ")).split()
    return " ".join(word for word in words if word.strip("'"))


def note_missing(corpus: str, what: str, missing: Iterable[str]) -> None:
    """Notes what a corpus lacks: how many, and the first few by name."""
    names = sorted(missing)
    if names:
        more = ", ..." if len(names) > 3 else ""
        note(f"{corpus}: {len(names):,} {what}: {', '.join(names[:3])}{more}")
