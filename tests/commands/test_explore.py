"""`carnelian explore`: manifests in, one HTML file out."""

import json

import pytest


@pytest.fixture()
def manifest(tmp_path, record):
    lines = []
    for number in range(4):
        record(tmp_path / f"{number}.wav", seconds=1.0 + number, seed=number)
        lines.append({"audio_filepath": f"{number}.wav", "duration": 1.0 + number, "text": "a b c"})
    lines += [lines[2], {"audio_filepath": "gone.wav", "duration": 1.0, "text": "a"}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "m.jsonl"


def read(page):
    return json.loads(page.read_text().partition('id="payload">')[2].partition("</script>")[0])


def test_a_corpus(manifest, carnelian, tmp_path):
    code, _, err = carnelian("explore", manifest, "--out", tmp_path / "page.html")
    assert code == 0, err
    found = read(tmp_path / "page.html")
    assert found["title"] == "m" and found["utterances"] == 6 and dict(found["outliers"])["duplicate"] == 1
    assert len(found["clips"]) == 5, "one has no recording"
    assert carnelian("explore", manifest, "--out", tmp_path / "page.html")[0] == 2, "it exists"


def test_with_a_model_and_a_language_model(tiny_model, manifest, carnelian, tmp_path):
    text, words = tmp_path / "text.txt", tmp_path / "words.arpa"
    text.write_text("a b\n" * 3)
    assert carnelian("language-model", "build", text, "--order", "2", "--arpa", words)[0] == 0
    options = ("--model", tiny_model, "--language-model", words, "--out", tmp_path / "page.html")
    code, _, err = carnelian("explore", manifest, *options)
    assert code == 0, err
    found = read(tmp_path / "page.html")
    assert found["model"]["name"] == tiny_model.stem and found["model"]["rate"] > 0
    assert dict(found["outliers"])["not read"] == 1
    assert found["outside"] == {"words": 5, "distinct": 1, "most": [["c", 5]]}


def test_an_empty_manifest_and_a_broken_line_are_one_line(carnelian, tmp_path):
    (tmp_path / "m.jsonl").write_text("\n")
    assert "it is empty" in carnelian("explore", tmp_path / "m.jsonl", "--out", tmp_path / "p.html")[2]
    (tmp_path / "m.jsonl").write_text("{}\n")
    code, _, err = carnelian("explore", tmp_path / "m.jsonl", "--out", tmp_path / "p.html")
    assert (
        code == 2 and "m.jsonl:1" in err and len(err.strip().splitlines()) == 1 and not (tmp_path / "p.html").exists()
    )
