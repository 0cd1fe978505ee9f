"""What a recipe may name: the front ends, encoders and criteria, each a function whose keyword arguments are the recipe's keys."""

from collections.abc import Callable

from torch import nn

from carnelian.models.asg import asg
from carnelian.models.citrinet import citrinet
from carnelian.models.convolutional import convolutional
from carnelian.models.ctc import ctc
from carnelian.models.deepspeech2 import deepspeech2
from carnelian.models.features import log_mel, mfcc, spectrogram
from carnelian.models.hugging_face import hugging_face, waveform
from carnelian.models.jasper import jasper, jasper_mini
from carnelian.models.quartznet import quartznet, quartznet_wsj
from carnelian.models.wav2letter import wav2letter
from carnelian.models.wav2vec import wav2vec
from carnelian.models.wave2letter import wave2letter

#: front ends: waveforms -> features, with `.channels`, `.hop` and `.sample_rate`
FEATURES: dict[str, Callable[..., nn.Module]] = {
    "log_mel": log_mel,
    "mfcc": mfcc,
    "spectrogram": spectrogram,
    "wav2vec": wav2vec,
    "waveform": waveform,
}

#: encoders: `name(features, *, ...)` with the features' channels -> a module with `.channels`, `.stride`, `.receptive_field`
ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "citrinet": citrinet,
    "convolutional": convolutional,
    "deepspeech2": deepspeech2,
    "hugging_face": hugging_face,
    "jasper": jasper,
    "jasper_mini": jasper_mini,
    "quartznet": quartznet,
    "quartznet_wsj": quartznet_wsj,
    "wav2letter": wav2letter,
    "wave2letter": wave2letter,
}

#: criteria: `name(symbols, *, ...)` with the alphabet's number of symbols -> a module that gives the loss, with `.extra`
CRITERIA: dict[str, Callable[..., nn.Module]] = {"asg": asg, "ctc": ctc}
