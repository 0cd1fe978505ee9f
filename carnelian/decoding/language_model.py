"""Language models in any of their file forms."""

from pathlib import Path

from carnelian.decoding.arpa import read_arpa
from carnelian.decoding.binary import MAGIC, read_binary
from carnelian.decoding.ngram import NGram
from carnelian.errors import LanguageModelError

KENLM = b"mmap lm http://kheafield.com/code"


def load_language_model(path: str | Path, *, lower_case: bool = False) -> NGram:
    """An n-gram model from a file, known by its content: ARPA (plain or gzip), or the binary form."""
    try:
        with Path(path).open("rb") as file:
            opening = file.read(64)
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror}). Give a language model") from None
    if opening.startswith(KENLM):
        raise LanguageModelError(
            f"{path}: a KenLM binary, which keeps only hashes of its n-grams. Give the ARPA file it was made from"
        )
    if opening.startswith(MAGIC):
        if lower_case:
            raise LanguageModelError(f"{path}: the binary form cannot be folded to lower case. Give its ARPA file")
        return read_binary(path)
    return read_arpa(path, lower_case=lower_case)
