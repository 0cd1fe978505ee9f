"""A small shorten encoder and SPHERE headers, to make the files that NIST's and the LDC's discs hold."""

import numpy as np


class Writer:
    """Rice codes, as shorten writes them."""

    def __init__(self):
        self.bits: list[str] = []

    def unsigned(self, value, width):
        self.bits.append("0" * (value >> width) + "1" + (f"{value & (1 << width) - 1:0{width}b}" if width else ""))

    def signed(self, value, width):
        self.unsigned(value << 1 if value >= 0 else (-value << 1) - 1, width + 1)

    def number(self, value):
        self.unsigned(value.bit_length(), 2)
        self.unsigned(value, value.bit_length())

    def stream(self, version=2):
        bits = "".join(self.bits)
        bits += "0" * (-len(bits) % 32)
        return b"ajkg" + bytes([version]) + int(bits, 2).to_bytes(len(bits) // 8, "big")


def encoded(samples, order, size=64, kind=5, means=0):
    """(S, C) as a shorten stream of polynomial predictors of an order 0 to 3, without means."""
    writer = Writer()
    for value in (kind, samples.shape[1], size, 0, means, 0):
        writer.number(value)
    past = np.zeros((samples.shape[1], 3), int)
    for first in range(0, len(samples), size):
        part = samples[first : first + size].astype(int)
        if len(part) < size:
            writer.unsigned(5, 2)
            writer.number(len(part))
        for channel, own in enumerate(part.T):
            line = np.concatenate([past[channel], own])
            past[channel] = line[-3:]
            if not own.any():
                writer.unsigned(8, 2)
                continue
            writer.unsigned(order, 2)
            writer.unsigned(5, 3)
            for residual in np.diff(line, order)[3 - order :]:
                writer.signed(int(residual), 5)
    writer.unsigned(4, 2)
    return writer.stream()


def sphere(data, frames, channels=1, coding="pcm,embedded-shorten-v2.00", **more):
    fields = {"sample_count": frames, "channel_count": channels, "sample_rate": 8000} | more
    lines = ["NIST_1A", "   1024", *(f"{name} -i {value}" for name, value in fields.items())]
    header = "\n".join([*lines, f"sample_coding -s{len(coding)} {coding}", "end_head", ""])
    return header.encode().ljust(1024) + data
