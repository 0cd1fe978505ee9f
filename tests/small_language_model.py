"""Language models with random weights, as checkpoints."""

import torch

from carnelian.checkpoint import Checkpoint, save_checkpoint
from carnelian.data.alphabet import WordList
from carnelian.models.registry import build_language_model

RECIPE = {
    "task": "language",
    "model": {
        "name": "transformer_xl", "channels": 8, "layers": 2, "heads": 2, "feedforward": 12, "memory": 4, "cutoffs": [3],
    },
}  # fmt: skip


def write_language_model(path, alphabet):
    """Writes a checkpoint whose scores of words differ by some natural logarithms."""
    torch.manual_seed(1)
    model = build_language_model(RECIPE, alphabet)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    save_checkpoint(path, Checkpoint(model.state_dict(), alphabet, RECIPE, 1, {}))
    return path


def write_word_model(folder):
    """Writes one over the words a, b, c, ab, ca, cab."""
    return write_language_model(folder / "language.safetensors", WordList(["<unk>", "a", "b", "c", "ab", "ca", "cab"]))
