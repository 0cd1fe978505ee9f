"""A model trained by ASG: it learns, its transitions are saved and resumed, and it is decoded by its best path."""

import json

import pytest
import torch

from carnelian.checkpoint import load_checkpoint
from carnelian.decoding.settings import DecodingConfig
from carnelian.decoding.viterbi import Viterbi
from carnelian.errors import CarnelianError
from carnelian.inference.recognizer import Recognizer
from carnelian.training.tasks.acoustic import train_acoustic


@pytest.fixture
def asg(recipe):
    recipe["criterion"] = {"name": "asg", "repeats": 2, "stay": 1.0}
    return recipe


@pytest.mark.slow
def test_learns_a_handful_by_heart(asg, manifest, tmp_path):
    for table in ("masks", "augment"):
        asg.pop(table)
    asg["encoder"]["blocks"][1].pop("dropout")
    asg["optimizer"] = {"name": "adamw"}
    asg["train"] |= {"steps": 150, "batch_size": 12}
    path = train_acoustic(asg, tmp_path / "run")
    recognizer = Recognizer.load(path, device="cpu")
    assert isinstance(recognizer.decoder, Viterbi)
    for line in map(json.loads, manifest.read_text().splitlines()):
        heard = recognizer(manifest.parent / line["audio_filepath"])
        assert heard.text == line["text"]
        assert 0 <= heard.words[0].start < heard.words[-1].end <= line["duration"] + 0.02
    assert torch.count_nonzero(load_checkpoint(path).weights["criterion.transitions"] - torch.eye(5))


def test_the_transitions_go_on_where_they_were(asg, tmp_path):
    asg["train"] |= {"save_every": 1, "keep_last": 9, "steps": 4}
    whole = load_checkpoint(train_acoustic(asg, tmp_path / "whole")).weights
    train_acoustic(asg, tmp_path / "parts")
    for path in (tmp_path / "parts").glob("step-0000000[34]*"):
        path.unlink()
    resumed = load_checkpoint(train_acoustic(asg, tmp_path / "parts")).weights
    assert whole["criterion.transitions"].shape == (5, 5)
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_what_asg_cannot_do_is_said(asg, tmp_path):
    path = train_acoustic(asg, tmp_path / "run")
    recognizer = Recognizer.load(path, device="cpu")
    with pytest.raises(CarnelianError, match="the beam search knows CTC alone"):
        DecodingConfig("words.arpa").decoder(recognizer.alphabet, recognizer.engine.criterion)
    asg |= {"criterion": {"name": "ctc"}, "initialize": {"checkpoint": str(path)}}
    with pytest.raises(CarnelianError, match=r"trained with asg.*Set \[initialize\] parts"):
        train_acoustic(asg, tmp_path / "other")
    del asg["criterion"]  # then it is the checkpoint's
    assert load_checkpoint(train_acoustic(asg, tmp_path / "more")).recipe["criterion"]["name"] == "asg"
