"""What the LDC's corpora have in common: files found on discs however they were copied, and sides of telephone calls."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from carnelian.console import note, track
from carnelian.data.recording import encode_audio, open_audio
from carnelian.data.sources import walk_files
from carnelian.data.sphere import read_header, sphere_shape
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError
from carnelian.files import written
from carnelian.parallel import in_parallel

SIDES = {"A": 0, "B": 1}
"""The channel of each side of a two-channel telephone recording."""


def find_files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """The files with these suffixes (in any case) below a folder, sorted; symbolic links to discs are followed."""
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder. Give the folder that holds the corpus's discs")
    wanted = tuple(suffix.lower() for suffix in suffixes)
    return sorted(
        parent / name for parent, names in walk_files(folder) for name in names if name.lower().endswith(wanted)
    )


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


def convert_compressed(subsets: dict[str, list[Utterance]], folder: Path) -> dict[str, list[Utterance]]:
    """The subsets with recordings that are compressed with shorten written as FLAC, all channels, into a folder.

    Such a recording is decoded as a whole, however short the utterance; FLAC is read from any place. A file that is there already
    is kept.
    """
    paths = dict.fromkeys(each.audio_filepath for utterances in subsets.values() for each in utterances)
    compressed = [path for path in paths if is_compressed(path)]
    names = Counter(Path(path).stem for path in compressed)
    targets = {}
    for number, path in enumerate(compressed):
        stem = Path(path).stem
        targets[path] = folder / f"{stem if names[stem] == 1 else f'{stem}.{number}'}.flac"

    def convert(path: str) -> None:
        if targets[path].is_file():
            return
        with open_audio(path) as file:
            samples, rate = np.rint(file.read(0, file.frames) * 32768).astype(np.int16), file.sample_rate
        with written(targets[path], "wb", force=False) as out:
            out.write(encode_audio(samples, rate, "flac"))

    for _ in track(in_parallel(convert, compressed), "Converting to FLAC", len(compressed)):
        pass
    return {
        subset: [
            replace(each, audio_filepath=str(targets.get(each.audio_filepath, each.audio_filepath)))
            for each in utterances
        ]
        for subset, utterances in subsets.items()
    }


def is_compressed(path: str) -> bool:
    """Whether a file is SPHERE compressed with shorten."""
    try:
        with open(path, "rb") as file:
            header = read_header(file.read(1 << 16))
        return bool(header) and "embedded-shorten" in sphere_shape(header).coding
    except (OSError, ValueError):
        return False
