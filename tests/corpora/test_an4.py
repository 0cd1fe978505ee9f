"""AN4 as it is unpacked, and with its faults."""

import pytest

from carnelian.corpora.an4 import an4
from carnelian.errors import ManifestError


def write(folder, transcription, names="clstk/fash/an1-fash-b\n"):
    (folder / "etc").mkdir()
    for subset in ("train", "test"):
        (folder / "etc" / f"an4_{subset}.fileids").write_text(names)
        (folder / "etc" / f"an4_{subset}.transcription").write_text(transcription)
    return folder


@pytest.mark.parametrize("line", ["<s> GO </s> (an1-fash-b)", "GO (an1-fash-b)"])
def test_both_forms_of_a_line(tmp_path, line):
    (utterance,) = an4(write(tmp_path, line + "\n"))["train"]
    assert utterance.text == "go"
    assert utterance.more == {"speaker": "fash"}
    assert utterance.audio_filepath == str(tmp_path / "wav/clstk/fash/an1-fash-b.sph")


@pytest.mark.parametrize(
    "transcription, finding", [("GO\n", 'a line "GO"'), ("GO (an2-fash-b)\n", "no words for an1-fash-b")]
)
def test_faults_are_named(tmp_path, transcription, finding):
    with pytest.raises(ManifestError, match=finding):
        list(an4(write(tmp_path, transcription))["train"])


def test_missing_lists(tmp_path):
    with pytest.raises(ManifestError, match="no etc/an4_train"):
        list(an4(tmp_path)["train"])


def test_real_corpus(shared):
    subsets = {name: list(utterances) for name, utterances in an4(shared("an4")).items()}
    assert {name: len(utterances) for name, utterances in subsets.items()} == {"train": 818, "test": 130}
    assert subsets["test"][1].text == "erase v x s x two four nine nine"
    assert len({utterance.more["speaker"] for utterance in subsets["train"]}) == 64
    assert set("".join(utterance.text for utterance in subsets["train"])) <= set(" abcdefghijklmnopqrstuvwxyz")
