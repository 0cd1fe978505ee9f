"""The encoder of wav2vec 2.0 (arXiv 2006.11477) as Hugging Face's transformers build it.

The door to transformers.
"""

import math
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carnelian.errors import MissingExtraError
from carnelian.models.features import SampleRate
from carnelian.ranges import PositiveInt


def transformers_module() -> Any:
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "transformers", "A model of Hugging Face") from None
    return transformers


class Waveform(nn.Module):
    """(B, S) audio and (B,) samples -> the same as (B, 1, S) features, zero past each row's samples, and (B,) frames."""

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
    """The sound itself as one feature, for encoders with a front end of their own; at mean 0 and deviation 1 where `normalize`."""
    return Waveform(sample_rate, normalize)


class Wav2Vec2(nn.Module):
    """wav2vec 2.0's encoder: (B, 1, S) sound and (B,) samples -> (B, D, O) and (B,) steps.

    Rows are encoded one by one: the group norm of its first layer would else mix the padding into a row's statistics.
    """

    def __init__(self, config: dict[str, Any], inputs: int):
        super().__init__()
        library = transformers_module()
        settings = library.Wav2Vec2Config.from_dict(config)
        self.channels, self.receptive_field = settings.hidden_size, math.inf
        self.stride = math.prod(settings.conv_stride)
        self.kernels, self.strides = settings.conv_kernel, settings.conv_stride
        self.model = library.Wav2Vec2Model(settings)

    def steps(self, frames: Tensor) -> Tensor:
        for kernel, stride in zip(self.kernels, self.strides):
            frames = (frames - kernel) // stride + 1
        return frames.clamp_min(0)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        shortest = 1
        for kernel, stride in reversed(list(zip(self.kernels, self.strides))):
            shortest = (shortest - 1) * stride + kernel
        rows = []
        for row, length in zip(features[:, 0], frames.tolist()):
            audio = F.pad(row[:length], (0, max(0, shortest - length)))
            rows.append(self.model(audio[None]).last_hidden_state[0])
        return nn.utils.rnn.pad_sequence(rows, batch_first=True).transpose(1, 2), self.steps(frames)


def hugging_face(features: PositiveInt = 1, *, kind: Literal["wav2vec2"], config: dict) -> nn.Module:
    """An encoder as transformers build it from a configuration; `kind` is "wav2vec2"."""
    return Wav2Vec2(config, features)


def pretrained(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """(configuration, encoder's weights, head's weight (V, D) and bias (V,)) of a folder; raises what transformers raise."""
    library = transformers_module()
    model = library.Wav2Vec2ForCTC.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    weights = {f"model.{name}": tensor for name, tensor in model.wav2vec2.state_dict().items()}
    head = {"weight": model.lm_head.weight.detach(), "bias": model.lm_head.bias.detach()}
    return model.wav2vec2.config.to_dict(), weights, head
