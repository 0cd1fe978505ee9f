"""TRN, NIST's transcripts: a line of words for each utterance, its name in parentheses at the end."""

from collections.abc import Iterable
from pathlib import Path

from carnelian.errors import ScoringError
from carnelian.files import one_line, written
from carnelian.scoring.sclite.stm import numbered_lines


def read_trn(path: str | Path, encoding: str = "utf-8") -> dict[str, str]:
    """Words by utterance, in the file's order; `;;` and `;*` begin comments. Names are compared in small letters."""
    transcripts: dict[str, str] = {}
    for number, line in numbered_lines(path, encoding):
        if line.startswith((";;", ";*")):
            continue
        words, opening, rest = line.rpartition("(")
        name, closing, after = rest.rpartition(")")
        if not opening or not closing or after.strip():
            raise ScoringError(
                f'{path}:{number}: "{one_line(line.strip()[-60:], 90)}" names no utterance. Write: words (utterance)'
            )
        name, words = name.strip().lower(), words.strip()
        if transcripts.setdefault(name, words) != words:
            raise ScoringError(
                f"{path}:{number}: ({one_line(name, 60)}) is there twice with other words. Leave one of them"
            )
    return transcripts


def write_trn(path: str | Path, transcripts: Iterable[tuple[str, str]]) -> None:
    """Writes (utterance, words) pairs as a TRN file."""
    with written(path) as file:
        file.writelines(f"{words} ({name})\n" for name, words in transcripts)


def speaker_of(utterance: str, kind: str = "spu_id") -> str:
    """The speaker that an utterance's name tells: what stands before its first - or _, or for "wsj" 3 characters."""
    if kind == "wsj":
        return utterance[:3]
    head, hyphen, _ = utterance.partition("-")
    return head if hyphen else utterance.partition("_")[0]
