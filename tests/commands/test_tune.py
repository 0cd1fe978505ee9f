"""`carnelian tune` writes the settings that the other commands take."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from carnelian.commands import tune as command
from carnelian.data.alphabet import Alphabet
from carnelian.data.utterance import Manifest
from carnelian.decoding.settings import read_decoding
from carnelian.errors import CarnelianError, DecodingError, MissingExtraError
from carnelian.inference.emissions import Emissions

ARPA = """\\data\\
ngram 1=5

\\1-grams:
-2\t<unk>
-99\t<s>
-1\t</s>
-0.3\tab
-1\tb

\\end\\
"""


@pytest.fixture()
def folder(tmp_path, monkeypatch):
    """A manifest, a language model, and a recognizer with nearly the same probability for "ab" and "cb"."""
    alphabet = Alphabet(" abc")
    probs = np.array([[0.02, 0.45, 0.01, 0.51, 0.01], [0.01, 0.01, 0.96, 0.01, 0.01]], np.float32)

    def batches(utterances, *, batch_seconds):
        yield [0, 1], list(utterances), [Emissions(np.log(probs), 0.5)] * 2, [1.0, 1.0]

    def load(path, *, decoding, device):
        decoder, stretches = decoding.decoder(alphabet), decoding.time_stretches or (1.0,)
        return SimpleNamespace(alphabet=alphabet, batches=batches, decoder=decoder, time_stretches=stretches)

    monkeypatch.setattr(command, "Recognizer", SimpleNamespace(load=load))
    lines = [{"audio_filepath": "a.wav", "duration": 1.0, "text": "ab"}] * 2
    (tmp_path / "held_out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "words.arpa").write_text(ARPA)
    assert len(list(Manifest(tmp_path / "held_out.jsonl"))) == 2
    return tmp_path


def test_settings_picture_and_rates(folder, capsys):
    command.tune(
        folder / "model.safetensors",
        [folder / "held_out.jsonl"],
        language_model=folder / "words.arpa",
        out=folder / "decoding.toml",
        plot=folder / "rates.png",
        alpha=[0.0, 1.0],
        beta=[0.0, 1.0],
        beam_width=[4, 8],
        refinements=1,
        time_stretch=[1.0, 1.2],
    )
    settings = read_decoding(folder / "decoding.toml")
    assert settings.time_stretches == (1.0, 1.2)
    assert settings.beam_width == 4 and 0 < settings.alpha < 1  # the middle of weights that do equally well
    assert settings.decoder(Alphabet(" abc")).language.rules.alpha == settings.alpha
    assert (folder / "rates.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "100.00" in printed and "0.00" in printed and "oracle" in printed


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"beam_width": [0]}, "beam width 0"),
        ({"beam_width": []}, "at least one value"),
        ({"refinements": -2}, "refinements -2"),
        ({"alpha": [-1.0]}, "alpha -1"),
        ({"beta": [float("nan")]}, "beta nan"),
        ({"batch_seconds": -1.0}, "batch-seconds -1"),
        ({"out": Path("held_out.jsonl")}, "exists"),
        ({"plot": Path("held_out.jsonl")}, "exists"),
        ({"out": Path("held_out.jsonl/x.toml")}, "could not be written"),
    ],
    ids=str,
)
def test_what_is_wrong_is_found_before_the_model_is_loaded(folder, monkeypatch, settings, said):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(command.Recognizer, "load", None)
    with pytest.raises(CarnelianError, match=said):
        command.tune(
            Path("none"), [Path("none")], language_model=Path("none"), **({"out": Path("new.toml")} | settings)
        )


def test_a_missing_package_is_found_before_the_model_is_loaded(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(command.Recognizer, "load", None)
    monkeypatch.setattr("carnelian.scoring.report.plots.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"carnelian\[plot\]"):
        command.tune(
            Path("none"), [Path("none")], language_model=Path("none"), out=Path("x.toml"), plot=Path("new.png")
        )


def test_without_a_language_model(folder):
    with pytest.raises(DecodingError, match="Give --language-model"):
        command.tune(folder / "model.safetensors", [folder / "held_out.jsonl"])
