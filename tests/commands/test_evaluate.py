"""`carnelian evaluate`: texts under other keys, nothing infinite, a picture for each manifest."""

import json

import pytest


@pytest.fixture()
def manifest(tmp_path, record):
    """`manifest(name, *lines)`: a manifest of one recording with those keys besides."""
    record(tmp_path / "a.wav")

    def write(name, *lines):
        keys = [{"audio_filepath": "a.wav", "duration": 1.0} | line for line in lines]
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in keys))
        return tmp_path / name

    return write


@pytest.mark.parametrize("key", ["transcript", "transcription", "sentence", "normalized_text", "text_filepath"])
def test_texts_under_another_key(tiny_model, manifest, carnelian, tmp_path, key):
    (tmp_path / "a.txt").write_text("a b c\n")
    path = manifest("m.jsonl", {key: "a.txt" if key == "text_filepath" else "a b c"})
    code, out, _ = carnelian("evaluate", tiny_model, path, "--json-output")
    assert code == 0 and json.loads(out)["manifests"]["m"]["words"] == 3


def test_no_text_at_all_is_an_error(tiny_model, manifest, carnelian):
    for line in ({"words": "a b"}, {"text": ""}, {"text": "  "}):
        code, out, err = carnelian("evaluate", tiny_model, manifest("m.jsonl", line, line))
        assert code == 2 and out == "" and "no line has a text" in err
    assert "duration, words" in carnelian("evaluate", tiny_model, manifest("m.jsonl", {"words": "a"}))[2]


def test_a_missing_text_file_is_named(tiny_model, manifest, carnelian):
    code, _, err = carnelian("evaluate", tiny_model, manifest("m.jsonl", {"text_filepath": "gone.txt"}))
    assert code == 2 and "m.jsonl:1" in err and "gone.txt" in err and len(err.splitlines()) == 1


def test_json_output_is_json(tiny_model, manifest, carnelian):
    path = manifest("m.jsonl", {"text": "a"}, {"text": ""})
    code, out, _ = carnelian("evaluate", tiny_model, path, "--json-output")
    assert code == 0 and "Infinity" not in out and "NaN" not in out and json.loads(out)


def test_a_duration_of_zero_is_the_whole_recording(tiny_model, manifest, carnelian):
    path = manifest("m.jsonl", *[{"text": "a", "duration": 0}] * 3)
    code, out, _ = carnelian("evaluate", tiny_model, path, "--json-output")
    assert code == 0 and json.loads(out)["audio_seconds"] == 3.0


def test_a_picture_for_each_manifest(tiny_model, manifest, carnelian, tmp_path):
    pytest.importorskip("matplotlib")
    paths = [manifest("m.jsonl", {"text": "a b"}), manifest("n.jsonl", {"text": "c"})]
    assert carnelian("evaluate", tiny_model, *paths, "--plot", tmp_path / "p.png")[0] == 0
    assert {path.name for path in tmp_path.glob("*.png")} == {"p-m.png", "p-n.png"}
    code, _, err = carnelian("evaluate", tiny_model, *paths, "--plot", tmp_path / "p.png")
    assert code == 2 and "p-m.png: exists" in err


def test_the_html_report_with_another_system_beside(tiny_model, manifest, carnelian, tmp_path):
    path = manifest("m.jsonl", {"text": "a b c", "speaker": "x"})
    assert carnelian("evaluate", tiny_model, path, "--out", tmp_path / "other.jsonl")[0] == 0
    page = tmp_path / "report.html"
    code, _, err = carnelian("evaluate", tiny_model, path, "--report", page, "--beside", tmp_path / "other.jsonl")
    assert code == 0, err
    found = json.loads(page.read_text().partition('id="payload">')[2].partition("</script>")[0])
    assert [each["name"] for each in found["systems"]] == [tiny_model.stem, "other"]
    assert found["systems"][0]["counts"] == found["systems"][1]["counts"]
    assert found["comparisons"][0]["words"] == "not distinguishable"
    clip = json.loads(page.read_text().partition('id="clip-0">')[2].partition("</script>")[0])
    assert clip["audio"].startswith("data:audio/mpeg;base64,") and max(clip["outline"]) == 1
    assert carnelian("evaluate", tiny_model, path, "--report", page)[0] == 2, "it exists"
    assert "no effect" in carnelian("evaluate", tiny_model, path, "--beside", page)[2]
