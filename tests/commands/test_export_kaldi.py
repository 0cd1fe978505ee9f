"""`carnelian export kaldi --features`: a model's features as Kaldi's archives, named as the data directory's utterances."""

import numpy as np
import pytest
import soundfile
import torch

from carnelian.checkpoint import Checkpoint, load_model, save_checkpoint
from carnelian.commands.export import kaldi_directory
from carnelian.corpora.kaldi import read_features
from carnelian.data.alphabet import Alphabet
from carnelian.data.audio import load_audio
from carnelian.data.utterance import Utterance, write_manifest
from carnelian.errors import CarnelianError
from carnelian.models.registry import build_model

LETTERS = Alphabet(" abcdefghijklmnopqrstuvwxyz'")
BLOCKS = [{"channels": 8, "kernel": 11, "stride": 2}]
RECIPE = {"features": {"name": "log_mel"}, "encoder": {"name": "convolutional", "blocks": BLOCKS}}


def test_features_are_the_model_s(tmp_path):
    pytest.importorskip("kaldiio")
    weights = build_model(RECIPE, LETTERS).state_dict()
    save_checkpoint(tmp_path / "model.safetensors", Checkpoint(weights, LETTERS, {"task": "acoustic", **RECIPE}, 0, {}))
    utterances = []
    for name, seconds in (("b", 1.0), ("a", 0.5)):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, int(16000 * seconds)), 16000)
        utterances.append(Utterance(str(path), seconds, "yes"))
    write_manifest(tmp_path / "in.jsonl", utterances)
    kaldi_directory(tmp_path / "in.jsonl", tmp_path / "data", features=tmp_path / "model.safetensors")
    found = dict(read_features(tmp_path / "data" / "feats.scp"))
    names = [line.split()[0] for line in (tmp_path / "data" / "utt2spk").read_text().splitlines()]
    assert list(found) == names == ["a", "b"]
    model, _ = load_model(tmp_path / "model.safetensors")
    for name, utterance in zip("ba", utterances):
        audio = torch.from_numpy(load_audio(utterance, 16000))
        expected, frames = model.eval().features(audio[None], torch.tensor([len(audio)]))
        np.testing.assert_array_equal(found[name], expected[0, :, : int(frames[0])].T.detach().numpy())
    with pytest.raises(CarnelianError, match="--overwrite"):
        kaldi_directory(tmp_path / "in.jsonl", tmp_path / "data")
