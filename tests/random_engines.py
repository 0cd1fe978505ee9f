"""Engines of random weights, and noise with the rhythm of speech."""

import numpy as np
import torch

from carnelian.checkpoint import Checkpoint, save_checkpoint
from carnelian.data.alphabet import Alphabet
from carnelian.inference.torch_engine import ready_engine
from carnelian.models.registry import build_model

LETTERS = Alphabet(" abcdefghijklmnopqrstuvwxyz'")


def engine_of(encoder, *, letters=True, **features):
    """An engine with random weights; with `letters` its head is scaled so that greedy decoding gives text."""
    return ready_engine(model_of(encoder, letters=letters, **features), LETTERS)


def save_model(path, encoder, **features):
    """Writes the model of `engine_of` as a checkpoint."""
    recipe = {"task": "acoustic", "features": {"name": "log_mel", **features}, "encoder": encoder}
    save_checkpoint(path, Checkpoint(model_of(encoder, **features).state_dict(), LETTERS, recipe, 1, {}))


def model_of(encoder, *, letters=True, **features):
    """The model of `engine_of`."""
    torch.manual_seed(0)
    model = build_model({"features": {"name": "log_mel", **features}, "encoder": encoder}, LETTERS)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # one pass gives the statistics, so that all layers work at a natural scale
    with torch.no_grad():
        model(torch.from_numpy(speech_like(16)).view(2, -1), torch.tensor([128_000, 128_000]))
        model.eval()
        log_probs, _ = model(torch.from_numpy(speech_like(8))[None], torch.tensor([128_000]))
        spread = log_probs.std(1).mean()  # of random weights: tiny, so that one symbol would win at all steps
        model.head.bias.sub_(log_probs.mean((0, 1)))
        for parameter in model.head.parameters() if letters else ():
            parameter.mul_(3 / spread)
    return model


def speech_like(seconds, seed=1):
    """Noise with the rhythm of syllables and pauses, in several colours."""
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal(round(seconds * 16_000)).astype(np.float32)
    time = np.arange(len(noise), dtype=np.float32) / 16_000
    noise[1:] += np.float32(0.9) * np.sin(time[1:]) * noise[:-1]
    return noise * (0.1 * (np.sin(7 * time) > 0) * (np.sin(time / 5) > -0.8)).astype(np.float32)


def places(transcript):
    return [(word.text, word.start, word.end) for word in transcript.words]


def pieces(audio, seconds):
    size = round(seconds * 16_000)
    return lambda begin=0: (audio[first : first + size] for first in range(16_000 * begin, len(audio), size))
