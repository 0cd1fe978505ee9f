"""CMU AN4: spelled words, numbers and dates in NIST SPHERE files (www.speech.cs.cmu.edu/databases/an4)."""

import re
from collections.abc import Iterator
from pathlib import Path

from carnelian.data.text.text_files import read_corpus_lines
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError

LINE = re.compile(r"(?:<s> )?(?P<text>.*?) ?(?:</s> )?\((?P<name>\S+)\)")  # "<s> GO </s> (an253-fash-b)"


def an4(folder: Path) -> dict[str, Iterator[Utterance]]:
    """The subsets "train" and "test" of an unpacked AN4: the folder that holds `etc` and `wav`."""
    if not (folder / "etc").is_dir() and (folder / "an4").is_dir():
        folder = folder / "an4"
    if not (folder / "etc" / "an4_train.transcription").is_file():
        raise ManifestError(
            f"{folder}: no etc/an4_train.transcription in it. Give the folder of AN4, which has etc and wav"
        )
    return {subset: read_an4_list(folder, subset) for subset in ("train", "test")}


def read_an4_list(folder: Path, subset: str) -> Iterator[Utterance]:
    """The utterances of a subset: `etc/an4_train.fileids` lists the recordings, `.transcription` their words."""
    transcription = folder / "etc" / f"an4_{subset}.transcription"
    matches = [(LINE.fullmatch(line), line) for line in read_corpus_lines(transcription)]
    for match, line in matches:
        if not match:
            raise ManifestError(f'{transcription}: a line "{line[:60]}", expected "WORDS (name)". Unpack AN4 afresh')
    texts = {match["name"]: " ".join(match["text"].lower().split()) for match, _ in matches if match}
    fileids = folder / "etc" / f"an4_{subset}.fileids"
    for name in read_corpus_lines(fileids):
        _, slash, recording = name.rpartition("/")
        speaker = name.split("/")[-2:][0]
        if not slash:
            raise ManifestError(f'{fileids}: a line "{name[:60]}", expected "FOLDER/SPEAKER/NAME". Unpack AN4 afresh')
        if recording not in texts:
            raise ManifestError(f"{transcription}: no words for {recording}, which is listed. Unpack AN4 afresh")
        yield Utterance(f"{folder / 'wav' / name}.sph", 0.0, texts[recording], more={"speaker": speaker})
