"""Mozilla Common Voice: read sentences by volunteers, a folder of `clips` and TSV lists for each language."""

from collections.abc import Iterator
from pathlib import Path

from carnelian.corpora.folder import read_list
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError

COMMON_VOICE_LISTS = ("train", "dev", "test", "validated")


def common_voice(folder: Path) -> dict[str, Iterator[Utterance]]:
    """The subsets train, dev, test and validated (which holds the other three) of a language's folder.

    The folder may be the language's (it holds `clips`), or one above where there is only one language.
    """
    languages = [folder] if (folder / "validated.tsv").is_file() or (folder / "train.tsv").is_file() else []
    languages = languages or sorted({path.parent for path in folder.glob("*/train.tsv")})
    languages = languages or sorted({path.parent for path in folder.glob("*/*/train.tsv")})
    if len(languages) != 1:
        found = f"the languages {', '.join(path.name for path in languages)}" if languages else "no train.tsv"
        raise ManifestError(f"{folder}: found {found}. Give the folder of one language, such as cv-corpus-24.0/es")
    lists = {name: languages[0] / f"{name}.tsv" for name in COMMON_VOICE_LISTS}
    return {name: read_list(path) for name, path in lists.items() if path.is_file()}
