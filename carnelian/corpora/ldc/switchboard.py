"""Switchboard-1 (LDC97S62) with the transcripts of Mississippi State (MS98, openslr.org/5): telephone speech to train on."""

import re
from collections.abc import Iterator
from pathlib import Path

from carnelian.console import note
from carnelian.corpora.ldc.discs import by_stem, find_files, note_missing, side, telephone_words
from carnelian.data.text.text_files import read_corpus_lines
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError

SWITCHBOARD_RECORDINGS = (2435, 2438)  # release 2 has three recordings more than are transcribed
MS98_LINE = re.compile(
    r"sw(?P<call>\d+)(?P<side>[AB])-\S+\s+(?P<start>\d{1,9}\.?\d*)\s+(?P<end>\d{1,9}\.?\d*)\s+(?P<text>.*)"
)
#: Marks of the transcribers and the spoken form that replaces them, in Kaldi's order: a word spoken while laughing, a mispronounced
#: word, a word cut at its start, at its end, and so with a slash inside, a coined word, a missing letter, a numbered pronunciation.
MS98_RULES = tuple(
    (re.compile(pattern), by)
    for pattern, by in [
        (r"^(-?)\[laughter-(.+)\](-?)$", r"\1\2\3"),
        (r"^\[(.+)/.+\](-?)$", r"\1\2"),
        (r"^-?\[[^][]+\](.+)$", r"-\1"),
        (r"^(.+)\[[^][]+\]-?$", r"\1-"),
        (r"([^][]+)\[.+\]$", r"\1"),
        (r"^\{(.+)\}$", r"\1"),
        (r"([a-z])\[[^][]+\]([a-z])", r"\1-\2"),
        (r"_\d", ""),
    ]
)


def switchboard(folder: Path) -> dict[str, Iterator[Utterance]]:
    """The subset "train": all transcribed segments of both sides; the folder holds the discs and `swb_ms98_transcriptions`."""
    recordings = by_stem(find_files(folder, (".sph",)))
    transcripts = find_files(folder, ("-trans.text",))
    if not recordings or not transcripts:
        raise ManifestError(
            f"{folder}: no Switchboard-1 in it, found {len(recordings)} .sph recordings and {len(transcripts)} *-trans.text "
            "files. Give the folder that holds LDC97S62 and swb_ms98_transcriptions"
        )
    if len(recordings) not in SWITCHBOARD_RECORDINGS:
        note(
            f"switchboard: {len(recordings):,} recordings, expected {SWITCHBOARD_RECORDINGS[0]:,} or {SWITCHBOARD_RECORDINGS[1]:,}"
        )
    return {"train": read_ms98(transcripts, recordings)}


def read_ms98(transcripts: list[Path], recordings: dict[str, Path]) -> Iterator[Utterance]:
    """The utterances of the transcripts, without those that have no words."""
    absent, calls = set(), set()
    for path in transcripts:
        for line in read_corpus_lines(path):
            match = MS98_LINE.fullmatch(line)
            if not match:
                raise ManifestError(f'{path}: a line "{line[:60]}", expected "swNNNNA-... START END WORDS"')
            call = f"sw{int(match['call']):05d}"
            calls.add(call)
            if call not in recordings:
                absent.add(call)
            elif text := spell_ms98(match["text"]):
                yield side(recordings[call], call, match["side"], float(match["start"]), float(match["end"]), text)
    note_missing("switchboard", "transcribed recordings are not there", absent)
    note_missing("switchboard", "recordings have no transcripts", recordings.keys() - calls)


def spell_ms98(text: str) -> str:
    """A transcript as lower-case words of letters and apostrophes; what remains of words cut off stays, noises are dropped."""
    words = []
    for word in re.sub(r"<[be]_aside>", " ", text.lower()).split():
        for pattern, by in MS98_RULES:
            word = pattern.sub(by, word)
        if not word.startswith("["):  # [noise], [laughter], [vocalized-noise], [silence]
            words.append(word)
    return telephone_words(" ".join(words))
