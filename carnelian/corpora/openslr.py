"""OpenSLR's files that are fetched by name: LibriSpeech (openslr.org/12) and its language models (openslr.org/11)."""

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from carnelian.console import bar, note
from carnelian.data.archive import unpack
from carnelian.data.download import announce, download
from carnelian.errors import DownloadError
from carnelian.files import written
from carnelian.ngram.arpa_writer import packed

HOSTS = ("www.openslr.org", "us.openslr.org", "openslr.elda.org", "openslr.magicdatatech.com")


@dataclass(frozen=True, slots=True)
class Resource:
    """A file of OpenSLR: its bytes and MD5 as published, and for a corpus the utterances in it."""

    file: str
    size: int
    md5: str
    utterances: int = 0


LIBRISPEECH = {
    "dev-clean": Resource("dev-clean.tar.gz", 337926286, "42e2234ba48799c1f50f24a7926300a1", 2703),
    "dev-other": Resource("dev-other.tar.gz", 314305928, "c8d0bcc9cca99d4f8b62fcc847357931", 2864),
    "test-clean": Resource("test-clean.tar.gz", 346663984, "32fa31d27d2e1cad72775fee3f4849a9", 2620),
    "test-other": Resource("test-other.tar.gz", 328757843, "fb5a50374b501bb3bac4815ee91d3135", 2939),
    "train-clean-100": Resource("train-clean-100.tar.gz", 6387309499, "2a93770f6d5c6c964bc36631d331a522", 28539),
    "train-clean-360": Resource("train-clean-360.tar.gz", 23049477885, "c0e676e450a7ff2f54aeade5171606fa", 104014),
    "train-other-500": Resource("train-other-500.tar.gz", 30593501606, "d1a0fd59409feb2c614ce4d30c387708", 148688),
}
LANGUAGE_MODELS = {
    "3-gram": Resource("3-gram.arpa.gz", 759636181, "74cbb837e582378c26c602e1c8cbcb9c"),
    "3-gram.pruned.1e-7": Resource("3-gram.pruned.1e-7.arpa.gz", 34094057, "9a0f1325bcaf3a0f7b7be4be10823c2a"),
    "3-gram.pruned.3e-7": Resource("3-gram.pruned.3e-7.arpa.gz", 13654242, "8f67ec741827742eee05799ab7605b50"),
    "4-gram": Resource("4-gram.arpa.gz", 1355172078, "6abdcd5b055bd482e4f9defe91d40408"),
    "lexicon": Resource("librispeech-lexicon.txt", 5627653, "28f72663f6bfed7cd346283c064c315b"),
    "vocabulary": Resource("librispeech-vocab.txt", 1737588, "bf3cc7a50112831ed8b0afa40cae96a5"),
    "text": Resource("librispeech-lm-norm.txt.gz", 1507274412, "c83c64c726a1aedfe65f80aa311de402"),
}
UNPACKED = 1.05  # bytes on the disk for each byte of an archive: FLAC files hardly shrink


def addresses(number: int, file: str, mirrors: Sequence[str]) -> list[str]:
    """Where a file of a resource is asked for: at the user's mirrors, or else at OpenSLR's hosts."""
    folders = [mirror.rstrip("/") for mirror in mirrors] or [f"https://{host}/resources/{number}" for host in HOSTS]
    return [f"{folder}/{file}" for folder in folders]


def download_librispeech(parts: Sequence[str], folder: Path, mirrors: Sequence[str], present: set[str]) -> None:
    """Downloads and unpacks parts of LibriSpeech into a folder, except those that are `present` and whole.

    Raises DownloadError for an unknown part, a disk without room, and what no mirror gives whole.
    """
    unknown = [part for part in parts if part not in LIBRISPEECH]
    if unknown:
        raise DownloadError(f'LibriSpeech has no part "{unknown[0]}". Take some of {", ".join(LIBRISPEECH)}, or "all"')
    missing = {part: LIBRISPEECH[part] for part in parts if part not in present}
    size = sum(resource.size for resource in missing.values())
    largest = max((resource.size for resource in missing.values()), default=0)
    if missing:  # an archive is removed when it is unpacked, so only one lies beside its contents
        announce(f"LibriSpeech {' '.join(missing)}", size, int(UNPACKED * size) + largest, folder)
    for resource in missing.values():
        archive = download(
            addresses(12, resource.file, mirrors),
            folder / resource.file,
            size=resource.size,
            checksum=f"md5:{resource.md5}",
            trusted=mirrors,
        )
        unpack(archive, folder, most_bytes=2 * resource.size + (1 << 20))
        archive.unlink()


def download_language_model(name: str, out: Path, mirrors: Sequence[str]) -> Path:
    """Downloads a file of LibriSpeech's language models, folds its words to lower case, and returns its path in `out`."""
    if name not in LANGUAGE_MODELS:
        raise DownloadError(f'openslr-11 has no "{name}". Take one of {", ".join(LANGUAGE_MODELS)}')
    resource = LANGUAGE_MODELS[name]
    target = out / resource.file
    if target.exists():
        note(f"{target} is there already.")
        return target
    announce(resource.file, resource.size, 2 * resource.size, out)
    original = download(
        addresses(11, resource.file, mirrors),
        out / f"{resource.file}.original",
        size=resource.size,
        checksum=f"md5:{resource.md5}",
        trusted=mirrors,
    )
    fold_words(original, target, lower_first_word if name == "lexicon" else bytes.lower)
    original.unlink()
    return target


def lower_first_word(line: bytes) -> bytes:
    """A line of a lexicon with its word in lower case; phones keep their case."""
    word = line.split(None, 1)[0] if line.strip() else b""
    return word.lower() + line[len(word) :]


def fold_words(source: Path, target: Path, fold: Callable[[bytes], bytes]) -> None:
    """Writes a text file, gzip or not, with each line folded."""
    progress = bar(f"Folding {target.name} to lower case, MB", source.stat().st_size / 1e6)
    with progress as advance, source.open("rb") as raw, written(target, "wb") as out, packed(out, target) as file:
        text: IO[bytes] = gzip.GzipFile(fileobj=raw) if target.suffix == ".gz" else raw  # type: ignore[assignment]
        position = 0
        while lines := text.readlines(1 << 20):
            file.writelines(map(fold, lines))
            advance((raw.tell() - position) / 1e6)
            position = raw.tell()
