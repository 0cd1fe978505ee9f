"""Names of files are data: bytes that are no UTF-8, markup, control characters."""

import json
import os

from carnelian.data.audio import load_audio
from carnelian.data.utterance import Manifest


def test_a_name_that_is_not_utf8_is_read(tmp_path, record, carnelian, tiny_model):
    folder = os.fsencode(tmp_path / "in")
    path = record(tmp_path / "in" / "a.wav")
    os.rename(path, folder + b"/\xe9t\xe9.wav")
    with open(folder + b"/\xe9t\xe9.txt", "w") as file:
        file.write("one")
    code, out, _ = carnelian("prepare", "folder", tmp_path / "in", tmp_path / "out")
    assert code == 0 and "1" in out
    [line] = (tmp_path / "out" / "all.jsonl").read_bytes().decode("utf-8").splitlines()
    assert json.loads(line)["text"] == "one"
    [utterance] = Manifest(tmp_path / "out" / "all.jsonl")
    assert len(load_audio(utterance, 16000)) == 16000
    for format in ("text", "jsonl", "ctm"):
        code, out, _ = carnelian("transcribe", tiny_model, tmp_path / "in", "--format", format)
        assert code == 0 and out
