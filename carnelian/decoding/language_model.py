"""Language models in any of their file forms."""

from pathlib import Path

from carnelian.decoding import binary, kenlm
from carnelian.decoding.arpa import read_arpa
from carnelian.decoding.ngram import NGram
from carnelian.errors import LanguageModelError


def load_language_model(path: str | Path, *, lower_case: bool = False) -> NGram:
    """An n-gram model from a file, known by its content: ARPA (plain or gzip), the binary form, or KenLM's."""
    try:
        with Path(path).open("rb") as file:
            opening = file.read(64)
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror}). Give a language model") from None
    for magic, read in ((binary.MAGIC, binary.read_binary), (kenlm.MAGIC, kenlm.read_kenlm)):
        if opening.startswith(magic):
            if lower_case:
                raise LanguageModelError(f"{path}: a binary form cannot be folded to lower case. Give its ARPA file")
            return read(path)
    return read_arpa(path, lower_case=lower_case)
