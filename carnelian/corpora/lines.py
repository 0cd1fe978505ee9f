"""The text files of a corpus, line by line."""

from pathlib import Path

from carnelian.errors import ManifestError


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file (Latin-1 where it is not UTF-8), without their ends and empty ones."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}. Give the folder of the unpacked corpus") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return [line.strip() for line in text.splitlines() if line.strip()]
