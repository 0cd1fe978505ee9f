"""Runs a checkpoint's model with PyTorch."""

from collections.abc import Sequence
from functools import partial
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
from carnelian.models.device import choose_device
from carnelian.models.layers import fold_batch_norm
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


def load_torch_engine(path: str | Path, *, device: str = "", precision: str = "fp32", threads: int = 0) -> TorchEngine:
    """Returns the engine of a checkpoint or of the last one in a run's folder, its batch norms folded into the convolutions."""
    if threads:
        torch.set_num_threads(threads)
    model, checkpoint = load_model(find_checkpoint(path))
    fold_batch_norm(model)
    model = model.to(choose_device(device))
    if precision != "auto":
        return TorchEngine(model, checkpoint.alphabet, precision=precision)
    engines = {each: partial(TorchEngine, model, checkpoint.alphabet, precision=each) for each in ("fp32", "bf16")}
    kind = f"torch {next(model.parameters()).device.type} {checkpoint.recipe.get('encoder', {}).get('name', '')}"
    return choose_precision(f"{kind}, {torch.get_num_threads()} threads", engines)[1]
