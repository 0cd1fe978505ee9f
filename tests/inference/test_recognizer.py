"""The recognizer at several time_stretches: which counts, and the times of what it heard."""

import numpy as np
import pytest
import torch

from carnelian.data.alphabet import Alphabet
from carnelian.data.transcript import Hypothesis, Span
from carnelian.errors import DecodingError, RecipeError
from carnelian.inference.recognizer import Recognizer
from carnelian.inference.torch_engine import TorchEngine
from carnelian.models.registry import build_model

LETTERS = Alphabet(" abcdefghijklmnopqrstuvwxyz'")
ENCODERS = [
    {"name": "quartznet", "blocks": 5, "repeat": 1, "width": 0.03},
    {"name": "convolutional", "blocks": [{"channels": 32, "kernel": 3}], "conv2d": [{"channels": 4, "kernel": [3, 3]}]},
    {"name": "deepspeech2", "width": 0.02},
    {"name": "wav2letter", "width": 0.02},
    {"name": "citrinet", "channels": 64, "last": 24, "repeat": 2, "blocks": 1},
]


def recognizer(encoder, **settings):
    torch.manual_seed(0)
    model = build_model({"features": {"name": "log_mel"}, "encoder": encoder}, LETTERS)
    return Recognizer(TorchEngine(model, LETTERS), **settings)


def sounds(*counts):
    noise = np.random.default_rng(1)
    return [noise.standard_normal(count).astype(np.float32) for count in counts]


def test_the_likeliest_stretch_counts_for_each_row():
    heard = recognizer(ENCODERS[1], time_stretches=(0.8, 1.0, 1.3)).emissions(sounds(16000, 9000, 5000, 100))
    each = [
        recognizer(ENCODERS[1], time_stretches=(s,)).emissions(sounds(16000, 9000, 5000, 100)) for s in (0.8, 1.0, 1.3)
    ]
    for chosen, *single in zip(heard, *each):
        assert chosen.best_path_score == max(view.best_path_score for view in single)
        [same] = [view for view in single if view.seconds_per_step == chosen.seconds_per_step]
        np.testing.assert_array_equal(chosen.log_probs, same.log_probs)


def test_a_recipe_says_at_which_stretches_its_model_is_heard():
    recipe = {"features": {"name": "log_mel"}, "encoder": ENCODERS[1]}
    model = build_model({**recipe, "time_stretches": [1, 1.2]}, LETTERS)
    assert Recognizer(TorchEngine(model, LETTERS)).time_stretches == (1, 1.2) and recognizer(
        ENCODERS[1]
    ).time_stretches == (1.0,)
    assert Recognizer(TorchEngine(model, LETTERS), time_stretches=[1.1]).time_stretches == (1.1,)
    with pytest.raises(DecodingError, match=r"time_stretches .*: expected numbers"):
        Recognizer(TorchEngine(model, LETTERS), time_stretches=[0])
    for bad in ([], [3], 1.2, ["1"]):
        with pytest.raises(RecipeError, match=r"time_stretches = .*: expected a list of numbers from 0\.5 to 2"):
            build_model({**recipe, "time_stretches": bad}, LETTERS)


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder["name"])
def test_every_encoder_hears_short_and_long_at_every_stretch(encoder):
    for stretch in (0.5, 1.0, 2.0):
        for heard, samples in zip(
            recognizer(encoder, time_stretches=(stretch,)).emissions(sounds(16000, 400, 1)), (16000, 400, 1)
        ):
            assert np.isfinite(heard.log_probs).all()
            assert len(heard.log_probs) * heard.seconds_per_step == pytest.approx(
                samples / 16000, abs=heard.seconds_per_step + 0.01
            )


def test_words_are_timed_by_the_recording_however_it_was_stretched():
    def decoder(log_probs):
        return [Hypothesis("ab", 0.0, 0.0, spans=(Span("ab", len(log_probs) // 2, len(log_probs) - 1, 1.0),))]

    audio = sounds(32000)[0]
    for stretch in (0.5, 1.0, 1.25, 2.0):
        [word] = recognizer(ENCODERS[1], decoder=decoder, time_stretches=(stretch,))(audio).words
        assert word.start == pytest.approx(1.0, abs=0.05) and word.end == pytest.approx(2.0, abs=0.05)
