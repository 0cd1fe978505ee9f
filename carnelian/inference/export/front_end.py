"""The front end as ONNX nodes: waveforms to normalised features, what `models/features.py` does by `torch.stft`."""

from typing import Any

import numpy as np

from carnelian.errors import CarnelianError
from carnelian.inference.export.graph import DOUBLE, FLOAT, INT64, Graph
from carnelian.models.features import FRAME_COUNTS, NORMALIZATIONS, SpectralFeatures

STRETCH_INPUT = "time_stretch"  # an input () float32 of the graph, 1 where it is not given


class Rows:
    """The rows of a batch in a graph: their count, and masks (1 inside a row's length, 0 in its padding) at any rate.

    A batch of one row has no padding, since everything is cut to the longest row: there each mask is the constant 1, and a session
    that fixes the batch to 1 removes all multiplications by masks.
    """

    def __init__(self, graph: Graph, audio_lengths: str, *, mask: bool = True):
        """mask: whether the encoder is one that masks the padding."""
        self.graph, self.mask_padding = graph, mask
        batch = graph.add("Shape", audio_lengths)  # of one axis, so that a session whose batch is fixed knows it
        self.single = graph.add("Squeeze", graph.add("Equal", batch, graph.ints(1)), graph.ints(0))
        self.masks: dict[tuple[str, tuple[int, ...]], str] = {}

    def longest(self, lengths: str) -> str:
        """The largest of the lengths (B,) int64 and 1, as (1,): no runtime convolves nothing."""
        return self.graph.add("Max", self.graph.add("ReduceMax", lengths, axes=[0], keepdims=1), self.graph.ints(1))

    def mask(self, lengths: str, axes: tuple[int, ...] = (1, 2)) -> str:
        """A mask (B, T) with axes of one inserted: by default (B, 1, 1, T); T is the largest of the lengths (B,)."""
        if (lengths, axes) in self.masks:
            return self.masks[lengths, axes]
        graph = self.graph
        then, other = Graph(f"{lengths}/{axes}/single_row"), Graph(f"{lengths}/{axes}/many_rows")
        one = then.add("Identity", then.shared(np.ones((1,) * (2 + len(axes)), np.float32)), name=f"{then.name}/mask")
        other.scope = [other.name]
        end = other.add("Max", other.add("ReduceMax", lengths, axes=[0], keepdims=0), other.scalar(1))
        frames = other.add("Range", other.scalar(0), end, other.scalar(1))
        inside = other.add("Less", frames, other.add("Unsqueeze", lengths, other.ints(1)))
        mask = other.add("Cast", inside, to=FLOAT)
        if axes:
            mask = other.add("Unsqueeze", mask, other.ints(*axes))
        self.masks[lengths, axes] = graph.choose(self.single, then, one, other, mask)
        return self.masks[lengths, axes]

    def masked(self, encoded: str, lengths: str) -> str:
        """Activations (B, D, 1, T) that are zero past each row's length, for encoders that mask the padding."""
        return self.graph.add("Mul", encoded, self.mask(lengths)) if self.mask_padding else encoded


def front_end(graph: Graph, rows: Rows, features: SpectralFeatures, audio: str, audio_lengths: str) -> tuple[str, str]:
    """Adds audio (B, S), audio_lengths (B,) -> features (B, F, T) and frames (B,); T is the longest row's frames.

    The Fourier transform is a matrix product with the windowed sines and cosines of those frequencies that the filterbank uses.
    """
    if not isinstance(features, SpectralFeatures):
        raise CarnelianError(
            f"{type(features).__name__}: this front end cannot be exported to ONNX. Known: log_mel, mfcc, spectrogram"
        )
    bands: Any = features.to_features
    audio = graph.slice(audio, graph.ints(0), rows.longest(audio_lengths), axis=1)
    if features.preemphasis:
        first = graph.slice(audio, graph.ints(0), graph.ints(1), axis=1)
        later = graph.slice(audio, graph.ints(1), graph.ints(np.iinfo(np.int64).max), axis=1)
        earlier = graph.slice(audio, graph.ints(0), graph.ints(-1), axis=1)
        earlier = graph.add("Mul", earlier, graph.scalar(float(features.preemphasis)))
        audio = graph.add("Concat", first, graph.add("Sub", later, earlier), axis=1)
    audio = graph.add("Mul", audio, rows.mask(audio_lengths, ()))
    energies = band_energies(graph, features, bands.bands.double().numpy(), audio)
    energies = graph.add("Log", graph.add("Add", energies, graph.scalar(float(bands.log_guard))))
    if bands.rotation is not None:
        energies = graph.add("MatMul", energies, graph.weight("rotation", bands.rotation.numpy().T))
    energies = graph.add("Transpose", energies, perm=[0, 2, 1])
    frames = frame_counts(graph, features, audio_lengths)
    energies = graph.slice(energies, graph.ints(0), rows.longest(frames), axis=2)
    encoded = normalized(graph, rows, features, energies, frames)
    if not rows.mask_padding:
        return pad_as_trained(graph, rows, features, encoded, frames, audio), frames
    return time_stretched(graph, rows, encoded, frames)


def time_stretched(graph: Graph, rows: Rows, features: str, frames: str) -> tuple[str, str]:
    """Features (B, F, T) interpolated to as many times their frames as the graph's input `time_stretch` says, and those frames."""
    grown = graph.add("Cast", graph.add("Mul", graph.add("Cast", frames, to=FLOAT), STRETCH_INPUT), to=INT64)
    then, other = Graph("as_spoken"), Graph("stretched")
    same = then.add("Identity", features, name="as_spoken/features")
    end = other.add("Max", other.add("ReduceMax", grown, axes=[0], keepdims=0), other.scalar(1))
    frame = other.add("Cast", other.add("Range", other.scalar(0), end, other.scalar(1)), to=DOUBLE)
    last = other.add(
        "Unsqueeze", other.add("Max", other.add("Sub", frames, other.ints(1)), other.ints(0)), other.ints(1)
    )
    place = other.add("Div", frame, other.add("Cast", STRETCH_INPUT, to=DOUBLE))
    place = other.add("Min", place, other.add("Cast", last, to=DOUBLE))
    below = other.add("Cast", place, to=INT64)
    share = other.add("Cast", other.add("Sub", place, other.add("Cast", below, to=DOUBLE)), to=FLOAT)
    share = other.add("Unsqueeze", share, other.ints(1))
    shape = other.add(
        "Concat", other.add("Shape", features, start=0, end=2), other.add("Unsqueeze", end, other.ints(0)), axis=0
    )

    def read(index: str) -> str:
        index = other.add("Expand", other.add("Unsqueeze", index, other.ints(1)), shape)
        return other.add("GatherElements", features, index, axis=2)

    above = read(other.add("Min", other.add("Add", below, other.ints(1)), last))
    below = read(below)
    between = other.add("Add", below, other.add("Mul", share, other.add("Sub", above, below)))
    unchanged = graph.add("Equal", STRETCH_INPUT, graph.scalar(1.0))
    features = graph.choose(unchanged, then, same, other, between)
    return graph.add("Mul", features, rows.mask(grown, (1,))), grown


def pad_as_trained(graph: Graph, rows: Rows, features: SpectralFeatures, encoded: str, frames: str, audio: str) -> str:
    """Features with as many zeros after the longest row as in training, for encoders that do not mask them."""
    samples = graph.add("Shape", audio, start=1, end=2)
    width, multiple = graph.add("Div", samples, graph.ints(features.hop_samples)), features.pad_to or 1
    width = graph.add("Div", graph.add("Add", width, graph.ints(multiple)), graph.ints(multiple))
    missing = graph.add("Sub", graph.add("Mul", width, graph.ints(multiple)), rows.longest(frames))
    return graph.add("Pad", encoded, graph.add("Concat", graph.ints(0, 0, 0, 0, 0), missing, axis=0))


def frame_counts(graph: Graph, features: SpectralFeatures, audio_lengths: str) -> str:
    """Frames (B,) of rows of samples (B,)."""
    hop = graph.ints(features.hop_samples)
    if features.count is FRAME_COUNTS["ceil"]:
        audio_lengths = graph.add("Add", audio_lengths, graph.ints(features.hop_samples - 1))
    frames = graph.add("Div", audio_lengths, hop)
    return graph.add("Add", frames, graph.ints(1)) if features.count is FRAME_COUNTS["floor+1"] else frames


def band_energies(graph: Graph, features: SpectralFeatures, bands: np.ndarray, audio: str) -> str:
    """Energies (B, S / hop + 1, F) of bands of the audio (B, S), by filters (F, fft / 2 + 1) over the power spectrum.

    The window is symmetric, and a power spectrum does not depend on where time begins: counted from the window's middle, cosines
    need only the sums of samples at equal distance from it, and sines the differences. That halves the products.
    """
    window = features.window.double().numpy()
    half, used = len(window) // 2, np.flatnonzero(bands.any(0))
    frames = framed(graph, features, audio)
    before = graph.slice(frames, graph.ints(0), graph.ints(half), axis=2)
    behind = graph.slice(frames, graph.ints(len(window) - half), graph.ints(len(window)), axis=2)
    behind = graph.add("Slice", behind, graph.ints(-1), graph.ints(-half - 1), graph.ints(2), graph.ints(-1))
    even, odd = graph.add("Add", before, behind), graph.add("Sub", before, behind)
    if len(window) % 2:
        middle = graph.slice(frames, graph.ints(half), graph.ints(half + 1), axis=2)
        even = graph.add("Concat", even, middle, axis=2)
    time = np.arange(len(window) - half) - (len(window) - 1) / 2
    angles = 2 * np.pi / features.fft * np.outer(time, used)
    cosines = np.cos(angles) * window[: len(time), None]
    sines = (np.sin(angles) * window[: len(time), None])[:half]
    waves = [
        graph.add("MatMul", part, graph.weight(name, values))
        for part, name, values in ((even, "cosines", cosines), (odd, "sines", sines))
    ]
    power = graph.add("Add", *(graph.add("Mul", wave, wave) for wave in waves))
    return graph.add("MatMul", power, graph.weight("bands", bands[:, used].T))


def framed(graph: Graph, features: SpectralFeatures, audio: str) -> str:
    """The frames (B, S / hop + 1, window) of audio (B, S), the middle of the first at the first sample."""
    window, hop = len(features.window), features.hop_samples
    parts = -(-window // hop)
    left = features.fft // 2 - (features.fft - window) // 2
    if features.edge == "reflect":  # of a recording shorter than half a window there is nothing to reflect
        pads = graph.ints(0, left, 0, window - left)
        then, other = Graph("reflected"), Graph("zero_padded")
        enough = graph.add("Greater", graph.add("Shape", audio, start=1, end=2), graph.ints(features.fft // 2))
        reflected = then.add("Pad", audio, pads, name="reflected", mode="reflect")
        zeros = other.add("Pad", audio, pads, name="zero_padded")
        audio, left = graph.choose(graph.add("Squeeze", enough, graph.ints(0)), then, reflected, other, zeros), 0
    samples = graph.add("Shape", audio, start=1, end=2)
    count = graph.add("Div", samples, graph.ints(hop))
    count = graph.add("Add", count, graph.ints(1))
    # zeros up to a whole number of hops, of which `parts` follow the start of the last frame
    total = graph.add("Mul", graph.add("Add", count, graph.ints(parts)), graph.ints(hop))
    right = graph.add("Sub", total, graph.add("Add", samples, graph.ints(left)))
    audio = graph.add("Pad", audio, graph.add("Concat", graph.ints(0, left, 0), right, axis=0))
    hops = graph.add("Reshape", audio, graph.ints(0, -1, hop))
    shifted = [
        graph.slice(hops, graph.ints(part), graph.add("Add", count, graph.ints(part)), axis=1) for part in range(parts)
    ]
    frames = graph.add("Concat", *shifted, axis=2) if parts > 1 else shifted[0]
    return graph.slice(frames, graph.ints(0), graph.ints(window), axis=2) if parts * hop > window else frames


def normalized(graph: Graph, rows: Rows, features: SpectralFeatures, energies: str, frames: str) -> str:
    """Features (B, F, T) at mean 0 and standard deviation 1 as the front end's setting says, zero past each row's frames."""
    mask = rows.mask(frames, (1,))
    if features.normalize is NORMALIZATIONS["none"]:
        return graph.add("Mul", energies, mask)
    whole = features.normalize is NORMALIZATIONS["all_features"]
    axes, values = (graph.ints(1, 2), features.channels) if whole else (graph.ints(2), 1)
    count = graph.add("Unsqueeze", graph.add("Cast", frames, to=FLOAT), graph.ints(1, 2))
    if whole:
        count = graph.add("Mul", count, graph.scalar(float(values)))
    one = graph.scalar(1.0)

    def average(each: str, divisor: str) -> str:
        total = graph.add("ReduceSum", graph.add("Mul", each, mask), axes, keepdims=1)
        return graph.add("Div", total, graph.add("Max", divisor, one))

    centred = graph.add("Sub", energies, average(energies, count))
    variance = average(graph.add("Mul", centred, centred), graph.add("Sub", count, one))
    deviation = graph.add("Add", graph.add("Sqrt", variance), graph.scalar(1e-5))
    return graph.add("Mul", graph.add("Div", centred, deviation), mask)
