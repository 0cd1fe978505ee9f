"""SPHERE files that libsndfile refuses: compressed with shorten 2 (WSJ, Switchboard, Hub5), or with reversed mu-law bytes.

Shorten: A. J. Robinson, "Shorten: simple lossless and near-lossless waveform compression", CUED/F-INFENG/TR.156, 1994.
"""

from typing import NamedTuple

import numpy as np

from carnelian.jit import compiled

FIRST_BIT = 40  # after "ajkg" and the version's byte
S16HL, S16LH, AU1, AU2 = 3, 5, 0, 8
QUIT, BLOCKSIZE, BITSHIFT, LINEAR, ZERO, VERBATIM = 4, 5, 6, 7, 8, 9
CODES = np.arange(256)
MU_LAW = ((((~CODES & 15) << 3) + 132 << ((~CODES >> 4) & 7)) - 132) * np.where(CODES < 128, -1, 1)
"""The 16-bit sample of each mu-law byte (ITU-T G.711)."""
LOUDNESSES = np.zeros((13, 128), np.int64)
"""Which of the 128 loudnesses of mu-law are in use, by how many of the lowest bits are unused."""
for bits in range(13):
    used = [i for i in range(128) if (i & 15) % (1 << max(0, bits - (i >> 4))) == 0]
    LOUDNESSES[bits, : len(used)] = used


class SphereShape(NamedTuple):
    """What a SPHERE header says of its samples: where they begin, and how many they are, their rate, channels and coding."""

    start: int
    frames: int
    rate: int
    channels: int
    coding: str


def sphere_shape(header: dict[str, str]) -> SphereShape:
    """The shape that a header gives; a ValueError for one without it, or with an impossible one."""
    try:
        start, frames, rate = int(header["header"]), int(header["sample_count"]), int(header["sample_rate"])
        channels = int(header.get("channel_count", 1))
    except KeyError as error:
        raise ValueError(f"a SPHERE header without {error}") from None
    except ValueError:
        raise ValueError("a SPHERE header with sizes that are no numbers") from None
    if not 0 < frames * channels < 1 << 31 or not 0 < channels <= 16 or rate <= 0:
        raise ValueError(f"a SPHERE header with {frames} samples, {channels} channels, {rate} Hz")
    return SphereShape(start, frames, rate, channels, header.get("sample_coding", "pcm"))


def read_sphere(content: bytes) -> tuple[np.ndarray, int]:
    """Samples (S, C) int16 and sample rate of a SPHERE file; a ValueError that says what was found where it fails."""
    header = read_header(content)
    start, frames, rate, channels, coding = sphere_shape(header)
    data = content[start:]
    reversed_bytes = coding.startswith("pculaw")
    if data.startswith(b"ajkg"):  # reversed mu-law bytes were compressed two by two, as 16-bit samples
        samples, codes = read_shorten(data, frames // (1 + reversed_bytes), channels)
        samples = samples.astype(">i2").view(np.uint8).reshape(-1, channels) if reversed_bytes else samples
    elif coding == "pculaw":
        samples, codes = np.frombuffer(data[: frames * channels], np.uint8).reshape(-1, channels), True
    else:
        packing = header.get("sample_byte_format", "")
        raise ValueError(f'SPHERE with coding "{coding}" packed as "{packing}", which only NIST\'s w_decode reads')
    check_sum(samples, header.get("sample_checksum", ""))
    if reversed_bytes:
        samples = np.packbits(np.unpackbits(samples[:, :, None], axis=2)[:, :, ::-1], axis=2)[:, :, 0]
    return (MU_LAW[samples] if codes or reversed_bytes else samples).astype(np.int16), rate


def check_sum(samples: np.ndarray, stated: str) -> None:
    """Raises ValueError if the header states another sum of the samples (modulo 65536) than theirs."""
    found = int(samples.sum(dtype=np.int64)) & 0xFFFF
    if stated.isdigit() and found != int(stated):
        raise ValueError(f"broken: its samples sum to {found}, its header says {stated}")


def read_header(content: bytes) -> dict[str, str]:
    """A SPHERE header's fields, and its own length as "header"; empty for what is no SPHERE file."""
    if not content.startswith(b"NIST_1A\n"):
        return {}
    lines = content[:65536].partition(b"end_head")[0].decode("latin-1").splitlines()
    fields = (line.split(maxsplit=2) for line in lines[2:])
    return {"header": "".join(lines[1:2]).strip()} | {field[0]: field[2].strip() for field in fields if len(field) == 3}


MOST_EXPANSION, SMALL = 100, 1 << 24  # samples for each byte, and samples that are allowed however few the bytes


def read_shorten(data: bytes, frames: int, channels: int) -> tuple[np.ndarray, bool]:
    """Samples (S, C) of a shorten stream, version 1 or 2, and whether they are mu-law codes."""
    if data[4:5] not in (b"\1", b"\2"):
        raise ValueError(f"shorten of version {data[4:5].hex()}")
    if frames * channels > max(SMALL, MOST_EXPANSION * len(data)):
        raise ValueError(f"a header with {frames} samples, and {len(data)} bytes of shorten")
    samples = np.zeros((frames, channels), np.int32)
    found, kind = decode_shorten(np.frombuffer(data, np.uint8), samples, data[4], LOUDNESSES)
    if kind < 0 or found < frames:
        raise ValueError(f"cut off or broken after {found} of {frames} samples")
    if kind not in (S16HL, S16LH, AU1, AU2):
        raise ValueError(f"shorten of the kind {kind}, which is not known here")
    return samples, kind in (AU1, AU2)


@compiled(nogil=True)
def decode_shorten(data: np.ndarray, samples: np.ndarray, version: int, loudnesses: np.ndarray) -> tuple[int, int]:
    """Fills samples (S, C); gives how many of the S came, and the kind of the samples (-1 for a bad header)."""
    kind, at = read_number(data, FIRST_BIT)
    channels, at = read_number(data, at)
    size, at = read_number(data, at)
    order, at = read_number(data, at)
    means, at = read_number(data, at)
    skipped, at = read_number(data, at)
    for _ in range(min(skipped, 1024)):
        _, at = read_unsigned(data, at, 7)
    if channels != samples.shape[1] or not 0 < size <= 65536 or order > 1024 or means > 1024:
        return 0, -1
    wrap, allocated, shift, frame, channel = max(3, order), size, 0, 0, 0
    blocks = np.zeros((channels, wrap + size), np.int64)
    history = np.zeros((channels, max(1, means)), np.int64)
    while at < 8 * len(data) and frame < len(samples):
        command, at = read_unsigned(data, at, 2)
        if command == BLOCKSIZE:
            size, at = read_number(data, at)
            if not 0 < size <= allocated:
                break
        elif command == BITSHIFT:
            shift, at = read_unsigned(data, at, 2)
            if shift >= len(loudnesses):
                break
        elif command == VERBATIM:
            count, at = read_unsigned(data, at, 5)
            for _ in range(min(count, len(data))):
                _, at = read_unsigned(data, at, 8)
        elif command < QUIT or command in (LINEAR, ZERO):
            block, past = blocks[channel, : wrap + size], history[channel]
            rounding = means // 2 if version > 1 else 0
            mean = divide(past.sum() + rounding, means) if means else past[0]
            mean = mean >> shift if version > 1 else mean
            at = decode_block(data, at, command, block, wrap, mean)
            if means:
                past[:-1] = past[1:].copy()
                total = block[wrap:].sum()
                past[-1] = divide(total + size // 2, size) << shift if version > 1 else divide(total, size)
            if at <= 8 * len(data):
                for i in range(min(size, len(samples) - frame)):
                    value = block[wrap + i]
                    code = kind in (AU1, AU2)
                    samples[frame + i, channel] = mu_law(value, kind, loudnesses[shift]) if code else value << shift
            block[:wrap] = block[size : size + wrap].copy()
            channel = (channel + 1) % channels
            frame += size if channel == 0 and at <= 8 * len(data) else 0
        else:
            break
    return min(frame, len(samples)), kind


@compiled(nogil=True)
def mu_law(value: int, kind: int, loudnesses: np.ndarray) -> int:
    """The mu-law code of a value: its place among the loudnesses in use, above 0 those of positive sign."""
    if value >= 0:
        return 255 - loudnesses[min(value, 127)]
    if kind == AU1:  # has its negative zero at the far end
        return 127 - loudnesses[-value] if value > -128 else 127
    return 127 - loudnesses[min(-1 - value, 127)]


@compiled(nogil=True)
def decode_block(data: np.ndarray, at: int, command: int, block: np.ndarray, wrap: int, mean: int) -> int:
    """Fills a block after its `wrap` last samples of the block before; gives the bit after it."""
    if command == ZERO:
        block[wrap:] = 0
        return at
    width, at = read_unsigned(data, at, 3)
    weights = np.zeros(0, np.int64)
    if command == LINEAR:
        order, at = read_unsigned(data, at, 2)
        weights = np.zeros(min(order, wrap), np.int64)
        for j in range(len(weights)):
            weights[j], at = read_signed(data, at, 5)
        block[:wrap] -= mean
    for i in range(wrap, len(block)):
        residual, at = read_signed(data, at, width)
        if command == 0:
            predicted = mean
        elif command == 1:
            predicted = block[i - 1]
        elif command == 2:
            predicted = 2 * block[i - 1] - block[i - 2]
        elif command == 3:
            predicted = 3 * (block[i - 1] - block[i - 2]) + block[i - 3]
        else:
            predicted = 32
            for j in range(len(weights)):
                predicted += weights[j] * block[i - 1 - j]
            predicted >>= 5
        block[i] = residual + predicted
    if command == LINEAR:
        block[wrap:] += mean
    return at


@compiled(nogil=True)
def read_unsigned(data: np.ndarray, at: int, width: int) -> tuple[int, int]:
    """A Rice code from the bit `at`: zeros counted up to a one, then `width` bits; and the bit after it."""
    value, end = 0, 8 * len(data)
    while at < end and not data[at >> 3] >> (7 - (at & 7)) & 1:
        value, at = value + 1, at + 1
    at += 1
    if at + width > end:
        return 0, end + 1
    for _ in range(width):
        value, at = value << 1 | (data[at >> 3] >> (7 - (at & 7)) & 1), at + 1
    return value, at


@compiled(nogil=True)
def read_signed(data: np.ndarray, at: int, width: int) -> tuple[int, int]:
    """A signed Rice code: the sign is the lowest bit."""
    value, at = read_unsigned(data, at, width + 1)
    return (~(value >> 1) if value & 1 else value >> 1), at


@compiled(nogil=True)
def read_number(data: np.ndarray, at: int) -> tuple[int, int]:
    """A number whose width goes before it."""
    width, at = read_unsigned(data, at, 2)
    return read_unsigned(data, at, width)


@compiled(nogil=True)
def divide(number: int, by: int) -> int:
    """The quotient, rounded towards zero as in C."""
    return number // by if number >= 0 else -(-number // by)
