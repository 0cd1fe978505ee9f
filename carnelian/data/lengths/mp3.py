"""MP3 files frame by frame: their true length where the header gives none or that of a part, and exact segments.

The first frame of a file may be an information frame (Xing's, with LAME's fields) with the number of frames and the padding at both
ends. Where there is none, libsndfile estimates the length from the first frame's bit rate; where files were joined, it is that of the
first. Here the frames are counted, and a decoder is given them with an information frame that says so.
Sources: ISO/IEC 11172-3, 13818-3; gabriel.mp3-tech.org/mp3infotag.html.
"""

import struct
from typing import NamedTuple

import numpy as np

from carnelian.jit import compiled

RATES = ((11025, 12000, 8000), (0, 0, 0), (22050, 24000, 16000), (44100, 48000, 32000))
"""Samples per second by version (0: 2.5, 2: 2, 3: 1) and index."""
KILOBITS = (
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
"""Bit rates of layer III by whether the version is 1, and index (0, "free", is not read here)."""
RESERVOIR = 511  # bytes before a frame that its data may begin
PREROLL = 3  # frames decoded and thrown away before a segment: the filter banks overlap from one frame to the next
FRAMES_FIELD, BYTES_FIELD = 1, 2
DECODER_DELAY = 529  # samples that decoders drop besides the delay that LAME states
MARKS = (b"Xing", b"Info")


class Information(NamedTuple):
    """What an information frame says: frames and bytes after it (0: not said), samples to drop at the beginning and end."""

    frames: int = 0
    bytes: int = 0
    delay: int = 0
    padding: int = 0
    trimmed: bool = False


class Frames(NamedTuple):
    """Where the frames of an MP3 file lie (N,) int64 with their sizes, the first one's header, and its information frame."""

    starts: np.ndarray
    sizes: np.ndarray
    header: int
    information: Information


def frame_size(header: int) -> int:
    """The bytes of the layer III frame with this header (its first four bytes as a number); 0 for what is no header."""
    version, layer, rate = header >> 19 & 3, header >> 17 & 3, header >> 10 & 3
    bits = header >> 12 & 15
    if header >> 21 != 0x7FF or version == 1 or layer != 1 or bits in (0, 15) or rate == 3:
        return 0
    slots = 144 if version == 3 else 72
    return slots * 1000 * KILOBITS[version == 3][bits] // RATES[version][rate] + (header >> 9 & 1)


SIZES = np.array(
    [[frame_size(0x7FF << 21 | version << 19 | 1 << 17 | third << 8) for third in range(256)] for version in range(4)]
)
"""The bytes of a frame by its version and the third byte of its header."""


@compiled(nogil=True)
def scan_frames(data: np.ndarray, sizes_of: np.ndarray, at: int, starts: np.ndarray, sizes: np.ndarray) -> int:
    """Fills starts and sizes with those of all whole frames of data (uint8) from `at` on, and returns their number.

    What lies between frames is passed over. A frame counts where it follows another, or another of its kind follows it.
    """
    count, version, rate, end = 0, -1, -1, len(data)
    after = -1  # where the last frame ends
    while at + 4 <= end:
        second, third = data[at + 1], data[at + 2]
        if (
            data[at] != 255
            or second & 0xE6 != 0xE2
            or (version >= 0 and (second & 0x18 != version or third & 12 != rate))
        ):
            at += 1
            continue
        size = sizes_of[second >> 3 & 3, third]
        follower = at + size
        follows = (
            follower + 4 <= end
            and data[follower] == 255
            and data[follower + 1] & 0xFE == second & 0xFE
            and data[follower + 2] & 12 == third & 12
        )
        if size == 0 or follower > end or not (follows or after == at):
            at += 1
            continue
        starts[count], sizes[count], version, rate = at, size, second & 0x18, third & 12
        count, after, at = count + 1, follower, follower
    return count


def read_mp3(content: bytes) -> Frames | None:
    """The frames of an MP3 file; None where there are none, or of another layer than III."""
    data = np.frombuffer(content, np.uint8)
    starts, sizes = np.empty((2, len(data) // 24 + 1), np.int64)
    count = scan_frames.for_work(len(data))(data, SIZES, tag_size(content[:10]), starts, sizes)
    if not count:
        return None
    starts, sizes = starts[:count].copy(), sizes[:count].copy()
    header = int.from_bytes(content[starts[0] : starts[0] + 4], "big")
    found = information(content[starts[0] : starts[0] + sizes[0]])
    at = starts + 4 + side_size(header)  # joined files bring information frames of their own, which are no sound
    marks = data[np.minimum(at[:, None] + np.arange(4), len(data) - 1)].tobytes()
    kept = np.array([marks[index : index + 4] not in MARKS for index in range(0, len(marks), 4)])
    return Frames(starts[kept], sizes[kept], header, found or Information())


def tag_size(first: bytes) -> int:
    """The bytes of the ID3v2 tag that a file begins with."""
    if len(first) < 10 or not first.startswith(b"ID3"):
        return 0
    return 10 + (first[6] << 21 | first[7] << 14 | first[8] << 7 | first[9]) + (10 if first[5] & 16 else 0)


def side_size(header: int) -> int:
    """The bytes of a frame's side information, which comes after header and check sum."""
    mono = header >> 6 & 3 == 3
    return (17 if mono else 32) if header >> 19 & 3 == 3 else (9 if mono else 17)


def samples_per_frame(header: int) -> int:
    return 1152 if header >> 19 & 3 == 3 else 576


def information(frame: bytes) -> Information | None:
    """What an information frame says; None for a frame of sound."""
    header = int.from_bytes(frame[:4], "big")
    at = 4 + side_size(header)
    if frame[at : at + 4] not in MARKS or len(frame) < at + 8:
        return None
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    at, said = at + 8, [0, 0]
    for index, size in ((0, 4), (1, 4), (2, 100), (3, 4)):
        if flags >> index & 1:
            if index < 2:
                said[index] = int.from_bytes(frame[at : at + size], "big")
            at += size
    ends = frame[at + 21 : at + 24]
    if not frame[at : at + 4].strip(b"\0") or len(ends) < 3:
        return Information(said[0], said[1])
    number = int.from_bytes(ends, "big")
    return Information(said[0], said[1], number >> 12, number & 0xFFF, True)


def has_true_length(first: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins with `first` has an information frame that is of all of it."""
    start = tag_size(first)
    header = int.from_bytes(first[start : start + 4], "big")
    length = frame_size(header)
    found = information(first[start : start + length]) if length and start + length <= len(first) else None
    tags_at_the_end = 4096
    return bool(found and found.frames and found.bytes and 0 <= size - start - found.bytes <= tags_at_the_end)


def information_frame(header: int, frames: int, content: int, delay: int, padding: int) -> bytes:
    """An information frame for `frames` frames of `content` bytes, of which samples are dropped at both ends."""
    header = header & ~0xF200 | 14 << 12 | 0x10000  # the highest bit rate, no padding, no check sum
    size = frame_size(header)
    fields = struct.pack(">4sIII", b"Xing", FRAMES_FIELD | BYTES_FIELD, frames, content + size)
    ends = b"LAME3.100" + bytes(12) + (delay << 12 | padding).to_bytes(3, "big")
    return (header.to_bytes(4, "big") + bytes(side_size(header)) + fields + ends).ljust(size, b"\0")


def true_frames(content: bytes, frames: Frames) -> tuple[bytes, int]:
    """An MP3 file with a true information frame and nothing but frames of sound after it, and its samples per channel."""
    found, count, each = frames.information, len(frames.starts), samples_per_frame(frames.header)
    if not found.trimmed:
        return frames_from(content, frames, 0, count), count * each
    # joined or cut: the padding at the end is not of this end
    padding = found.padding if abs(found.frames - count) <= 1 else 0
    sound = b"".join(
        content[start : start + size] for start, size in zip(frames.starts.tolist(), frames.sizes.tolist())
    )
    samples = count * each - found.delay - DECODER_DELAY - max(0, padding - DECODER_DELAY)
    return information_frame(frames.header, count, len(sound), found.delay, padding) + sound, samples


def frames_from(content: bytes, frames: Frames, first: int, count: int, silent: int = 0) -> bytes:
    """An MP3 file of `count` frames from `first` on, all samples of which a decoder gives.

    The first `silent` frames are decoded as silence, and only bring the bytes that those after them refer to.
    """
    pieces = [
        content[at : at + size] for at, size in zip(*(part[first : first + count].tolist() for part in frames[:2]))
    ]
    at, side = 4 + (0 if frames.header & 0x10000 else 2), side_size(frames.header)
    first_version, reach = frames.header >> 19 & 3 == 3, 0  # reach: bytes before the frame that its data may begin
    for index in range(min(silent, len(pieces))):
        start = reach << 7 if first_version else reach << 8  # a number of 9 or 8 bits, and no sound
        silence = start.to_bytes(2, "big").ljust(side, b"\0")
        pieces[index] = pieces[index][:4] + bytes(at - 4) + silence + pieces[index][at + side :]
        reach = min(reach + len(pieces[index]) - at - side, 511 if first_version else 255)
    header = frames.header & ~0xF200 | 14 << 12 | 0x10000
    empty = header.to_bytes(4, "big").ljust(frame_size(header), b"\0")  # dropped, with what decoders drop besides
    sound = empty + b"".join(pieces)
    delay = samples_per_frame(frames.header) - DECODER_DELAY
    return information_frame(frames.header, len(pieces) + 1, len(sound), delay, 0) + sound


def segment(content: bytes, frames: Frames, first: int, samples: int) -> tuple[bytes, int]:
    """An MP3 file that holds `samples` samples from the sample `first` on, and at which of its samples they begin.

    A decoder that is moved to the middle of a file lacks what earlier frames left for later ones.
    """
    each = samples_per_frame(frames.header)
    found = frames.information
    place = first + (found.delay + DECODER_DELAY if found.trimmed else 0)
    decoded = max(0, place // each - PREROLL)
    begin = decoded
    while begin > 0 and int(frames.sizes[begin:decoded].sum()) - 44 * (decoded - begin) < RESERVOIR:
        begin -= 1
    count = (place + samples) // each + 2 - begin
    return frames_from(content, frames, begin, count, silent=decoded - begin), place - begin * each
