"""Hypotheses are put in the order of their total scores; lists of one stay; weights are tuned together, and never for the worse."""

from itertools import product

import numpy as np
import pytest
from small_language_model import write_language_model, write_word_model

from carnelian.data.alphabet import Alphabet, WordList, learn_pieces
from carnelian.data.transcript import Hypothesis
from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.settings import DecodingConfig, RescoringConfig, read_decoding, write_decoding
from carnelian.errors import CarnelianError, CheckpointError, DecodingError, LanguageModelError
from carnelian.inference.long_audio import decoding_stream
from carnelian.rescoring import neural
from carnelian.rescoring.neural import load_neural_model
from carnelian.rescoring.rescorer import UNKNOWN_WORD, Rescorer, RescoringDecoder, load_rescorer, sentence_scores
from carnelian.rescoring.tuning import SEARCH_ALONE, tune_rescoring
from carnelian.scoring.wer import Errors, count_errors

ALPHABET = Alphabet(" abc")


def hypothesis(text, acoustic, language=0.0):
    return Hypothesis(text, acoustic + language, acoustic, language)


def log_probs(seed, steps=12):
    probs = np.random.default_rng(seed).dirichlet(np.ones(5) / 2, steps)
    return np.log(probs + 1e-4).astype(np.float32)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    return write_word_model(tmp_path_factory.mktemp("language"))


@pytest.fixture(scope="module")
def model(language_model):
    return load_neural_model(language_model)


def test_the_order_is_that_of_the_total_scores(model):
    rng = np.random.default_rng(0)
    texts = [" ".join(words) for count in (0, 1, 2) for words in product(["a", "ab", "cab", "bb"], repeat=count)]
    lists = [
        [hypothesis(text, -float(rng.random()) * 5, -float(rng.random()) * 5) for text in rng.permutation(texts)[:9]]
        for _ in range(6)
    ]
    config = RescoringConfig("", language_weight=0.7, neural_weight=1.3, beta=-0.4)
    for given, found in zip(lists, Rescorer(model, config)(lists), strict=True):
        totals = {}
        for each in given:
            words = each.text.split()
            [(_, scores)] = model.scores([words])
            sentence = scores.sum() - 10 * sum(word == "bb" for word in words)
            totals[each.text] = each.acoustic_score + 0.7 * each.language_score + 1.3 * sentence - 0.4 * len(words)
        assert [each.text for each in found] == sorted(totals, key=totals.get, reverse=True)
        for each in found:
            assert each.score == pytest.approx(totals[each.text], abs=1e-4)
            assert each.acoustic_score + each.language_score == pytest.approx(each.score)


def test_lists_of_one_or_none_stay_and_cost_nothing(model, monkeypatch):
    monkeypatch.setattr(type(model), "scores", lambda *_, **__: iter(()))
    lists = [[hypothesis("a b", -1.0)], [], [hypothesis("", -2.0)]]
    assert Rescorer(model, RescoringConfig(""))(lists) == lists


def test_the_search_alone_keeps_its_order(model):
    config = RescoringConfig("", language_weight=1.0, neural_weight=0.0, beta=0.0)
    decoder = BeamSearch(ALPHABET, hypotheses=20)
    for seed in range(5):
        expected = decoder(log_probs(seed))
        found = RescoringDecoder(decoder, Rescorer(model, config))(log_probs(seed))
        assert [each.text for each in found] == [each.text for each in expected] and len(expected) > 5
        assert [each.spans for each in found] == [each.spans for each in expected]


def test_batches_and_streams_say_what_each_utterance_says_alone(model, monkeypatch):
    monkeypatch.setattr(neural, "TOKENS_AT_ONCE", 40)
    decoder = RescoringDecoder(
        BeamSearch(ALPHABET, hypotheses=30), Rescorer(model, RescoringConfig("", neural_weight=2.0))
    )
    given = [log_probs(seed, 4 + seed) for seed in range(8)]
    alone = [[each.text for each in decoder(each)] for each in given]
    assert [[each.text for each in some] for some in decoder.batch(given)] == alone
    changed = [[each.text for each in BeamSearch(ALPHABET, hypotheses=30)(each)] for each in given]
    assert changed != alone and [sorted(some) for some in changed] == [sorted(some) for some in alone]
    stream = decoding_stream(decoder)
    for part in (given[7][:3], given[7][3:]):
        stream.accept(part)
    assert [each.text for each in stream.hypotheses()] == alone[7]


def test_an_unknown_word_costs_more_than_its_share_of_unk(model):
    lists = [[hypothesis("a bb", 0.0), hypothesis("a <unk>", 0.0), hypothesis("a b", 0.0)]]
    [(_, unknown)] = model.scores([["a", "bb"]])
    found = sentence_scores(model, lists)[0]
    assert found[0] == found[1] == pytest.approx(unknown.sum() + UNKNOWN_WORD)


@pytest.mark.parametrize("useful", [True, False])
def test_tuned_together_and_never_for_the_worse_on_what_they_were_tuned_on(useful):
    """Sentence scores that know the reference, and such that are noise."""
    rng, lists, sentences, references = np.random.default_rng(3), [], [], []
    for _ in range(40):
        texts = [" ".join(rng.choice(["ab", "ca", "b"], rng.integers(1, 5))) for _ in range(rng.integers(1, 7))]
        right = rng.integers(len(texts))
        lists.append([hypothesis(text, -rng.random(), -rng.random()) for text in texts])
        sentences.append(
            np.array([-1.0 if useful and index == right else -3.0 - rng.random() for index in range(len(texts))])
        )
        references.append(texts[right])
    tuning = tune_rescoring(lists, sentences, references)
    before, after = tuning.total(SEARCH_ALONE), tuning.total(tuning.best)
    assert before == sum(
        (
            count_errors(reference, max(some, key=lambda each: each.score).text)
            for some, reference in zip(lists, references)
        ),
        Errors(),
    )
    assert after.total <= before.total and tuning.oracle().total == 0
    if useful:
        assert after.total < before.total / 4 and tuning.best[1] > 0.3
    language, neural_weight, beta = tuning.best
    config = RescoringConfig("", language_weight=language, neural_weight=neural_weight, beta=beta)
    totals = [
        [
            each.acoustic_score + language * each.language_score + neural_weight * score + beta * len(each.text.split())
            for each, score in zip(some, scores)
        ]
        for some, scores in zip(lists, sentences)
    ]
    chosen = [some[int(np.argmax(row))].text for some, row in zip(lists, totals)]
    assert after == sum(map(count_errors, references, chosen), Errors()) and config.neural_weight == neural_weight


def test_settings_are_written_and_read_back(tmp_path):
    settings = DecodingConfig(rescoring=RescoringConfig(str(tmp_path / "run"), 32, 0.25, 0.125, -1.5))
    (tmp_path / "sub").mkdir()
    write_decoding(tmp_path / "sub" / "decoding.toml", settings)
    assert 'model = "../run"' in (tmp_path / "sub" / "decoding.toml").read_text()
    found = read_decoding(tmp_path / "sub" / "decoding.toml").rescoring
    assert found == RescoringConfig(str(tmp_path / "sub" / ".." / "run"), 32, 0.25, 0.125, -1.5)
    assert read_decoding_of(tmp_path, "alpha = 0.5\n").rescoring is None


def read_decoding_of(folder, text):
    (folder / "decoding.toml").write_text(text)
    return read_decoding(folder / "decoding.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[rescoring]\n", "'model' is missing"),
        ('[rescoring]\nmodel = "a"\ngamma = 1\n', "no setting is called 'gamma'"),
        ('[rescoring]\nmodel = "a"\nhypotheses = 1\n', "hypotheses = 1"),
        ('[rescoring]\nmodel = "a"\nneural_weight = -1.0\n', "neural_weight = -1"),
        ('[rescoring]\nmodel = "a"\nbeta = nan\n', "beta = "),
        ("rescoring = 3\n", "expected a table"),
    ],
)
def test_faulty_settings(tmp_path, text, said):
    with pytest.raises(DecodingError, match=said) as caught:
        read_decoding_of(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "decoding.toml"))
    with pytest.raises(DecodingError, match="hypotheses 1"):
        RescoringConfig("a", hypotheses=1)


def test_another_case_or_language_is_an_error(tmp_path, capsys):
    upper = write_language_model(tmp_path / "upper.safetensors", WordList(["<unk>", "AB", "CA", "c", "B", "A"]))
    with pytest.raises(DecodingError, match=r"4 of 5 words cannot be spelled by the alphabet.*look at the case"):
        load_rescorer(RescoringConfig(str(upper)), ALPHABET)
    half = write_language_model(tmp_path / "half.safetensors", WordList(["<unk>", "ab", "CA", "c", "b", "a"]))
    load_rescorer(RescoringConfig(str(half)), ALPHABET)
    assert "1 of 5 words cannot be spelled" in capsys.readouterr().err
    pieces = learn_pieces(["ДА НЕТ ДА", "НЕТ НЕ ДА a"], 12)
    path = write_language_model(tmp_path / "pieces.safetensors", pieces)
    with pytest.raises(LanguageModelError, match="it spells 1 of the 3 letters that the recognizer writes, not 'b'"):
        load_rescorer(RescoringConfig(str(path)), ALPHABET)
    load_rescorer(RescoringConfig(str(path)), Alphabet(" ДНЕТ"))
    letters = write_language_model(tmp_path / "letters.safetensors", Alphabet(" ab"))
    rescorer = load_rescorer(RescoringConfig(str(letters)), ALPHABET)
    assert "it spells 2 of the 3 letters" in capsys.readouterr().err
    assert rescorer.language_model.known(["ab", "cab"]).tolist() == [True, False]


def test_a_checkpoint_of_another_kind_is_an_error(tmp_path, language_model):
    (tmp_path / "cut.safetensors").write_bytes(language_model.read_bytes()[:-100])
    (tmp_path / "lm.arpa").write_text("\\data\\\nngram 1=1\n")
    for path, kind, said in (
        (tmp_path / "absent", CheckpointError, "no such checkpoint"),
        (tmp_path, CheckpointError, "no checkpoint in this folder"),
        (tmp_path / "cut.safetensors", CheckpointError, "not a whole checkpoint"),
        (tmp_path / "lm.arpa", CarnelianError, "a language model, not a checkpoint"),
    ):
        with pytest.raises(kind, match=said):
            load_rescorer(RescoringConfig(str(path)), ALPHABET)
