"""Hub5'00 ("eval2000"): the test of English telephone speech of 2000, audio LDC2002S09 and transcripts LDC2002T43."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from carnelian.console import note
from carnelian.corpora.ldc.discs import SIDES, by_stem, find_files, note_missing, side, telephone_words
from carnelian.data.text.text_files import encoding_of, read_corpus_lines
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError
from carnelian.scoring.sclite.stm import StmSegment, read_stm

HUB5_COUNTS = {"eval2000": (4459,), "swbd": (1831,), "callhome": (2628,)}
HUB5_PREFIXES = {"eval2000": "", "swbd": "sw_", "callhome": "en_"}
"""How the recordings of each subset are named."""
SEGMENT_MARGIN = 0.1
"""Seconds by which a segment is extended at either end, as far as the next segment allows: its times are tight."""
HUB5_STM, HUB5_GLM, HUB5_PEM = "hub5e00.english.000405.stm", "en20000405_hub5.glm", "hub5e_00.pem"


def hub5(folder: Path) -> dict[str, Iterator[Utterance]]:
    """The subsets eval2000 (all), swbd and callhome; the folder holds the discs or copies of both parts, in any depth."""
    files = find_files(folder, (".sph", ".stm", ".pem"))
    recordings = by_stem(path for path in files if path.suffix.lower() == ".sph")
    named = {path.name.lower(): path for path in files}
    if HUB5_STM not in named or not any(name.startswith(("sw_", "en_")) for name in recordings):
        found = f"{len(recordings)} .sph files and {'the' if HUB5_STM in named else 'no'} {HUB5_STM}"
        raise ManifestError(
            f"{folder}: no Hub5'00 in it, found {found}. Give the folder that holds LDC2002S09 and LDC2002T43"
        )
    transcribed = read_stm(named[HUB5_STM], encoding_of(named[HUB5_STM])).segments
    segments = [segment for segment in transcribed if not segment.ignored]
    if HUB5_PEM in named:
        compare_pem(read_pem(named[HUB5_PEM]), transcribed, named[HUB5_PEM])
    listed = {segment.recording.lower() for segment in segments}
    note_missing("hub5", "recordings of the transcripts are not there", listed - recordings.keys())
    note_missing("hub5", "recordings have no transcripts", {n for n in recordings if n[:3] in ("sw_", "en_")} - listed)
    utterances = [
        side(
            recordings[each.recording.lower()],
            each.recording,
            each.channel.upper(),
            each.start,
            each.end,
            spell_hub5(each.text),
        )
        for each in segments
        if each.recording.lower() in recordings and each.channel.upper() in SIDES
    ]
    extended = list(extend_segments(utterances, SEGMENT_MARGIN))
    return {
        subset: iter([each for each in extended if each.more["id"].startswith(prefix)])
        for subset, prefix in HUB5_PREFIXES.items()
    }


def hub5_references(folder: Path) -> dict[str, str]:
    """The STM and GLM that score a CTM, by the names of the files to write; what upsets scorers in the STM is taken out."""
    named = {path.name.lower(): path for path in find_files(folder, (".stm", ".glm"))}
    written = {}
    if HUB5_STM in named:
        stm = re.sub(r"<[BE]_ASIDE>", "", "\n".join(read_corpus_lines(named[HUB5_STM])).replace("((", "("))
        written["eval2000.stm"] = stm + "\n"
    if HUB5_GLM in named:
        written["eval2000.glm"] = "\n".join(read_corpus_lines(named[HUB5_GLM])) + "\n"
    return written


def read_pem(path: Path) -> set[tuple[str, str, str]]:
    """Recording, side and start (to centiseconds) of each segment of a PEM file: `recording side speaker start end`."""
    segments = set()
    for line in read_corpus_lines(path):
        if not line.startswith(";;"):
            try:
                recording, letter, _, start, _ = line.split()[:5]
                segments.add((recording, letter, f"{float(start):.2f}"))
            except ValueError:
                raise ManifestError(
                    f'{path}: a line "{line[:60]}", expected "RECORDING SIDE SPEAKER START END". Copy it again'
                ) from None
    return segments


def compare_pem(segments: set[tuple[str, str, str]], transcribed: tuple[StmSegment, ...], pem: Path) -> None:
    """Notes segments that one of the two lists has and the other has not."""
    stm = {(each.recording, each.channel, f"{each.start:.2f}") for each in transcribed}
    if segments != stm:
        note(f"{pem}: {len(segments - stm)} segments are not in the STM, {len(stm - segments)} of the STM not here")


def spell_hub5(text: str) -> str:
    """A transcript of the STM as lower-case words of letters and apostrophes.

    Of alternates `{ a / b / @ }` the first is taken; hesitations become "uh"; optional words `(word)` stay; fragments lose their
    hyphen, other hyphens become spaces.
    """
    text = re.sub(r"<[BE]_ASIDE>", " ", text).lower()
    text = re.sub(r"\{\s*([^/{}]*?)\s*/[^{}]*\}", r" \1 ", text).replace("%hesitation", "uh")
    return telephone_words(text)


def extend_segments(utterances: list[Utterance], margin: float) -> Iterator[Utterance]:
    """The utterances, longer by a margin at both ends; between two of one side the gap is shared where it is too narrow."""

    def key(each: Utterance) -> tuple[str, int]:
        return each.audio_filepath, each.more["channel"]

    for _, group in groupby(sorted(utterances, key=lambda each: (*key(each), each.offset)), key):
        line = list(group)
        ends = [each.offset + each.duration for each in line]
        for index, each in enumerate(line):
            before = each.offset - ends[index - 1] if index else 2 * each.offset
            after = line[index + 1].offset - ends[index] if index + 1 < len(line) else 2 * margin
            start = each.offset - max(0.0, min(margin, before / 2))
            yield replace(each, offset=start, duration=ends[index] + max(0.0, min(margin, after / 2)) - start)
