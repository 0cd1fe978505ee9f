"""Audio in pieces of any size gives what the whole recording gives."""

import pytest
import torch

from carnelian.data.alphabet import Alphabet
from carnelian.errors import RecipeError
from carnelian.models.convolution.inference import fold_batch_norm, pack_convolutions
from carnelian.models.features import log_mel
from carnelian.models.registry import build_model
from carnelian.models.streaming.acoustic import AcousticStream, FeatureStatistics, FeatureStream

CONVOLUTIONAL = {
    "quartznet": {"name": "quartznet", "blocks": 5, "repeat": 2, "width": 0.05},
    "groups": {"name": "quartznet", "blocks": 5, "repeat": 1, "width": 0.25, "groups": 2, "stride": 4},
    "lookahead": {"name": "quartznet", "blocks": 5, "repeat": 2, "width": 0.05, "lookahead": 16},
    "jasper": {"name": "jasper", "width": 0.02},
    "wave2letter": {"name": "wave2letter", "width": 0.02},
    "conv2d": {
        "name": "convolutional",
        "conv2d": [
            {"channels": 3, "kernel": [5, 11], "stride": [2, 2]},
            {"channels": 4, "kernel": [3, 7], "stride": [3, 2]},
            {"channels": 2, "kernel": [3, 3]},
        ],
        "blocks": [
            {"channels": 8, "kernel": 4},  # even: a frame fewer at each
            {"channels": 8, "kernel": 1, "stride": 3, "residual": "plain"},
            {"channels": 8, "kernel": 5, "repeat": 2, "residual": "densernet", "growth": 4},
            {"channels": 8, "kernel": 9, "dilation": 3},
        ],
        "activation": "glu",
        "norm": "masked_batch",
    },
    "unmasked": {"name": "convolutional", "mask": False, "blocks": [{"channels": 8, "kernel": 11, "stride": 2}] * 2},
}

STREAMING = {
    "features": {"name": "log_mel", "features": 20, "window": 0.025, "normalize": "none", "pad_to": 0},
    "encoder": {
        "name": "conformer",
        "channels": 16,
        "layers": 2,
        "kernel": 5,
        "subsampling": "dw_striding",
        "stride": 8,
        "causal_subsampling": True,
        "convolution_context": [4, 0],
        "context": [[8, 3]],
        "context_style": "chunked",
    },
}


def pieces_of(audio, generator, largest):
    start = 0
    while start < audio.shape[1]:
        size = int(torch.randint(0, largest, (), generator=generator))
        yield audio[:, start : start + size]
        start += size


@pytest.mark.parametrize("edge", ["zeros", "reflect"])
@pytest.mark.parametrize("count", ["floor", "floor+1", "ceil"])
@pytest.mark.parametrize("samples", [16_000, 12_345, 1_600, 700, 300])
def test_features_of_pieces_equal_those_of_the_whole(edge, count, samples):
    generator = torch.Generator().manual_seed(samples)
    features = log_mel(features=20, normalize="none", edge=edge, frame_count=count, window=0.025).eval()
    audio = torch.randn(2, samples, generator=generator)
    expected, frames = features(audio, torch.tensor([samples] * 2))
    stream = FeatureStream(features)
    found = [stream.step(piece) for piece in pieces_of(audio, generator, 1_000)] + [stream.finish()]
    torch.testing.assert_close(torch.cat(found, 2), expected[:, :, : frames[0]], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("samples", [31_999, 8_000, 100])
def test_log_probs_of_pieces_equal_those_of_the_whole(samples):
    torch.manual_seed(samples)
    model = build_model(STREAMING, Alphabet(" abc")).eval()
    generator, audio = torch.Generator().manual_seed(1), 0.1 * torch.randn(1, samples)
    with torch.no_grad():
        expected, (steps,) = model(audio, torch.tensor([samples]))
    stream = AcousticStream(model)
    found = [stream.step(piece) for piece in pieces_of(audio, generator, 5_000)] + [stream.finish()]
    torch.testing.assert_close(torch.cat(found, 1), expected[:, :steps], atol=1e-4, rtol=1e-4)
    if samples > 20_000:  # the delay is that of a chunk: 4 steps of 80 ms, and the windows
        late = AcousticStream(model)
        assert late.step(audio[:, :16_000]).shape[1] == 12


def test_models_that_look_at_the_whole_are_refused():
    with pytest.raises(RecipeError, match="normalises its features over the whole recording"):
        AcousticStream(build_model({"encoder": CONVOLUTIONAL["quartznet"]}, Alphabet(" abc")))
    citrinet = {"name": "citrinet", "channels": 64, "last": 24, "repeat": 1, "blocks": 1}
    for encoder, reason in (citrinet, "squeeze-and-excitation"), ({"name": "deepspeech2", "width": 0.1}, "DeepSpeech2"):
        with pytest.raises(RecipeError, match=f"not fed piece by piece.*{reason}"):
            AcousticStream(build_model({"encoder": encoder}, Alphabet(" abc")))


@pytest.mark.parametrize("samples", [40_000, 25_600, 9_999, 160, 0])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("ready", [False, True])
def test_convolutions_of_pieces_equal_those_of_the_whole(name, samples, ready):
    """Also where the model has been changed to what computes fastest."""
    torch.manual_seed(samples)
    recipe = {"features": {"name": "log_mel", "features": 20}, "encoder": CONVOLUTIONAL[name]}
    model = build_model(recipe, Alphabet(" abc"))
    generator, audio = torch.Generator().manual_seed(1), 0.1 * torch.randn(1, samples)
    for _ in range(2):  # statistics of the batch norms
        model(0.1 * torch.randn(2, 20_000), torch.tensor([20_000, 15_000]))
    model.eval()
    with torch.no_grad():
        expected, (steps,) = model(audio, torch.tensor([samples]))
    if ready:
        fold_batch_norm(model)
        pack_convolutions(model)
    statistics, features = FeatureStatistics(model.features), FeatureStream(model.features)
    for piece in pieces_of(audio, generator, 3_000):
        statistics.add(features.step(piece))
    if samples:
        statistics.add(features.finish())
    stream = AcousticStream(model, statistics.normalize)
    found = [stream.step(audio[:, :0]), *map(stream.step, pieces_of(audio, generator, 3_000)), stream.finish()]
    torch.testing.assert_close(torch.cat(found, 1), expected[:, :steps], atol=1e-4, rtol=1e-4)


def test_a_step_sees_no_further_ahead_than_the_lookahead():
    torch.manual_seed(1)
    encoder = build_model({"encoder": CONVOLUTIONAL["lookahead"]}, Alphabet(" abc")).eval().encoder
    features = torch.randn(1, 64, 400)
    with torch.no_grad():
        whole, _ = encoder(features, torch.tensor([400]))
        changed = features.clone()
        changed[..., 201:] = 0
        other, _ = encoder(changed, torch.tensor([400]))
    same = (whole == other).all(1)[0]
    first = (200 - 32) // 2 + 1  # the first step that sees frame 201; a ReLU may hide it from the very first
    assert encoder.frames_ahead == 32 and same[:first].all() and not same[first : first + 8].all()
