"""The spoken corpus: the same each time, and its test part unheard."""

import numpy as np
import pytest

from carnelian.corpora.synthetic import Speaker, sentences, synthesize_corpus
from carnelian.data.audio import load_audio
from carnelian.data.utterance import read_manifest
from carnelian.errors import ManifestError

pytest.importorskip("espeakng_loader")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoken")
    synthesize_corpus(folder, train=80, test=8)
    return folder


def test_test_speakers_and_sentences_are_unheard(corpus):
    train, test = (list(read_manifest(corpus / f"{name}.jsonl")) for name in ("train", "test"))
    assert (len(train), len(test)) == (80, 8)
    assert not {utterance.text for utterance in train} & {utterance.text for utterance in test}
    heard, unheard = ({u.more["speaker"].split("+")[1] for u in subset} for subset in (train, test))
    assert len(heard) > 10 and not heard & unheard
    assert len({utterance.text for utterance in test}) == 8


def test_recordings_are_speech_of_the_stated_length(corpus):
    for utterance in read_manifest(corpus / "test.jsonl"):
        audio = load_audio(utterance, 16000)
        assert len(audio) == round(utterance.duration * 16000)
        assert 0.02 < np.sqrt(np.mean(audio**2)) < 0.3
        assert 0.04 < utterance.duration / len(utterance.text) < 0.12


def test_same_seed_same_bytes(corpus, tmp_path):
    synthesize_corpus(tmp_path, train=80, test=8)
    for path in corpus.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / path.relative_to(corpus)).read_bytes()


def test_a_finished_corpus_is_not_overwritten(corpus):
    with pytest.raises(ManifestError, match="holds a corpus already"):
        synthesize_corpus(corpus)


def test_an_interrupted_one_is_made_again(corpus, tmp_path):
    (tmp_path / "train.jsonl").write_text("")
    synthesize_corpus(tmp_path, train=2, test=1)
    assert len(list(read_manifest(tmp_path / "train.jsonl"))) == 2


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ManifestError, match="cannot be written"):
        synthesize_corpus(tmp_path / "file", train=2, test=1)


def test_more_sentences_than_the_grammar_has(tmp_path):
    with pytest.raises(ManifestError, match="sentences for 1 to 1000"):
        synthesize_corpus(tmp_path, test=3000)


def test_speakers_do_not_disturb_each_other():
    first, second = Speaker(), Speaker()
    expected = first.say("good morning", "en-us+f2")
    second.say("something else", "en")
    np.testing.assert_array_equal(Speaker().say("good morning", "en-us+f2"), expected)
    assert len(second.say("good morning", speed=100)) > 1.25 * len(expected)


def test_unknown_voice():
    with pytest.raises(ManifestError, match='voice "nobody"'):
        Speaker().say("hello", "nobody")


def test_sentences_need_no_other_letters():
    generator = sentences(np.random.default_rng(1))
    assert set("".join(next(generator) for _ in range(300))) <= set(" abcdefghijklmnopqrstuvwxyz")
