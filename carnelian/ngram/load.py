"""Language models in any of their file forms."""

from pathlib import Path

from carnelian.errors import LanguageModelError
from carnelian.files import reading
from carnelian.ngram import binary, kenlm_binary
from carnelian.ngram.arpa import read_arpa
from carnelian.ngram.model import NGram


def load_language_model(path: str | Path, *, lower_case: bool = False) -> NGram:
    """Returns the n-gram model in a file, known by its content: ARPA (plain or gzip), our binary form, or KenLM's.

    lower_case: fold the words of an ARPA file to lower case. Raises LanguageModelError, one line, for any other file.
    """
    with reading(path, "a language model (ARPA, binary, or KenLM's binary)", LanguageModelError):
        with Path(path).open("rb") as file:
            opening = file.read(64)
        for magic, read in (
            (binary.BINARY_MAGIC, binary.read_binary),
            (kenlm_binary.KENLM_MAGIC, kenlm_binary.read_kenlm),
        ):
            if opening.startswith(magic):
                if lower_case:
                    raise LanguageModelError(
                        f"{path}: a binary form cannot be folded to lower case. Give its ARPA file"
                    )
                return read(path)
        return read_arpa(path, lower_case=lower_case)
