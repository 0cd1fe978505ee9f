"""Mutations of files: bytes flipped, cut, doubled, moved; numbers made huge; tokens that readers stumble over."""

import re
import zlib

import numpy as np

TOKENS = [
    *(
        b"\0",
        b"\xff",
        b"\x1b[31m",
        b"\r\n",
        b"\xe2\x80\xa8",
        b"\xed\xa0\x80",
        b"NaN",
        b"Infinity",
        b"-1",
        b"0",
        b"1e999",
        b"-0.0",
    ),
    *(
        b"9" * 5000,
        b"1" * 400,
        b"99999999999",
        b"4294967296",
        b"9223372036854775807",
        b"{}",
        b"[]",
        b"null",
        b"true",
        b'""',
    ),
    *(
        b"[" * 3000,
        b"{" * 500,
        b"(" * 3000,
        b'{"a":' * 1000,
        b"x" * 140_000,
        b"../../x",
        b"/dev/zero",
        b"a\0b",
        b"2024-13-45",
    ),
    *(
        b"&a [*a]",
        b"*a",
        b"!!python/object:os.system",
        b"0x7fffffff",
        b"1:1:1:1:1",
        b"inf",
        b"nan",
        b"\xef\xbb\xbf",
        b"<unk>",
    ),
    *(b"[[a]]", b"a.b.c", b"'''", b'"""', b"1_000_000_000", b"1979-05-27T07:32:00Z", b"\\u0000", b"\\ud800", b"<html>"),
]
SIZES = [
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    0x7FFFFFFFFFFFFFFF,
    0xFFFFFFFFFFFFFFFF,
]


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The file with one to a few mutations."""
    for _ in range(1 + rng.geometric(0.5) if rng.random() < 0.6 else 1):
        content = MUTATIONS[rng.integers(len(MUTATIONS))](content, rng)
    return content[: 1 << 20]


def place(content: bytes, rng: np.random.Generator) -> int:
    """A place in the file; often near its beginning, where headers are."""
    end = len(content) if rng.random() < 0.5 else min(len(content), 200)
    return int(rng.integers(end + 1))


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(rng.integers(1, 8)):
        if data:
            data[min(place(content, rng), len(data) - 1)] ^= 1 << int(rng.integers(8))
    return bytes(data)


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: place(content, rng)]


def drop(content: bytes, rng: np.random.Generator) -> bytes:
    at = place(content, rng)
    return content[:at] + content[at + int(rng.integers(1, 64)) :]


def double(content: bytes, rng: np.random.Generator) -> bytes:
    at, size = place(content, rng), int(rng.integers(1, 400))
    return content[: at + size] + content[at : at + size] * int(rng.integers(1, 20)) + content[at + size :]


def insert(content: bytes, rng: np.random.Generator) -> bytes:
    at = place(content, rng)
    return content[:at] + TOKENS[rng.integers(len(TOKENS))] + content[at:]


def overwrite(content: bytes, rng: np.random.Generator) -> bytes:
    at, width = place(content, rng), int(rng.choice([1, 2, 4, 8]))
    size = SIZES[rng.integers(len(SIZES))] & (1 << 8 * width) - 1
    return content[:at] + size.to_bytes(width, str(rng.choice(["little", "big"]))) + content[at + width :]


def number(content: bytes, rng: np.random.Generator) -> bytes:
    """Another number or word in the place of one."""
    found = list(re.finditer(rb"-?\d[\d.]*|\"[^\"\n]{0,40}\"|\b[a-z_]+\b", content[: 1 << 16]))
    if not found:
        return insert(content, rng)
    match = found[rng.integers(len(found))]
    return content[: match.start()] + TOKENS[rng.integers(len(TOKENS))] + content[match.end() :]


def swap_lines(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.split(b"\n")
    first, second = rng.integers(len(lines), size=2)
    lines[first], lines[second] = lines[second], lines[first]
    return b"\n".join(lines)


def inner(content: bytes, rng: np.random.Generator) -> bytes:
    """What is inside a gzip file, mutated and packed again."""
    if content[:2] != b"\x1f\x8b":
        return number(content, rng)
    try:
        unpacked = zlib.decompress(content, 31)
    except zlib.error:
        return flip(content, rng)
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(number(unpacked, rng)) + packer.flush()


MUTATIONS = [flip, cut, drop, double, insert, overwrite, overwrite, number, number, swap_lines, inner]
