"""Every architecture learns a handful of utterances by heart: no error is left after a few dozen steps."""

import math

import pytest
import torch

from carnelian.data.alphabet import Alphabet
from carnelian.models.acoustic import AcousticModel
from carnelian.models.features import log_mel
from carnelian.models.losses.ctc import ctc_loss
from carnelian.models.registry import ENCODERS

WORDS = ["a bad cab", "feed abe", "decaf"]
SMALL = {
    "quartznet": ("quartznet", {"blocks": 5, "repeat": 1, "width": 0.125}),
    "quartznet with groups": ("quartznet", {"blocks": 5, "repeat": 1, "width": 0.125, "groups": 2}),
    "quartznet_wsj": ("quartznet_wsj", {"repeat": 1, "width": 0.125, "dropout": 0.0}),
    "jasper": ("jasper", {"blocks": 5, "repeat": 1, "width": 0.0625, "dropout": 0.0}),
    **{
        f"jasper, {name}": ("jasper", {"blocks": 5, "repeat": 1, "width": 0.0625, "dropout": 0.0, **settings})
        for name, settings in {
            "plain residual": {"residual": "plain"},
            "densenet": {"residual": "densenet"},
            "densernet": {"residual": "densernet"},
            "masked batch norm": {"norm": "masked_batch"},
            "layer norm": {"norm": "layer"},
            "weight norm": {"norm": "weight"},
            "clipped": {"activation": "clipped_relu"},
            "leaky": {"activation": "leaky_relu"},
            "glu": {"activation": "glu"},
            "gau": {"activation": "gau"},
        }.items()
    },
    "jasper_mini": ("jasper_mini", {"repeat": 1, "width": 0.125}),
    "wave2letter": ("wave2letter", {"repeat": 1, "width": 0.125, "dropout": 0.0}),
    "wav2letter": ("wav2letter", {"width": 0.06, "dropout": 0.0}),
    "wav2letter, wsj": ("wav2letter", {"width": 0.1, "size": "wsj", "dropout": 0.0}),
    "convolutional, planes": (
        "convolutional",
        {
            "conv2d": [
                {"channels": 8, "kernel": (5, 5), "stride": (2, 2)},
                {"channels": 8, "kernel": (3, 3), "stride": (2, 1)},
            ],
            "blocks": [{"channels": 64, "kernel": 5, "repeat": 2, "residual": "plain", "separable": True}],
        },
    ),
    "citrinet": ("citrinet", {"channels": 64, "last": 64, "repeat": 1, "blocks": 1, "dropout": 0.0}),
    "conformer": (
        "conformer",
        {"channels": 64, "layers": 2, "kernel": 7, "dropout": 0.0, "dropout_attention": 0.0},
    ),
    "fast conformer, chunked": (
        "conformer",
        {
            "channels": 64,
            "layers": 2,
            "kernel": 7,
            "norm": "layer",
            "subsampling": "dw_striding",
            "causal_subsampling": True,
            "convolution_context": [6, 0],
            "context": [[8, 3], [6, 1]],
            "context_style": "chunked",
            "dropout": 0.0,
            "dropout_attention": 0.0,
        },
    ),
    "deepspeech2": ("deepspeech2", {"width": 0.06, "dropout": 0.0}),
    "deepspeech2, medium": ("deepspeech2", {"width": 0.06, "size": "medium", "dropout": 0.0}),
    "deepspeech2, small": ("deepspeech2", {"width": 0.1, "size": "small", "dropout": 0.0}),
}
#: without batch norm, smaller steps
RATES = {"wav2letter": 3e-4}


def sing(text: str, length: int) -> torch.Tensor:
    """So many samples for each character: its own tone, silence for a space."""
    time = torch.arange(length) / 16_000
    tones = [torch.sin(2 * math.pi * (250 * (1 + ord(letter) - ord("a"))) * time) for letter in text]
    return torch.cat([0.3 * tone * (letter != " ") for letter, tone in zip(text, tones)])


def read(log_probs: torch.Tensor, alphabet: Alphabet) -> str:
    symbols = log_probs.argmax(1).unique_consecutive().tolist()
    return alphabet.decode([symbol for symbol in symbols if symbol != alphabet.blank])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_learns_by_heart(name):
    torch.manual_seed(0)
    alphabet = Alphabet(" abcdef")
    encoder, settings = SMALL[name]
    model = AcousticModel(log_mel(features=16), ENCODERS[encoder](16, **settings), len(alphabet))
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.1  # some models' own is for thousands of steps
    rows = [sing(words, 3 * 160 * model.encoder.stride) for words in WORDS]
    audio = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    samples = torch.tensor([len(row) for row in rows])
    symbols = [torch.tensor(alphabet.encode(words)) for words in WORDS]
    targets = torch.nn.utils.rnn.pad_sequence(symbols, batch_first=True)
    target_lengths = torch.tensor([len(row) for row in symbols])
    optimizer = torch.optim.Adam(model.parameters(), lr=RATES.get(encoder, 3e-3))
    for step in range(1, 201):
        loss = ctc_loss(*model.train()(audio, samples), targets, target_lengths).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if step % 10 == 0 and loss < 2:
            with torch.no_grad():
                log_probs, steps = model.eval()(audio, samples)
            heard = [read(row[:count], alphabet) for row, count in zip(log_probs, steps)]
            if heard == WORDS:
                return
    pytest.fail(f"after {step} steps the loss is {loss.item():.2f}")
