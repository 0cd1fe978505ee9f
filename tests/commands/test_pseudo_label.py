"""`carnelian pseudo-label`: the transcripts that a recognizer is confident of become a manifest."""

import json

import pytest


@pytest.fixture()
def unlabelled(tmp_path, record):
    """A manifest of four recordings with another's texts, and one that is gone."""
    lines = []
    for index in range(4):
        path = record(tmp_path / f"{index}.wav", 1.0 + index / 4, seed=index)
        lines.append(
            {"audio_filepath": str(path), "duration": 1.0 + index / 4, "text": "not used", "speaker": f"s{index}"}
        )
    (tmp_path / "some.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    lines.insert(2, {"audio_filepath": str(tmp_path / "gone.wav"), "duration": 1.0, "text": ""})
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_texts_and_confidences_are_the_recognizers(tiny_model, unlabelled, carnelian):
    out = unlabelled / "out.jsonl"
    code, _, err = carnelian("pseudo-label", tiny_model, unlabelled / "some.jsonl", "--out", out, "--min-confidence", 0)
    assert code == 0, err
    _, transcripts, _ = carnelian("transcribe", tiny_model, unlabelled / "some.jsonl", "--format", "jsonl")
    expected = [json.loads(line) for line in transcripts.splitlines()]
    labelled = {line["audio_filepath"].rsplit("/")[-1]: line for line in read(out)}
    with_words = [line for line in expected if line["text"]]
    assert with_words and len(labelled) == len(with_words)
    for line in with_words:
        own = labelled[line["audio_filepath"].rsplit("/")[-1]]
        confidences = [word["confidence"] for word in line["words"]]
        assert own["text"] == line["text"] and own["speaker"].startswith("s")
        assert own["confidence"] == pytest.approx(sum(confidences) / len(confidences), abs=1e-3)


def test_only_confident_ones_are_written(tiny_model, unlabelled, carnelian):
    everything, some = unlabelled / "everything.jsonl", unlabelled / "confident.jsonl"
    carnelian("pseudo-label", tiny_model, unlabelled / "some.jsonl", "--out", everything, "--min-confidence", 0)
    confidences = sorted(line["confidence"] for line in read(everything))
    code, _, err = carnelian(
        "pseudo-label", tiny_model, unlabelled / "some.jsonl", "--out", some, "--min-confidence", confidences[-1]
    )
    assert code == 0, err
    assert [line["confidence"] for line in read(some)] == [each for each in confidences if each == confidences[-1]]
    code, _, err = carnelian("pseudo-label", tiny_model, unlabelled / "some.jsonl", "--out", some)
    assert code == 2 and "--overwrite" in err
    some.unlink()
    code, _, err = carnelian(
        "pseudo-label", tiny_model, unlabelled / "some.jsonl", "--out", some, "--min-confidence", 1
    )
    assert code == 2 and "Lower --min-confidence" in err and not some.exists()


def test_an_unreadable_recording_costs_only_itself(tiny_model, unlabelled, carnelian):
    out = unlabelled / "out.jsonl"
    code, _, err = carnelian("pseudo-label", tiny_model, unlabelled / "all.jsonl", "--out", out, "--min-confidence", 0)
    assert code == 2 and "1 of 5 recordings left out" in err and "gone.wav" in err
    carnelian(
        "pseudo-label", tiny_model, unlabelled / "some.jsonl", "--out", unlabelled / "o.jsonl", "--min-confidence", 0
    )
    assert read(out) == read(unlabelled / "o.jsonl")
