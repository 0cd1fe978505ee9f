"""Recordings that libsndfile does not read (M4A, WebM, AAC, WMA, AMR, ...), decoded by FFmpeg's libraries. The only importer of av."""

import io

import numpy as np

from carnelian.errors import MissingExtraError

SIGNATURES = (  # where in the file, the bytes there, and what people call it
    (4, b"ftyp", "M4A or MP4"),
    (0, b"\x1aE\xdf\xa3", "WebM or Matroska"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "WMA"),
    (0, b"#!AMR", "AMR"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"ADIF", "AAC"),
)


def container_kind(content: bytes) -> str:
    """What the first bytes of a file say it is, such as "M4A or MP4"; empty for what is not one of these formats."""
    for offset, signature, kind in SIGNATURES:
        if content[offset : offset + len(signature)] == signature:
            return kind
    is_adts = len(content) > 1 and content[0] == 0xFF and content[1] & 0xF6 == 0xF0
    return "AAC" if is_adts else ""


def decode_container(content: bytes, kind: str) -> tuple[np.ndarray, int]:
    """Samples (S, channels) float32 and sample rate of the first audio stream.

    Raises MissingExtraError without the package, and ValueError with what was found for a file that is broken or has no sound.
    """
    try:
        import av
    except ImportError:
        raise MissingExtraError("av", "av", f"Reading {kind}") from None
    try:
        with av.open(io.BytesIO(content), "r", metadata_errors="replace") as container:
            if not container.streams.audio:
                raise ValueError(f"{kind} without an audio stream")
            blocks: list[np.ndarray] = []
            rate = 0
            for frame in container.decode(container.streams.audio[0]):
                block = frame.to_ndarray()
                channels = frame.layout.nb_channels
                block = block.reshape(-1, channels) if not frame.format.is_planar else block.T
                if rate and (frame.sample_rate != rate or block.shape[1] != blocks[0].shape[1]):
                    raise ValueError(f"{kind} whose sample rate or channels change midway")
                rate = frame.sample_rate
                blocks.append(as_float(block))
    except av.FFmpegError as error:
        raise ValueError(f"{kind}, broken or cut off: {error.strerror or error}") from None
    if not blocks:
        raise ValueError(f"{kind} with 0 s of sound")
    return np.concatenate(blocks), rate


def as_float(block: np.ndarray) -> np.ndarray:
    """Samples of any kind as float32 in [-1, 1]."""
    if block.dtype == np.uint8:
        return (block.astype(np.float32) - 128) / 128
    scale = np.iinfo(block.dtype).max + 1 if np.issubdtype(block.dtype, np.integer) else 1
    return (block / scale).astype(np.float32)
