"""N-gram models of a few words with random scores."""

import itertools

import numpy as np

from carnelian.ngram.model import NGram, NGramBuilder

WORDS = ["a", "b", "ab", "ba", "aab"]


def random_model(seed: int, words=WORDS) -> NGram:
    """A trigram model with random scores; some n-grams missing."""
    random = np.random.default_rng(seed)
    known = ["<unk>", "<s>", "</s>", *words]

    def scores(count):
        return -random.uniform(0.1, 4, count), -random.uniform(0.1, 2, count)

    builder = NGramBuilder(known, *(each.astype(np.float32) for each in scores(len(known))))
    for order in (2, 3):
        grams = [
            gram
            for gram in itertools.product(range(len(known)), repeat=order)
            if 1 not in gram[1:] and 2 not in gram[:-1] and random.random() < 0.4
        ]
        probabilities, backoffs = scores(len(grams))
        builder.add(np.array(grams, np.int32), probabilities, backoffs if order < 3 else backoffs * 0)
    return builder.finish()
