"""Language models in any of their file forms."""

from pathlib import Path

from carnelian.errors import LanguageModelError
from carnelian.ngram import binary, kenlm_binary
from carnelian.ngram.arpa import read_arpa
from carnelian.ngram.model import NGram


def load_language_model(path: str | Path, *, lower_case: bool = False) -> NGram:
    """An n-gram model from a file, known by its content: ARPA (plain or gzip), the binary form, or KenLM's."""
    try:
        with Path(path).open("rb") as file:
            opening = file.read(64)
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror}). Give a language model") from None
    for magic, read in ((binary.BINARY_MAGIC, binary.read_binary), (kenlm_binary.KENLM_MAGIC, kenlm_binary.read_kenlm)):
        if opening.startswith(magic):
            if lower_case:
                raise LanguageModelError(f"{path}: a binary form cannot be folded to lower case. Give its ARPA file")
            return read(path)
    return read_arpa(path, lower_case=lower_case)
