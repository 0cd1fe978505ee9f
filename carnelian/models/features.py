"""From waveforms to features, inside the model: log-mel filterbank, MFCC, linear spectrogram, or the waveform itself.

The log-mel filterbank does what NeMo's AudioToMelSpectrogramPreprocessor does (nemo/collections/asr/parts/preprocessing/features.py),
step by step; where its versions differ, there is a setting.
"""

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carnelian.errors import RecipeError
from carnelian.ranges import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, between

Normalization = Literal["per_feature", "all_features", "none"]
SampleRate = Annotated[int, between(1000, 384_000)]
#: samples whose spectra are computed at once on a CPU: about 3 MB of intermediate values
CACHED_SAMPLES = 160_000
FRAME_COUNTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "floor": lambda samples, hop: samples // hop,  # NeMo since 2.5
    "floor+1": lambda samples, hop: samples // hop + 1,  # NeMo 1.0 to 2.4
    "ceil": lambda samples, hop: -(-samples // hop),  # NeMo 0.x, DeepLearningExamples
}


def mel_filterbank(bands: int, fft: int, sample_rate: int, *, low: float = 0.0, high: float | None = None) -> Tensor:
    """Triangular filters (bands, fft / 2 + 1) even on Slaney's mel scale, each of area one, as librosa.filters.mel gives them."""
    linear, knee, steps = 200 / 3, 1000.0, math.log(6.4) / 27

    def to_mel(hertz: float) -> float:
        return hertz / linear if hertz < knee else knee / linear + math.log(hertz / knee) / steps

    mels = torch.linspace(to_mel(low), to_mel(high or sample_rate / 2), bands + 2, dtype=torch.float64)
    edges = torch.where(mels < knee / linear, mels * linear, knee * torch.exp(steps * (mels - knee / linear)))
    bins = torch.linspace(0, sample_rate / 2, fft // 2 + 1, dtype=torch.float64)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    triangles = torch.minimum(rising, falling).clamp_min(0)
    return (triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).float()


def normalize_per_feature(features: Tensor, frames: Tensor) -> Tensor:
    """Each band of each row at mean 0 and (unbiased) standard deviation 1 over the row's own frames."""
    inside = (torch.arange(features.shape[-1], device=features.device) < frames[:, None])[:, None]
    count = frames[:, None, None]
    mean = (features * inside).sum(-1, keepdim=True) / count.clamp_min(1)
    variance = ((features - mean).square() * inside).sum(-1, keepdim=True) / (count - 1).clamp_min(1)
    return (features - mean) / (variance.sqrt() + 1e-5)


def normalize_all_features(features: Tensor, frames: Tensor) -> Tensor:
    """Each row at mean 0 and standard deviation 1 over all its bands and frames."""
    inside = (torch.arange(features.shape[-1], device=features.device) < frames[:, None])[:, None]
    count = frames[:, None, None] * features.shape[1]
    mean = (features * inside).sum((1, 2), keepdim=True) / count.clamp_min(1)
    variance = ((features - mean).square() * inside).sum((1, 2), keepdim=True) / (count - 1).clamp_min(1)
    return (features - mean) / (variance.sqrt() + 1e-5)


NORMALIZATIONS = {
    "per_feature": normalize_per_feature,
    "all_features": normalize_all_features,
    "none": lambda features, frames: features,
}


class SpectralFeatures(nn.Module):
    """(B, S) audio and (B,) samples -> (B, F, T) features, zero past each row's frames, and (B,) frames."""

    window: Tensor

    def __init__(
        self,
        to_features: Callable[[Tensor], Tensor],
        channels: int,
        *,
        sample_rate: int,
        window: float,
        hop: float,
        normalize: str,
        fft: int = 512,
        preemphasis: float = 0.97,
        dither: float = 1e-5,
        frame_count: str = "floor",
        edge: str = "zeros",
        pad_to: int = 16,
    ):
        super().__init__()
        for name, value, known in (
            ("normalize", normalize, NORMALIZATIONS),
            ("frame_count", frame_count, FRAME_COUNTS),
            ("edge", edge, ("zeros", "reflect")),
        ):
            if value not in known:
                raise RecipeError(f'[features] {name} = "{value}": no such choice. Known: {", ".join(known)}')
        self.to_features, self.channels, self.sample_rate = to_features, channels, sample_rate
        self.fft, self.preemphasis, self.dither, self.pad_to = fft, preemphasis, dither, pad_to
        self.hop_samples = int(sample_rate * hop)
        self.hop = self.hop_samples / sample_rate
        self.edge = {"zeros": "constant", "reflect": "reflect"}[edge]
        self.normalize, self.count = NORMALIZATIONS[normalize], FRAME_COUNTS[frame_count]
        # a function of the settings, not a weight: it is left out of checkpoints
        self.register_buffer("window", torch.hann_window(int(sample_rate * window), periodic=False), persistent=False)

    def frames(self, samples: Tensor) -> Tensor:
        """Returns the number of frames for a number of samples."""
        return self.count(samples, self.hop_samples)

    def forward(self, audio: Tensor, audio_lengths: Tensor) -> tuple[Tensor, Tensor]:
        frames = self.frames(audio_lengths)
        with torch.no_grad(), torch.autocast(audio.device.type, enabled=False):
            audio = audio.float()
            if self.training and self.dither:
                audio = audio + self.dither * torch.randn_like(audio)
            features = self.normalize(self.unnormalized(audio, audio_lengths), frames)
            features = features * (torch.arange(features.shape[-1], device=audio.device) < frames[:, None])[:, None]
            if self.pad_to:
                features = F.pad(features, (0, -features.shape[-1] % self.pad_to))
        return features, frames

    def unnormalized(self, audio: Tensor, audio_lengths: Tensor) -> Tensor:
        """Features (B, F, S / hop + 1) of audio (B, S) with (B,) samples in each row, before they are normalized."""
        inside = torch.arange(audio.shape[1], device=audio.device) < audio_lengths[:, None]
        if self.preemphasis:
            audio = torch.cat([audio[:, :1], audio[:, 1:] - self.preemphasis * audio[:, :-1]], dim=1)
        return self.energies(audio * inside)

    def energies(self, audio: Tensor) -> Tensor:
        """Features (B, F, S / hop + 1) of audio (B, S), not yet normalized; on a CPU in pieces that fit its cache."""
        samples = audio.shape[1]
        if audio.device.type == "cpu" and audio.numel() > max(samples, CACHED_SAMPLES):
            return torch.cat([self.energies(rows) for rows in audio.split(max(1, CACHED_SAMPLES // samples))])
        spectrum = torch.stft(
            audio,
            self.fft,
            self.hop_samples,
            len(self.window),
            self.window,
            pad_mode=self.edge if samples > self.fft // 2 else "constant",
            return_complex=True,
        )
        # a sum over the last axis of two is ten times slower
        return self.to_features(spectrum.real.square() + spectrum.imag.square())


class _Bands(nn.Module):
    """Power spectrum (B, fft / 2 + 1, T) -> log energies of bands, and where asked their cosine transform."""

    bands: Tensor
    rotation: Tensor | None

    def __init__(self, bands: Tensor, log_guard: float, rotation: Tensor | None = None):
        super().__init__()
        self.log_guard = log_guard
        self.register_buffer("bands", bands, persistent=False)
        self.register_buffer("rotation", rotation, persistent=False)

    def forward(self, power: Tensor) -> Tensor:
        energies = torch.log(self.bands @ power + self.log_guard)
        return energies if self.rotation is None else self.rotation @ energies


def log_mel(
    *,
    features: PositiveInt = 64,
    sample_rate: SampleRate = 16_000,
    window: PositiveFloat = 0.02,
    hop: PositiveFloat = 0.01,
    fft: PositiveInt = 512,
    preemphasis: Fraction = 0.97,
    dither: NonNegativeFloat = 1e-5,
    log_guard: PositiveFloat = 2.0**-24,
    normalize: Normalization = "per_feature",
    frame_count: Literal["floor", "floor+1", "ceil"] = "floor",
    edge: Literal["zeros", "reflect"] = "zeros",
    pad_to: NonNegativeInt = 16,
) -> SpectralFeatures:
    """Logarithms of mel-band energies, normalised per band; times in seconds, `dither` only while training.

    `frame_count` and `edge` choose among the conventions of NeMo's versions; `pad_to` frames are added up to a multiple of it.
    """
    bands = _Bands(mel_filterbank(features, fft, sample_rate), log_guard)
    return SpectralFeatures(
        bands,
        features,
        sample_rate=sample_rate,
        window=window,
        hop=hop,
        fft=fft,
        preemphasis=preemphasis,
        dither=dither,
        normalize=normalize,
        frame_count=frame_count,
        edge=edge,
        pad_to=pad_to,
    )


def mfcc(
    *,
    features: PositiveInt = 26,
    bands: PositiveInt = 64,
    sample_rate: SampleRate = 16_000,
    window: PositiveFloat = 0.02,
    hop: PositiveFloat = 0.01,
    normalize: Normalization = "per_feature",
) -> SpectralFeatures:
    """Mel-frequency cepstral coefficients: the first `features` of the orthonormal cosine transform of log-mel energies."""
    angles = math.pi / bands * torch.outer(torch.arange(features), torch.arange(bands) + 0.5)
    rotation = torch.cos(angles) * math.sqrt(2 / bands)
    rotation[0] /= math.sqrt(2)
    to_features = _Bands(mel_filterbank(bands, 512, sample_rate), 2.0**-24, rotation)
    return SpectralFeatures(to_features, features, sample_rate=sample_rate, window=window, hop=hop, normalize=normalize)


def spectrogram(
    *,
    features: PositiveInt = 160,
    sample_rate: SampleRate = 16_000,
    window: PositiveFloat = 0.02,
    hop: PositiveFloat = 0.01,
    normalize: Normalization = "all_features",
) -> SpectralFeatures:
    """Logarithms of the power in the first `features` bins of a Fourier transform as long as the window (DeepSpeech2's input)."""
    fft = int(sample_rate * window)
    if features > fft // 2 + 1:
        raise RecipeError(f"[features] features = {features}: a window of {fft} samples has {fft // 2 + 1} bins")
    return SpectralFeatures(
        _Bands(torch.eye(features, fft // 2 + 1), 1e-10),
        features,
        sample_rate=sample_rate,
        window=window,
        hop=hop,
        normalize=normalize,
        fft=fft,
        preemphasis=0.0,
        dither=0.0,
    )


class Waveform(nn.Module):
    """(B, S) audio and (B,) samples -> (B, 1, S) features, zero past each row's samples, and (B,) frames, which are samples."""

    def __init__(self, sample_rate: int, normalize: bool):
        super().__init__()
        self.channels, self.sample_rate, self.hop, self.normalize = 1, sample_rate, 1 / sample_rate, normalize

    def forward(self, audio: Tensor, audio_lengths: Tensor) -> tuple[Tensor, Tensor]:
        inside = torch.arange(audio.shape[1], device=audio.device) < audio_lengths[:, None]
        audio = audio.float() * inside
        if self.normalize:
            count = audio_lengths[:, None].clamp_min(1)
            centred = (audio - audio.sum(1, keepdim=True) / count) * inside
            audio = centred * (centred.square().sum(1, keepdim=True) / count + 1e-7).rsqrt()
        return audio.unsqueeze(1), audio_lengths


def waveform(*, sample_rate: SampleRate = 16_000, normalize: bool = True) -> Waveform:
    """Returns the front end that passes the waveform on; with `normalize` each row has mean 0 and variance 1."""
    return Waveform(sample_rate, normalize)
