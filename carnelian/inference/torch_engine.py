"""Runs a checkpoint's model with PyTorch."""

import copy
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from carnelian.checkpoint import load_model
from carnelian.data.alphabet import Alphabet
from carnelian.formats.catalog import find_checkpoint
from carnelian.inference.emissions import Emissions
from carnelian.inference.precision import choose_precision
from carnelian.models.acoustic import AcousticModel
from carnelian.models.convolution.inference import fold_batch_norm, pack_convolutions
from carnelian.models.device import choose_device
from carnelian.models.features import NORMALIZATIONS
from carnelian.models.streaming.acoustic import (
    AcousticStream,
    FeatureNormalizer,
    FeatureStatistics,
    FeatureStream,
    RunningNormalizer,
    restart_step,
    seconds_ahead,
    why_not_in_pieces,
)
from carnelian.models.time_stretch import time_stretch


class TorchEngine:
    """An acoustic model in evaluation: waveforms to log-probabilities on any device of PyTorch."""

    def __init__(self, model: AcousticModel, alphabet: Alphabet, *, precision: str = "fp32"):
        """precision: "fp32" or "bf16" (autocast)."""
        self.model, self.alphabet, self.precision = model.eval(), alphabet, precision
        self.sample_rate: int = model.features.sample_rate
        self.time_stretches, self.criterion = tuple(model.time_stretches), model.criterion

    def emissions(self, audio: Sequence[np.ndarray], time_stretches: Sequence[float]) -> list[list[Emissions]]:
        """Returns the model's output for each waveform (S,), once for each time stretch; features are computed once."""
        device = next(self.model.parameters()).device
        batch = pad_sequence([torch.from_numpy(each) for each in audio], batch_first=True).to(device)
        lengths = torch.tensor([len(each) for each in audio], device=device)
        bf16 = torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")
        found = []
        with torch.inference_mode(), bf16:
            features, frames = self.model.features(batch, lengths)
            for factor in time_stretches:
                stretched = time_stretch(features, frames, factor) if factor != 1 else (features, frames)
                log_probs, steps = self.model.log_probs(*stretched)
                rows = zip(log_probs.float().cpu(), steps.tolist())
                seconds = self.model.seconds_per_step / factor
                found.append([Emissions(row[:length].numpy(), seconds) for row, length in rows])
        return found

    @property
    def seconds_per_step(self) -> float:
        """The seconds of audio that an output step covers."""
        return self.model.seconds_per_step

    @cached_property
    def why_not_in_pieces(self) -> str:
        """The reason why the model cannot be fed piece by piece with the result of the whole; empty if it can."""
        return why_not_in_pieces(self.model)

    @property
    def needs_statistics(self) -> bool:
        """Whether the model normalizes its features over the whole recording."""
        return self.model.features.normalize is not NORMALIZATIONS["none"]

    def statistics(self, chunks: Iterable[np.ndarray]) -> FeatureStatistics:
        """The statistics of the features of a recording that comes in chunks (S,)."""
        statistics, stream, fed = FeatureStatistics(self.model.features), FeatureStream(self.model.features), False
        with torch.inference_mode():
            for chunk in chunks:
                fed = True
                statistics.add(stream.step(self._row(chunk)))
            if fed:
                statistics.add(stream.finish())
        return statistics

    def restored_statistics(self, state: Mapping[str, np.ndarray]) -> FeatureStatistics:
        """The statistics of features whose `state` was kept."""
        return FeatureStatistics(self.model.features).restore(state, next(self.model.parameters()).device)

    def restart_step(self, step: int) -> int:
        """The step from whose audio on a `stream` must be fed to give `step` and all after it as those of the whole recording."""
        return restart_step(self.model, step)

    @cached_property
    def identity(self) -> str:
        """Tells models apart: a digest of all weights, and the precision."""
        digest = hashlib.blake2b(repr((self.precision, self.alphabet.symbols)).encode(), digest_size=8)
        for name, values in self.model.state_dict().items():
            digest.update(name.encode())
            values = values.to_dense() if values.is_mkldnn else values.cpu()
            digest.update(values.contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @property
    def seconds_ahead(self) -> float:
        """The seconds of audio that the model waits for before it gives a step; infinite for the whole recording."""
        return seconds_ahead(self.model)

    def running_normalizer(self, prior: FeatureStatistics | None = None) -> RunningNormalizer:
        """Normalizes features by what came so far, for `stream`."""
        return RunningNormalizer(self.model.features, prior)

    def stream(self, normalizer: FeatureNormalizer | None = None) -> "TorchStream":
        """A recording's log-probabilities from its audio as it comes."""
        return TorchStream(self, normalizer)

    def _row(self, audio: np.ndarray) -> torch.Tensor:
        """A waveform (S,) as (1, S) on the model's device."""
        device = next(self.model.parameters()).device
        return torch.from_numpy(np.ascontiguousarray(audio, np.float32))[None].to(device)


class TorchStream:
    """A model fed with audio as it comes: `step` and `finish` give the log-probabilities (O, V) that are known then."""

    def __init__(self, engine: TorchEngine, normalizer: FeatureNormalizer | None):
        self.engine, self.stream = engine, AcousticStream(engine.model, normalizer)

    def step(self, audio: np.ndarray) -> np.ndarray:
        """The next log-probabilities (O, V), O also 0, from the next samples (S,), S also 0."""
        with self._precision():
            return self.stream.step(self.engine._row(audio))[0].float().cpu().numpy()

    def finish(self) -> np.ndarray:
        """The log-probabilities (O, V) that are left at the end of the recording."""
        with self._precision():
            return self.stream.finish()[0].float().cpu().numpy()

    def _precision(self):
        device = next(self.engine.model.parameters()).device
        return torch.autocast(device.type, torch.bfloat16, enabled=self.engine.precision == "bf16")


def load_torch_engine(path: str | Path, *, device: str = "", precision: str = "fp32", threads: int = 0) -> TorchEngine:
    """Returns the engine of a checkpoint or of the last one in a run's folder, its batch norms folded into the convolutions."""
    if threads:
        torch.set_num_threads(threads)
    model, checkpoint = load_model(find_checkpoint(path))
    model, alphabet = model.to(choose_device(device)), checkpoint.alphabet
    if precision != "auto":
        return ready_engine(model, alphabet, precision)

    def ready_copy(precision: str) -> TorchEngine:
        return ready_engine(copy.deepcopy(model), alphabet, precision)

    engines = {each: partial(ready_copy, each) for each in ("fp32", "bf16")}
    kind = f"torch {next(model.parameters()).device.type} {checkpoint.recipe.get('encoder', {}).get('name', '')}"
    return choose_precision(f"{kind}, {torch.get_num_threads()} threads", engines)[1]


def ready_engine(model: AcousticModel, alphabet: Alphabet, precision: str = "fp32") -> TorchEngine:
    """Returns the engine of a model, which is changed in place to what computes fastest: it is for recognition only from then on."""
    fold_batch_norm(model)
    if precision == "fp32" and next(model.parameters()).device.type == "cpu":
        pack_convolutions(model)
    return TorchEngine(model, alphabet, precision=precision)
