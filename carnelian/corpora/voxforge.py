"""VoxForge: read sentences that people sent in, a folder for each submission with `etc/PROMPTS` and `wav` or `flac`."""

from collections.abc import Iterator
from pathlib import Path

from carnelian.console import note
from carnelian.data.text.text_files import read_corpus_lines
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError

PROMPTS = ("PROMPTS", "prompts-original", "prompt-original", "prompts")


def voxforge(folder: Path) -> dict[str, Iterator[Utterance]]:
    """The subset "all": what the unpacked submissions below a folder hold (NAME-DATE-CODE/etc/PROMPTS)."""
    submissions = sorted(
        {path.parent.parent for name in PROMPTS for path in folder.glob(f"**/etc/{name}") if path.is_file()}
    )
    packed = sum(1 for _ in folder.glob("**/*.tgz"))
    if not submissions:
        raise ManifestError(
            f"{folder}: no NAME-DATE-CODE/etc/PROMPTS in it, and {packed} packed submissions (.tgz). Unpack them there"
        )
    if packed:
        note(f"{folder}: {packed} submissions are packed (.tgz) and left out")
    return {"all": read_submissions(submissions)}


def read_submissions(folders: list[Path]) -> Iterator[Utterance]:
    """The utterances of submissions, whose speaker is the name before the date; recordings without a prompt are noted."""
    silent = absent = 0
    for folder in folders:
        prompts = next(path for name in PROMPTS if (path := folder / "etc" / name).is_file())
        recordings = {path.stem: path for kind in ("wav", "flac") for path in sorted((folder / kind).glob(f"*.{kind}"))}
        named = set()
        for line in read_corpus_lines(prompts):
            name, _, text = line.replace("\t", " ").partition(" ")
            name = name.rsplit("/", 1)[-1]  # "Anna-20080504-qvg/mfc/a0001"
            named.add(name)
            if name in recordings and text.strip():
                speaker = folder.name.split("-")[0]
                if speaker.lower() in ("anonymous", "anon"):  # not one person
                    speaker = folder.name
                more = {"id": f"{folder.name}-{name}", "speaker": speaker}
                yield Utterance(str(recordings[name]), 0.0, text.strip().lower(), more=more)
            else:
                absent += 1
        silent += len(recordings.keys() - named)
    if silent or absent:
        note(f"voxforge: {silent} recordings have no prompt, {absent} prompts have no recording; both are left out")
