"""Text files, plain or gzip, line by line, and the words of a line."""

import codecs
import gzip
import re
import sys
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from carnelian.data.utterance import read_manifest
from carnelian.errors import LanguageModelError, ManifestError
from carnelian.files import one_line, reading

TEXT_CHUNK = 1 << 20
TRANSCRIPTS = 1 << 14  # of a manifest, in a chunk
WORD_OF_TEXT = re.compile(r"[^\0\t\n\r ]+")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # no text in Latin-1 has these in a word


def split_words(text: str) -> list[str]:
    """Returns the words of a text, the same everywhere in language models.

    They are separated as KenLM separates them: by space, tab, newline, carriage return and NUL, and by nothing else. A no-break space
    or a control character is part of its word.
    """
    return WORD_OF_TEXT.findall(text)


def read_word_list(path: str | Path) -> list[str]:
    """Returns the words of a vocabulary file. Raises LanguageModelError."""
    with reading(path, "a UTF-8 file of words", LanguageModelError):
        return split_words(Path(path).read_text(encoding="utf-8-sig"))


def open_text(path: str | Path) -> BinaryIO:
    """A text file (plain or gzip, known by its content) or, for "-", standard input, as a stream of bytes."""
    try:
        file = sys.stdin.buffer if str(path) == "-" else Path(path).open("rb", TEXT_CHUNK)  # noqa: SIM115
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror}). Give a text file") from None
    if file.peek(2)[:2] == b"\x1f\x8b":  # type: ignore[union-attr]
        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    return file


def read_chunks(path: str | Path) -> Iterator[bytes]:
    """Chunks of whole lines of a text, without its byte order mark; its last line is ended if it is not.

    Of a manifest (.jsonl) the transcripts.
    """
    if str(path).endswith(".jsonl"):
        transcripts = (utterance.text.replace("\n", " ") + "\n" for utterance in read_manifest(path))
        while chunk := "".join(islice(transcripts, TRANSCRIPTS)):
            yield chunk.encode()
        return
    rest, begun = b"", False
    with open_text(path) as file:
        while True:
            try:
                read = file.read(TEXT_CHUNK)
            except (EOFError, gzip.BadGzipFile, OSError, zlib.error) as error:
                raise LanguageModelError(f"{path}: the gzip file is cut or damaged ({error}). Copy it again") from None
            if not read:
                break
            if not begun:
                begun, read = True, read.removeprefix(codecs.BOM_UTF8)
            whole, newline, after = read.rpartition(b"\n")
            if newline:
                yield rest + whole + newline
                rest = after
            else:
                rest += read
    if rest:
        yield rest + b"\n"


def wrong_encoding(path: str | Path, line: int, chunk: bytes, encoding: str = "utf-8") -> LanguageModelError:
    """The error that names the first line of a chunk that is not text in this encoding; `line` is the chunk's first."""
    for number, text in enumerate(chunk.split(b"\n"), line):
        try:
            text.decode(encoding)
        except UnicodeDecodeError as error:
            word = re.findall(rb"\S+", text[: error.start + 1])[-1] + re.split(rb"\s", text[error.start + 1 :])[0]
            latin = word.decode("latin-1")
            shown = one_line(latin, 60)
            cure = f'as Latin-1 the word reads "{shown}". If so: carnelian language-model prepare --encoding latin-1'
            if CONTROL.search(latin):
                cure = "it is not Latin-1 either. Give a text file, or carnelian language-model prepare its --encoding"
            return LanguageModelError(
                f"{one_line(str(path), 80)}:{number}: byte 0x{text[error.start]:02x} is not {encoding.upper()}; {cure}"
            )
    raise AssertionError(f"the chunk is {encoding}")


def read_lines(path: str | Path, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a text file (plain or gzip; "-" is standard input) without their ends."""
    try:
        "".encode(encoding)
    except LookupError:
        raise LanguageModelError(
            f'"{encoding}": no such encoding. Known: utf-8, latin-1, cp1252, utf-16, ...'
        ) from None
    if encoding.lower().replace("-", "").startswith(("utf16", "utf32")):
        text = open_text(path).read().decode(encoding, "replace").removeprefix("\ufeff").removesuffix("\n")
        yield from (line.removesuffix("\r") for line in text.split("\n"))
        return
    line = 1
    for chunk in read_chunks(path):
        try:
            text = chunk.decode(encoding)
        except UnicodeDecodeError:
            raise wrong_encoding(path, line, chunk, encoding) from None
        yield from text.removeprefix("\ufeff").removesuffix("\n").split("\n")
        line += chunk.count(b"\n")


def decode_text(content: bytes) -> tuple[str, str]:
    """(text, encoding) of a file: UTF-8, UTF-16, or else cp1252 as Windows writes it, without a byte order mark.

    Raises ValueError for what is no text.
    """
    even, odd = content[:1000:2].count(0), content[1:1000:2].count(0)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16"), "utf-16"
    if max(even, odd) > min(len(content), 1000) / 4 and min(even, odd) == 0:
        return content.decode("utf-16-be" if even else "utf-16-le"), "utf-16"
    if b"\0" in content:
        raise ValueError("a binary file, no text")
    try:
        return content.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        pass
    try:
        return content.decode("cp1252"), "cp1252"
    except UnicodeDecodeError:  # a few bytes have no meaning there
        return content.decode("latin-1"), "latin-1"


def encoding_of(path: Path) -> str:
    """Returns the encoding of a text file of a corpus, as `decode_text` finds it. Raises ManifestError."""
    with reading(path, "a text of the corpus", ManifestError):
        return decode_text(path.read_bytes())[1]


def read_corpus_lines(path: Path) -> list[str]:
    """Returns the lines of a text file of a corpus, in any encoding that `decode_text` knows, stripped, without empty ones.

    Raises ManifestError.
    """
    with reading(path, "a text of the corpus", ManifestError):
        text, _ = decode_text(path.read_bytes())
    return [line.strip() for line in text.split("\n") if line.strip()]
