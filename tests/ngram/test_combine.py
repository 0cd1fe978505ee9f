"""Mixed models sum to one and are the weighted mean; cut ones keep their probabilities."""

import numpy as np
import pytest

from carnelian.errors import LanguageModelError
from carnelian.ngram.combine import interpolate_models, n_grams, restrict, tune_mixture
from carnelian.ngram.counts import silent
from carnelian.ngram.estimate import estimate
from carnelian.ngram.model import EMPTY, score_word


@pytest.fixture(scope="module")
def models(made, tmp_path_factory):
    """Two models over vocabularies that overlap, of different orders, one of them pruned."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "a.txt").write_text(made.text())
    (folder / "b.txt").write_text(made.text(200, 900, seed=2))
    return estimate([folder / "a.txt"], 3).model(), estimate([folder / "b.txt"], 4, prune=[0, 0, 1]).model()


def test_mixed_contexts_sum_to_one(models):
    mixed = interpolate_models(models, [0.3, 0.7], silent)
    assert set(mixed.words) == set(models[0].words) | set(models[1].words)
    for state in (EMPTY, mixed.start, *range(3, 20), *range(len(mixed.words), len(mixed.words) + 30)):
        scores = [score_word(mixed.tables, state, word)[0] for word in range(len(mixed.words)) if word != mixed.start]
        assert np.exp(scores).sum() == pytest.approx(1, abs=1e-5)


def test_mixed_probabilities_are_weighted_means(models):
    mixed = interpolate_models(models, [0.3, 0.7], silent)
    for word in ("w1", "w2", "w7"):  # n-grams that the mixed model holds, after <s>
        expected = sum(weight * np.exp(model.word_scores([word])[0]) for weight, model in zip((0.3, 0.7), models))
        assert mixed.word_scores([word])[0] == pytest.approx(np.log(expected), abs=2e-5)


def test_weights_find_the_model_of_the_text(made, models):
    mine = [line.split() for line in made.text(100, 900, seed=9).split("\n")]
    weights = tune_mixture(models, mine)
    assert weights.sum() == pytest.approx(1)
    assert weights[1] > 0.6
    assert tune_mixture([models[0], models[0]], mine) == pytest.approx([0.5, 0.5])


def test_tuned_weights_are_the_best(made, models):
    sentences = [line.split() for line in made.text(100, 500, seed=11).split("\n")]
    likelihoods = []
    for model in models:
        known = [np.append(model.numbers(words) != model.unknown, True) for words in sentences]
        scores = [np.where(k, np.exp(model.word_scores(w)), 0) for k, w in zip(known, sentences)]
        likelihoods.append(np.concatenate(scores))
    best = tune_mixture(models, sentences)[0]

    def total(weight):
        both = weight * likelihoods[0] + (1 - weight) * likelihoods[1]
        return np.log(both[both > 0]).sum()

    assert total(best) >= max(total(weight) for weight in np.linspace(0.01, 0.99, 99)) - 1e-3


def test_a_text_of_unknown_words_is_one_line(models):
    with pytest.raises(LanguageModelError, match="no word that the models know"):
        tune_mixture([restrict(models[0], [])], [])


def test_cut_models_keep_probabilities(models):
    vocabulary = ["w1", "w2", "w3", "w4", "never"]
    cut = restrict(models[0], vocabulary)
    assert sorted(cut.words) == ["</s>", "<s>", "<unk>", "w1", "w2", "w3", "w4"]
    for sentence in ("w1 w2 w3", "w4 w4 w1", ""):
        assert cut.score(sentence) == pytest.approx(models[0].score(sentence), abs=1e-5)
    assert cut.score("w9") == pytest.approx(cut.score("w77"))


def test_n_grams_are_those_of_the_arpa_file(made):
    from carnelian.ngram.arpa import read_arpa

    model = read_arpa(made.golden / "order5_prune001.arpa.gz")
    golden = made.n_grams(made.golden / "order5_prune001.arpa.gz")
    found = {}
    for block in n_grams(model):
        for words, probability, backoff in zip(block.words, block.probabilities, block.backoffs):
            found[" ".join(model.words[word] for word in words)] = (probability / np.log(10), backoff / np.log(10))
    assert found.keys() == golden.keys()
    for words, values in golden.items():
        assert found[words] == pytest.approx(values, abs=1e-5)
