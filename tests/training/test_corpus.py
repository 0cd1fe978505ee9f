"""What a training reads is what its plan says."""

import numpy as np
import pytest

from carnelian.data.alphabet import Alphabet
from carnelian.data.batch import padding_share
from carnelian.errors import RecipeError
from carnelian.training.corpus import Corpus
from carnelian.training.distributed import World
from carnelian.training.settings import check_recipe


def test_batches_are_planned_by_the_speeds_they_are_played_at(recipe, long_manifest):
    recipe["train"]["manifests"] = [str(long_manifest)]
    recipe["train"]["min_duration"] = 0.4  # so that the plan's numbers are not the manifest's
    recipe["augment"] = {"speed": {"low": 0.7, "high": 1.4}, "gain": {}}
    corpus = Corpus(check_recipe(recipe), recipe, Alphabet(" ab"), 16000, World())
    heard = [corpus.seconds(epoch) for epoch in (1, 2)]
    assert 20 < len(corpus.kept) < 60
    assert len(set(np.concatenate(heard))) == 2 * len(corpus.kept), "each epoch draws its own"
    padding = 0.0
    for batch, planned in zip(corpus.batches(1, 0), corpus.plan(1)):
        np.testing.assert_allclose(batch.audio_lengths.numpy() / 16000, heard[0][planned], atol=1e-3)
        padding += float((batch.audio.shape[1] - batch.audio_lengths).sum() / 16000)
    share = padding_share(corpus.plan(1), heard[0])
    assert 0 < share < 0.06 and abs(padding / (padding + heard[0].sum()) - share) < 0.01


@pytest.mark.parametrize(
    ("manifests", "mix", "says"),
    [
        (2, [0.5], "expected 2 shares"),
        (2, [0.5, 0.1], "add up to 0.6"),
        (2, [1.0, 0.0], "above 0"),
        (1, [0.5, 0.5], "1 shares"),
    ],
)
def test_shares_that_do_not_fit(recipe, long_manifest, manifests, mix, says):
    recipe["train"] |= {"manifests": [str(long_manifest)] * manifests, "mix": mix}
    with pytest.raises(RecipeError, match=says):
        check_recipe(recipe)


def test_real_and_synthetic_speech_are_mixed_by_shares(recipe, long_manifest, tmp_path):
    synthetic = tmp_path / "synthetic.jsonl"
    synthetic.write_text(long_manifest.read_text())
    recipe["train"] |= {"manifests": [str(long_manifest), str(synthetic)], "mix": [0.75, 0.25], "batch_size": 4}
    recipe["train"].pop("batch_seconds", None)
    corpus = Corpus(check_recipe(recipe), recipe, Alphabet(" ab"), 16000, World())
    count = len(corpus.kept) // 2
    for batch in corpus.plan(0)[:-1]:
        assert abs((batch >= count).sum() - 1) <= 1
    assert sum((batch >= count).sum() for batch in corpus.plan(0)) == pytest.approx(count / 3, abs=2)
