"""The trainable numbers of every published model, in one table; nothing is allocated."""

import pytest
import torch
from torch import nn

from carnelian.models.acoustic import AcousticModel, count_parameters
from carnelian.models.registry import ENCODERS

LETTERS = 28  # space, a to z, apostrophe; the head adds the blank

#: encoder, its features and symbols, its settings, the exact count, and what was published in millions (None: nothing was)
TABLE = [
    ("quartznet", 64, LETTERS, {"blocks": 5}, 6_713_181, 6.7),
    ("quartznet", 64, LETTERS, {"blocks": 10}, 12_818_781, 12.8),
    ("quartznet", 64, LETTERS, {"blocks": 15}, 18_924_381, 18.9),
    ("quartznet", 64, LETTERS, {"groups": 2}, 12_108_637, 12.1),
    ("quartznet", 64, LETTERS, {"groups": 4}, 8_700_765, 8.7),
    ("quartznet_wsj", 64, LETTERS, {}, 6_407_005, 6.4),
    ("jasper", 64, LETTERS, {"blocks": 5, "repeat": 3, "residual": "plain"}, 107_681_053, None),
    ("jasper", 64, LETTERS, {"repeat": 3, "residual": "plain"}, 200_500_509, 201),
    ("jasper", 64, LETTERS, {"repeat": 3, "residual": "dense"}, 210_845_981, 211),
    ("jasper", 64, LETTERS, {"repeat": 3, "residual": "densenet"}, 205_312_625, 205),
    ("jasper", 64, LETTERS, {"repeat": 3, "residual": "densernet"}, 211_140_741, 211),
    ("jasper", 64, LETTERS, {"repeat": 4, "residual": "plain"}, 261_393_693, None),
    ("jasper", 64, LETTERS, {"repeat": 4, "residual": "dense"}, 271_739_165, None),
    ("jasper", 64, LETTERS, {"repeat": 5, "residual": "plain"}, 322_286_877, None),
    ("jasper", 64, LETTERS, {"repeat": 5, "residual": "dense"}, 332_632_349, 333),
    ("jasper_mini", 64, LETTERS, {}, 8_188_381, None),
    ("wave2letter", 64, LETTERS, {}, 106_496_285, 106.5),
    ("wave2letter", 64, LETTERS, {"stride": 1}, 105_774_877, None),
    ("deepspeech2", 160, LETTERS, {"size": "large"}, 58_971_133, None),
    ("deepspeech2", 160, LETTERS, {"size": "medium"}, 25_721_341, None),
    ("deepspeech2", 96, LETTERS, {"size": "small"}, 9_993_469, None),
    ("wav2letter", 40, LETTERS, {"size": "librispeech"}, 208_863_003, None),
    ("wav2letter", 40, LETTERS, {"size": "wsj"}, 17_060_129, None),
    ("citrinet", 80, 256, {"channels": 256}, 9_767_441, 9.8),
    ("citrinet", 80, 256, {"channels": 512}, 36_502_033, 36),
    ("citrinet", 80, 256, {"channels": 1024, "last": 1024}, 142_331_537, 142),
    ("citrinet", 80, 1024, {"channels": 1024, "last": 1024, "kernel_factor": 0.25}, 141_224_337, 141),
]


@pytest.mark.parametrize("name, features, symbols, settings, count, millions", TABLE)
def test_parameters(name, features, symbols, settings, count, millions):
    with torch.device("meta"):
        model = AcousticModel(nn.Identity(), ENCODERS[name](features, **settings), symbols)
    assert count_parameters(model) == count
    if millions:
        assert count / 1e6 == pytest.approx(millions, rel=0.015)
