"""Recordings in several parts, or with a length that was never filled in: how their files are divided and completed.

Ogg: RFC 3533. FLAC: RFC 9639. Files that were joined ("cat a.flac b.flac"), streams that a pipe wrote, and recorders that were
switched off leave lengths in the header that are those of a part, or none. Each function takes a file's bytes and returns those of the
parts that libsndfile reads as a whole, or raises ValueError with what was found.
"""

import io
import re
import struct
from typing import BinaryIO

OGG, FLAC = b"OggS", b"fLaC"
FIRST_PAGE, LAST_PAGE = 2, 4  # flags of an Ogg page: of the first and the last one of a stream
FLAC_START, FLAC_START_BYTES = re.compile(rb"fLaC[\0\x80]\0\0\x22"), 8
BLOCK_BYTES = 1 << 20
TOTAL_SAMPLES = 21  # where the 36 bits of a FLAC file's length begin, after "fLaC", in their byte's lower half


def ogg_parts(content: bytes) -> list[bytes]:
    """The streams of an Ogg file that follow each other. Raises ValueError for one whose last page is missing."""
    starts: list[int] = []
    at, before_was_first, ended, serials = 0, False, True, set[bytes]()
    while (at := content.find(OGG, at)) >= 0:
        header = content[at : at + 27]
        table = content[at + 27 : at + 27 + header[26]] if len(header) == 27 else b""
        after = at + 27 + len(table) + sum(table)
        if len(header) < 27 or header[4] != 0 or len(table) < header[26] or after > len(content):
            at += 4
            ended = ended and not starts
            continue
        flags, serial = header[5], header[14:18]
        if flags & FIRST_PAGE and not before_was_first:
            if not ended:
                raise ValueError("the page that ends its sound is missing")
            starts.append(at)
            ended, serials = False, {serial}
        ended = ended or bool(flags & LAST_PAGE and serial in serials)
        before_was_first = bool(flags & FIRST_PAGE)
        at = after
    if not ended:
        raise ValueError("the page that ends its sound is missing")
    return [content[start:stop] for start, stop in zip(starts, [*starts[1:], len(content)])]


def flac_parts(content: bytes) -> list[bytes]:
    """The files that were joined to this one, each with its length filled in."""
    starts = flac_starts(io.BytesIO(content))
    parts = [content[start:stop] for start, stop in zip(starts, [*starts[1:], len(content)])]
    return [part if flac_samples(part) else fill_flac(part) for part in parts]


def flac_starts(file: BinaryIO) -> list[int]:
    """Where the FLAC files begin that were joined to an open one; it is read block by block, never held."""
    starts: list[int] = []
    at, kept = 0, b""
    while block := file.read(BLOCK_BYTES):
        content = kept + block
        starts += [at + found.start() for found in FLAC_START.finditer(content)]
        kept = content[-(FLAC_START_BYTES - 1) :]
        at += len(content) - len(kept)
    return starts


def flac_samples(content: bytes) -> int:
    """The samples per channel that a FLAC file's header states; 0 for none."""
    return int.from_bytes(content[TOTAL_SAMPLES : TOTAL_SAMPLES + 5], "big") & 0xFFFFFFFFF


def fill_flac(content: bytes) -> bytes:
    """A FLAC file with its length, which its last frame tells. Raises ValueError where no frame is found."""
    block = int.from_bytes(content[8:10], "big")
    at = len(content)
    while (at := content.rfind(b"\xff", 42, at)) >= 0:
        end = flac_frame_end(content[at : at + 16], block)
        if end:
            filled = int.from_bytes(content[TOTAL_SAMPLES : TOTAL_SAMPLES + 5], "big") | min(end, 0xFFFFFFFFF)
            return content[:TOTAL_SAMPLES] + filled.to_bytes(5, "big") + content[TOTAL_SAMPLES + 5 :]
    raise ValueError("its header gives no length, and it has no frame of sound")


def flac_frame_end(header: bytes, block: int) -> int:
    """The number of the sample after the frame with this header; 0 where it is none, which its check sum tells."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xFE != 0xF8 or header[3] & 1:
        return 0
    size, rate = header[2] >> 4, header[2] & 15
    ones = 8 - (header[4] ^ 0xFF).bit_length()  # the number is coded as UTF-8 codes characters
    if size == 0 or rate == 15 or ones in (1, 8) or len(header) < 16:
        return 0
    count = max(1, ones)
    number = header[4] & (0x7F if ones == 0 else (1 << 7 - ones) - 1)
    for byte in header[5 : 4 + count]:
        number = number << 6 | byte & 63
    at = 4 + count
    samples = {1: 192, 6: header[at] + 1, 7: int.from_bytes(header[at : at + 2], "big") + 1}.get(size)
    if samples is None:
        samples = 576 << size - 2 if size < 6 else 256 << size - 8
    at += {6: 1, 7: 2}.get(size, 0) + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if crc8(header[:at]) != header[at]:
        return 0
    variable = header[1] & 1
    return (number if variable else number * block) + samples


def crc8(data: bytes) -> int:
    """FLAC's check sum of a frame header."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0x07 if value & 0x80 else value << 1) & 0xFF
    return value


def fill_wav(content: bytes) -> bytes | None:
    """A WAV file whose sound goes on to the end of the file, where its length was never filled in; None for any other."""
    at, size = 12, len(content)
    while at + 8 <= size:
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        if content[at : at + 4] == b"data":
            if length == 0xFFFFFFFF and content[:4] == b"RF64":
                length = int.from_bytes(content[28:36], "little")  # in the chunk ds64, which comes first
            rest = size - at - 8
            if length >= rest or is_chunks(content, at + 8 + length + length % 2):
                return None
            return (
                b"RIFF"
                + struct.pack("<I", min(size - 8, 0xFFFFFFFF))
                + content[8 : at + 4]
                + struct.pack("<I", min(rest, 0xFFFFFFFF))
                + content[at + 8 :]
            )
        at += 8 + length + length % 2
    return None


def is_chunks(content: bytes, at: int) -> bool:
    """Whether nothing but whole chunks of a WAV file, or zeros, follow from `at` on."""
    while at + 8 <= len(content):
        name, length = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        if not all(32 <= byte < 127 for byte in name) or at + 8 + length > len(content):
            return not content[at:].strip(b"\0")
        at += 8 + length + length % 2
    return True


def fill_au(content: bytes) -> bytes | None:
    """An AU file whose length was never filled in, with the length that the format has for that; None for any other."""
    start, length = struct.unpack(">II", content[4:12]) if len(content) >= 12 else (0, 0)
    return content[:8] + b"\xff" * 4 + content[12:] if length == 0 and start < len(content) else None


def fill_caf(content: bytes) -> bytes | None:
    """A CAF file whose sound goes on to the end of the file, with its length; None for any other."""
    at = 8
    while content.startswith(b"caff") and at + 12 <= len(content):
        length = int.from_bytes(content[at + 4 : at + 12], "big", signed=True)
        if content[at : at + 4] == b"data":
            rest = len(content) - at - 12
            return None if 0 < length <= rest else content[: at + 4] + rest.to_bytes(8, "big") + content[at + 12 :]
        at += 12 + max(0, length)
    return None


def wav_parts(content: bytes) -> list[bytes]:
    """The WAV files that were joined to this one; empty where it is one."""
    starts, at = [], 0
    while content[at : at + 4] == b"RIFF" and content[at + 8 : at + 12] == b"WAVE":
        starts.append(at)
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    if len(starts) < 2:
        return []
    return [content[start:stop] for start, stop in zip(starts, [*starts[1:], len(content)])]
