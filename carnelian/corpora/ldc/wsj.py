"""Wall Street Journal: WSJ0 (LDC93S6A or B) and WSJ1 (LDC94S13A or B), read newspaper text, by the discs' own index files.

The subsets are those of Kaldi's recipe and of the literature: "nov93dev" there is dev93, "nov92" is eval92.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from carnelian.console import note
from carnelian.corpora.ldc.discs import find_files, note_missing
from carnelian.data.text.text_files import read_corpus_lines
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError

TRAIN84 = "wsj0/doc/indices/train/tr_s_wv1.ndx"
WSJ_INDICES = {
    "si84": (TRAIN84,),
    "si284": ("wsj1/doc/indices/si_tr_s.ndx", TRAIN84),
    "dev93": ("wsj1/doc/indices/h1_p0.ndx",),
    "dev93_5k": ("wsj1/doc/indices/h2_p0.ndx",),
    "eval92": ("wsj0/doc/indices/test/nvp/si_et_20.ndx",),
    "eval92_5k": ("wsj0/doc/indices/test/nvp/si_et_05.ndx",),
    "eval93": ("wsj1/doc/indices/wsj1/eval/h1_p0.ndx",),
    "eval93_5k": ("wsj1/doc/indices/wsj1/eval/h2_p0.ndx",),
}
"""The index files of each subset."""
WSJ_COUNTS = {
    "si84": (7138,),
    "si284": (37416,),
    "dev93": (503,),
    "dev93_5k": (513,),
    "eval92": (333,),
    "eval92_5k": (330,),
    "eval93": (213,),
    "eval93_5k": (213, 215),
}
"""The utterances of each subset as published; of the last, sources give two figures."""
WSJ_LEFT_OUT = "wsj0/si_tr_s/401/"  # a speaker of the training lists whom Kaldi and all who compare with it leave out
INDEX_ENTRY = re.compile(r"(?P<disc>[\d_.-]+)\s*:\s*/?(?P<path>\S+)")  # "11_13_1: wsj0/si_et_20/440/440c0401"
DOT = re.compile(r"(?P<text>.*?)\s*\((?P<name>[^()\s]+)\)")  # "The sale of the hotels [door_slam] (440c0401)"
INSIDE_WSJ = re.compile(r"(?i)(?:^|/)(wsj[01]/(?:doc|s[id]_|trans).*)$")
WSJ_NOISE = re.compile(r"\[\S+\]|~+")  # a noise, where one begins or ends, and a cut
MISSPELT = {"(in-parenthesis": "(in-parentheses"}


def wsj(folder: Path) -> dict[str, Iterator[Utterance]]:
    """The subsets that the discs below a folder hold; those whose index file or every recording is missing are noted."""
    files = find_files(folder, (".wv1", ".dot", ".ndx"))
    inside = {path_inside(path): path for path in files}
    recordings = {key: path for key, path in inside.items() if key.endswith(".wv1")}
    texts = read_dots([path for path in files if path.suffix.lower() == ".dot"])
    subsets, absent = {}, []
    for subset, indices in WSJ_INDICES.items():
        if all(index in inside for index in indices):
            subsets[subset] = read_wsj_subset(subset, [inside[index] for index in indices], recordings, texts)
        else:
            absent += [f"{subset} ({index})" for index in indices if index not in inside]
    if not subsets or not recordings:
        found = f"{len(recordings)} .wv1 recordings and {len(texts)} transcripts" if files else "nothing of it"
        raise ManifestError(
            f"{folder}: no WSJ in it, found {found}. Give the folder that holds the discs (11-1.1, ..., 13-34.1), "
            "or their folders wsj0 and wsj1"
        )
    note_missing("wsj", "index files are missing, and their subsets left out", absent)
    return subsets


def path_inside(path: Path) -> str:
    """A file's path from "wsj0" or "wsj1" on, in lower case: the same on every edition, disc and copy."""
    match = INSIDE_WSJ.search(path.as_posix())
    return match[1].lower() if match else path.name.lower()


def read_wsj_subset(
    subset: str, indices: list[Path], recordings: dict[str, Path], texts: dict[str, str]
) -> Iterator[Utterance]:
    """The utterances of a subset in the order of their names; noted is what is listed and not there."""
    listed: dict[str, Path | None] = {}
    discs: Counter[str] = Counter()
    silent = []
    for entry in (match for index in indices for match in read_wsj_index(index)):
        path = entry["path"].lower()
        path = path if path.endswith(".wv1") else f"{path}.wv1"
        if not path.startswith(WSJ_LEFT_OUT):
            listed[Path(path).stem] = recordings.get(path)
            discs[entry["disc"].replace("_", "-", 1).replace("_", ".")] += path not in recordings
    for name, path in sorted(listed.items()):
        if path and name not in texts:
            silent.append(name)
        elif path:
            yield Utterance(str(path), 0.0, spell_wsj(texts[name]), more={"id": name, "speaker": name[:3]})
    for disc, missing in discs.items():
        if missing:
            note(f"{subset}: {missing:,} recordings of disc {disc} are not there")
    note_missing(subset, "recordings have no line in a .dot file and are left out", silent)


def read_wsj_index(path: Path) -> list[re.Match]:
    """The entries of an index file, a disc and a path each."""
    lines = [line for line in read_corpus_lines(path) if not line.startswith(";")]
    matches = [INDEX_ENTRY.fullmatch(line) for line in lines]
    for line, match in zip(lines, matches):
        if not match:
            raise ManifestError(f'{path}: a line "{line[:60]}", expected "DISC:PATH". Copy the disc again')
    return [match for match in matches if match]


def read_dots(paths: list[Path]) -> dict[str, str]:
    """The text of each utterance in the .dot files, by its name."""
    texts = {}
    for path in paths:
        for line in read_corpus_lines(path):
            if match := DOT.fullmatch(line):
                texts[match["name"].lower()] = match["text"]
    return texts


def spell_wsj(text: str) -> str:
    """A dot transcript as lower-case words of letters and apostrophes.

    Noises are dropped, words cut off in the recording (`<word>`) and emphasised ones (`*word*`, `!word`, `wo:rd`) stay, spoken
    punctuation (`,COMMA`, `--DASH`) is a word. One token of the transcript stays one word, so that word counts are those of
    other toolkits.
    """
    words = []
    for token in text.replace("\\", "").replace("`", "'").split():
        if WSJ_NOISE.fullmatch(token):
            continue
        token = token.lower()
        words.append(re.sub(r"[^a-z']", "", MISSPELT.get(token, token)))
    return " ".join(word for word in words if word.strip("'"))
