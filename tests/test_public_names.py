"""The public names: what there is, that importing them is light, and that editors and type checkers see them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import carnelian
from carnelian.inference.torch_engine import TorchEngine
from carnelian.models.registry import build_model

USER = """
import carnelian
from carnelian import CarnelianError, Recognizer, Transcript, wer

recognizer: Recognizer = carnelian.load("model.safetensors", device="cpu")
transcript: Transcript = recognizer("recording.wav")
texts: list[str] = [each.text for each in recognizer(["a.wav", "b.wav"])]
subtitles: str = transcript.to_srt()
rate: float = wer(["one two"], ["one too"])
decoder: carnelian.Decoder = carnelian.Greedy(carnelian.Alphabet(" ab"))
try:
    carnelian.load_audio("a.wav", 16000)
except CarnelianError as error:
    print(error)
"""


def test_the_names_are_pinned():
    assert sorted(carnelian.PUBLIC) == [
        "Alphabet",
        "BeamSearch",
        "CarnelianError",
        "Corrector",
        "Decoder",
        "DecodingConfig",
        "Errors",
        "Greedy",
        "Hypothesis",
        "Manifest",
        "Recognizer",
        "Transcript",
        "Utterance",
        "count_errors",
        "load",
        "load_audio",
        "load_language_model",
        "load_model",
        "read_manifest",
        "wer",
        "write_manifest",
    ]


def test_every_name_is_there():
    for name in carnelian.PUBLIC:
        assert getattr(carnelian, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Recogniser'"):
        _ = carnelian.Recogniser


def test_nothing_heavy_at_import():
    code = "import carnelian, sys; print([name for name in ('torch', 'numba', 'numpy', 'rich', 'typer') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.slow
def test_mypy_sees_the_names(tmp_path):
    """A user's ten lines pass, a wrong name and a wrong type are found."""
    (tmp_path / "right.py").write_text(USER)
    (tmp_path / "wrong.py").write_text(
        USER.replace("import CarnelianError, Recognizer", "import CarnelianError, Recogniser, Recognizer")
    )
    (tmp_path / "type.py").write_text(USER.replace("rate: float", "rate: str"))

    def mypy(name):
        command = [
            sys.executable,
            "-m",
            "mypy",
            "--follow-imports=silent",
            "--cache-dir",
            str(tmp_path / "cache"),
            name,
        ]
        home = str(Path(carnelian.__file__).parents[1])  # an editable installation is not found by mypy
        environment = {**os.environ, "MYPYPATH": home}
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment).stdout

    assert "Success" in mypy("right.py")
    assert 'has no attribute "Recogniser"' in mypy("wrong.py")
    assert "Incompatible types in assignment" in mypy("type.py")


@pytest.fixture(scope="module")
def recognizer():
    torch.manual_seed(0)
    encoder = {"name": "convolutional", "blocks": [{"channels": 8, "kernel": 3}]}
    alphabet = carnelian.Alphabet(" abc")
    model = build_model({"features": {"name": "log_mel"}, "encoder": encoder}, alphabet)
    return carnelian.Recognizer(TorchEngine(model, alphabet))


def test_audio_in_all_its_forms(recognizer, tmp_path):
    """Paths, lists in their order, arrays, tensors, integers, other rates: the same sound gives the same text."""
    import soundfile

    rng = np.random.default_rng(0)
    audio = (0.1 * rng.standard_normal(16000)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", audio, 16000, subtype="FLOAT")
    expected = recognizer(audio).text
    assert expected
    for same in (tmp_path / "a.wav", str(tmp_path / "a.wav"), torch.from_numpy(audio), audio[None], audio[:, None]):
        assert recognizer(same).text == expected
    whole = np.round(audio * 32768).astype(np.int16)
    assert recognizer(whole).text == recognizer(whole.astype(np.float64) / 32768).text
    both = recognizer([tmp_path / "a.wav", audio[:8000]])
    assert [each.text for each in both] == [expected, recognizer(audio[:8000]).text]
    assert recognizer(np.repeat(audio, 3), sample_rate=48_000).duration == pytest.approx(1.0)


def test_what_is_no_audio_is_one_line(recognizer, tmp_path):
    for wrong, words in (
        (np.zeros((2, 100), np.float32), r"shape \(2, 100\).*one channel"),
        (np.array([0.0, np.nan], np.float32), "NaN or infinity"),
        (tmp_path / "none.wav", "no such file"),
        (3, "int cannot be transcribed"),
    ):
        with pytest.raises(carnelian.CarnelianError, match=words):
            recognizer(wrong)


def test_word_error_rates_of_texts_and_lists():
    assert carnelian.wer("a b c", "a x c") == pytest.approx(1 / 3)
    assert carnelian.wer(["a b", "c"], ["a b", ""]) == pytest.approx(1 / 3), "over all words, not a mean of rates"
    for one, other in ((["a"], ["a", "b"]), ("a", ["a"])):
        with pytest.raises(carnelian.CarnelianError):
            carnelian.wer(one, other)


def test_transcripts_write_themselves(recognizer):
    transcript = recognizer(0.1 * np.random.default_rng(1).standard_normal(16000).astype(np.float32))
    assert transcript.to_srt().startswith("1\n00:00:0") and transcript.to_vtt().startswith("WEBVTT")
    assert '"audio_filepath": "a.wav"' in transcript.to_json("a.wav") and transcript.to_ctm("a").startswith("a 1 ")


def test_utterances_are_hashable():
    assert len({carnelian.Utterance("a.wav", 1.0, more={"speaker": "x"}), carnelian.Utterance("a.wav", 1.0)}) == 2
