"""LibriSpeech from any height of its tree."""

import pytest

from carnelian.corpora.librispeech import librispeech
from carnelian.errors import ManifestError


@pytest.fixture
def tree(tmp_path):
    chapter = tmp_path / "LibriSpeech" / "dev-clean" / "84" / "121123"
    chapter.mkdir(parents=True)
    (chapter / "84-121123.trans.txt").write_text("84-121123-0000 GO, DO YOU HEAR\n84-121123-0001 BUT IN LESS\n")
    return tmp_path


@pytest.mark.parametrize("below", ["", "LibriSpeech", "LibriSpeech/dev-clean"])
def test_subsets_from_any_height(tree, below):
    ((name, utterances),) = librispeech(tree / below).items()
    first, second = utterances
    assert name == "dev-clean"
    assert (first.text, first.more) == ("go, do you hear", {"speaker": "84"})
    assert second.audio_filepath.endswith("84/121123/84-121123-0001.flac")


def test_no_corpus(tmp_path):
    with pytest.raises(ManifestError, match="no LibriSpeech in it"):
        librispeech(tmp_path)


def test_real_tree(shared):
    subsets = librispeech(shared("librispeech"))
    assert {name: len(list(utterances)) for name, utterances in subsets.items()} == {
        "test-clean": 4,
        "test-other": 50,
        "train-clean-100": 260,
    }
