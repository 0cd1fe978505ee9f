"""Audio in pieces of any size gives what the whole recording gives."""

import pytest
import torch

from carnelian.data.alphabet import Alphabet
from carnelian.errors import RecipeError
from carnelian.models.features import log_mel
from carnelian.models.registry import build_model
from carnelian.models.streaming import AcousticStream, FeatureStream

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
        FeatureStream(log_mel())
    recipe = STREAMING | {"encoder": {"name": "quartznet", "blocks": 5, "repeat": 1, "width": 0.05}}
    with pytest.raises(RecipeError, match="not fed piece by piece"):
        AcousticStream(build_model(recipe, Alphabet(" abc")))
