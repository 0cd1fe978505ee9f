"""Fisher English, parts 1 and 2 (audio LDC2004S13, LDC2005S13; transcripts LDC2004T19, LDC2005T19): telephone speech."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from carnelian.console import note
from carnelian.corpora.ldc.discs import by_stem, find_files, note_missing, side, telephone_words
from carnelian.data.text.text_files import read_corpus_lines
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError

FISHER_RECORDINGS = {"part 1": 5850, "part 2": 5849}
#: such as "7.38 8.78 A: so the topic"
FISHER_LINE = re.compile(r"(?P<start>\d{1,9}\.?\d*)\s+(?P<end>\d{1,9}\.?\d*)\s+(?P<side>[AB])\s*:\s*(?P<text>.*)")
FISHER_NAME = re.compile(r"fe_03_\d{5}")
FISHER_FIRST_OF_PART_2 = "fe_03_05851"


def fisher(folder: Path) -> dict[str, Iterator[Utterance]]:
    """The subset "train": all segments of both sides whose transcripts are certain; the folder holds discs and transcripts."""
    files = find_files(folder, (".sph", ".txt", "_calldata.tbl"))
    named = [path for path in files if FISHER_NAME.fullmatch(path.stem.lower())]
    recordings = by_stem(path for path in named if path.suffix.lower() == ".sph")
    transcripts = by_stem(path for path in named if path.suffix.lower() == ".txt")
    if not recordings or not transcripts:
        raise ManifestError(
            f"{folder}: no Fisher in it, found {len(recordings)} fe_03_*.sph and {len(transcripts)} fe_03_*.txt files. Give "
            "the folder that holds fe_03_p1_sph1, ..., fe_03_p1_tran and those of part 2"
        )
    for part, expected in FISHER_RECORDINGS.items():
        found = sum((name < FISHER_FIRST_OF_PART_2) == (part == "part 1") for name in recordings)
        if found != expected:
            note(f"fisher: {found:,} recordings of {part}, expected {expected:,}")
    speakers = read_calldata([path for path in files if path.name.endswith(".tbl")])
    return {"train": read_fisher(transcripts, recordings, speakers)}


def read_fisher(
    transcripts: dict[str, Path], recordings: dict[str, Path], speakers: dict[str, str]
) -> Iterator[Utterance]:
    """The utterances of the transcripts; segments with uncertain words `(( ))` or none are left out."""
    uncertain = 0
    for call, path in sorted(transcripts.items()):
        if call not in recordings:
            continue
        for line in read_corpus_lines(path):
            if line.startswith("#"):
                continue
            match = FISHER_LINE.fullmatch(line)
            if not match:
                raise ManifestError(f'{path}: a line "{line[:60]}", expected "START END SIDE: WORDS". Copy it again')
            start, end = float(match["start"]), float(match["end"])
            uncertain += "((" in match["text"]
            if "((" not in match["text"] and end > start and (text := spell_fisher(match["text"])):
                speaker = speakers.get(f"{call}-{match['side']}", "")
                yield side(recordings[call], call, match["side"], start, end, text, speaker)
    if uncertain:
        note(f"fisher: {uncertain:,} segments with uncertain words are left out")
    note_missing("fisher", "transcribed recordings are not there", transcripts.keys() - recordings.keys())
    note_missing("fisher", "recordings have no transcripts", recordings.keys() - transcripts.keys())


def read_calldata(tables: list[Path]) -> dict[str, str]:
    """The personal number of each side's speaker, by CALL-SIDE, from the tables of calls where they are there."""
    speakers = {}
    for path in tables:
        for row in csv.DictReader(read_corpus_lines(path)):
            if row.get("CALL_ID", "").isdigit():
                for letter in "AB":
                    speakers[f"fe_03_{int(row['CALL_ID']):05d}-{letter}"] = row.get(f"{letter}PIN") or ""
    return speakers


def spell_fisher(text: str) -> str:
    """A transcript as lower-case words of letters and apostrophes: noises dropped, "t._v." as "tv", "an-" as "an"."""
    return telephone_words(re.sub(r"\[[^\]]*\]", " ", text))
