"""What a recipe may name: the front ends and the encoders, each a function whose keyword arguments are the recipe's keys."""

from collections.abc import Callable

from torch import nn

from carnelian.models.features import log_mel, mfcc, spectrogram
from carnelian.models.jasper import jasper
from carnelian.models.layers import convolutional
from carnelian.models.quartznet import quartznet

#: front ends: waveforms -> features, with `.channels`, `.hop` and `.sample_rate`
FEATURES: dict[str, Callable[..., nn.Module]] = {
    "log_mel": log_mel,
    "mfcc": mfcc,
    "spectrogram": spectrogram,
}

#: encoders: `name(features, *, ...)` with the features' channels -> a module with `.channels` and `.stride`
ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "convolutional": convolutional,
    "jasper": jasper,
    "quartznet": quartznet,
}
