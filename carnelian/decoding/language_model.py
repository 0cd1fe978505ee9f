"""Language models in any of their file forms."""

from pathlib import Path

from carnelian.decoding import binary, kenlm
from carnelian.decoding.arpa import read_arpa
from carnelian.decoding.kenlm import KenLM
from carnelian.decoding.ngram import NGram
from carnelian.errors import LanguageModelError


def load_language_model(path: str | Path, *, lower_case: bool = False) -> NGram:
    """An n-gram model from a file, known by its content: ARPA (plain or gzip), or the binary form."""
    opening = _opening(path)
    if opening.startswith(kenlm.MAGIC):
        raise LanguageModelError(
            f"{path}: a KenLM binary keeps only hashes of its n-grams, so that it can be scored with but not searched "
            "or changed. Give the ARPA file it was made from"
        )
    if opening.startswith(binary.MAGIC):
        if lower_case:
            raise LanguageModelError(f"{path}: the binary form cannot be folded to lower case. Give its ARPA file")
        return binary.read_binary(path)
    return read_arpa(path, lower_case=lower_case)


def load_scorer(path: str | Path, *, lower_case: bool = False) -> NGram | KenLM:
    """A model that scores sentences from any file: those above, or a KenLM binary through KenLM's own package."""
    return KenLM(path) if _opening(path).startswith(kenlm.MAGIC) else load_language_model(path, lower_case=lower_case)


def _opening(path: str | Path) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror}). Give a language model") from None
