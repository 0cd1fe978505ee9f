"""What a training reads is what its plan says."""

import numpy as np

from carnelian.data.alphabet import Alphabet
from carnelian.data.batch import padding_share
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
