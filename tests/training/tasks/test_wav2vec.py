"""Pre-training of wav2vec on tones without transcripts: it learns, goes on, warns, and serves a recognizer as front end."""

import json

import numpy as np
import pytest
import soundfile
import torch

from carnelian.checkpoint import load_checkpoint, load_model, load_tensors
from carnelian.commands.export import fairseq
from carnelian.data.batch import Batch
from carnelian.data.utterance import Utterance
from carnelian.errors import CarnelianError, RecipeError
from carnelian.formats.fairseq import read_fairseq
from carnelian.formats.safe_loading import read_pickle
from carnelian.recipe import choose, load_recipe
from carnelian.training.optim import SCHEDULES
from carnelian.training.run import checkpoint_path, state_path
from carnelian.training.settings import check_pretraining_recipe
from carnelian.training.tasks.acoustic import train_acoustic
from carnelian.training.tasks.self_supervised import Monitor, crop
from carnelian.training.tasks.wav2vec import WAV2VEC, train_wav2vec

FEATURES = {
    "name": "wav2vec", "kernels": [10, 8, 4], "strides": [8, 5, 4], "context": [2, 3], "channels": 24, "skip": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    """Recordings without transcripts: tones that rise and fall, so that what comes can be predicted."""
    folder, rng, lines = tmp_path_factory.mktemp("unlabelled"), np.random.default_rng(0), []
    times = np.arange(8000) / 16000
    for index in range(12):
        frequency = 1000 + 800 * np.sin(2 * np.pi * (2 * times + rng.random()))
        audio = 0.1 * np.sin(2 * np.pi * np.cumsum(frequency) / 16000) + 0.001 * rng.standard_normal(8000)
        soundfile.write(folder / f"{index}.wav", audio, 16000)
        lines.append(json.dumps({"audio_filepath": f"{index}.wav", "duration": 0.5}) + "\n")
    (folder / "unlabelled.jsonl").write_text("".join(lines))
    return folder / "unlabelled.jsonl"


def small(manifest, **train):
    return {
        "task": "wav2vec",
        "seed": 2,
        "train": {
            "manifests": [str(manifest)], "steps": 6, "batch_size": 4, "workers": 0, "device": "cpu", "max_samples": 8000,
            **train,
        },
        "features": FEATURES,
        "contrast": {"steps": 3, "negatives": 4},
        "augment": {"gain": {}},
        "optimizer": {"name": "adam"},
        "schedule": {"name": "cosine", "peak": 0.003, "lowest": 1e-6, "warmup": 2},
    }  # fmt: skip


def test_learns_logs_validates_and_serves_as_front_end(unlabelled, manifest, recipe, tmp_path):
    path = train_wav2vec(small(unlabelled, steps=300, validation=[str(unlabelled)]), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == 300 and all(0 <= line["accuracy"] <= 1 and 0 <= line["variance"] <= 1 for line in steps)
    constant = -np.log(0.2) - 4 * np.log(0.8)  # the loss of the best answer that is always the same
    assert np.mean([line["loss"] for line in steps[-20:]]) < constant - 0.02
    error = lines[-1]["validation_contrast_error"]
    assert error < 0.75  # chance is 0.8
    found = load_checkpoint(path)
    assert found.more["validation_contrast_error"] == error
    with pytest.raises(CarnelianError, match='task = "wav2vec": no recognizer'):
        load_model(path)
    recipe = {**recipe, "features": dict(FEATURES), "train": {**recipe["train"], "steps": 1}}
    del recipe["masks"]
    recipe["schedule"] = {"name": "constant", "peak": 0.01}
    recipe["initialize"] = {"checkpoint": str(path), "parts": ["features"], "freeze": ["features"]}
    tuned = load_checkpoint(train_acoustic(recipe, tmp_path / "tuned")).weights
    front_end = {name: tensor for name, tensor in found.weights.items() if name.startswith("features.")}
    assert front_end and all(torch.equal(tuned[name], tensor) for name, tensor in front_end.items())


def test_export_to_fairseq_is_read_back(unlabelled, tmp_path):
    """Its own head of twelve steps loads by name into the published modules."""
    path = train_wav2vec({**small(unlabelled, steps=2), "contrast": {}}, tmp_path / "run")
    weights = load_checkpoint(path).weights
    fairseq(path, tmp_path / "wav2vec.pt")
    content = read_pickle("wav2vec.pt", (tmp_path / "wav2vec.pt").read_bytes())
    found = read_fairseq(tmp_path / "wav2vec.pt", content)
    assert {key: found.recipe["features"][key] for key in FEATURES} == FEATURES
    assert all(torch.equal(weights[name], tensor) for name, tensor in found.weights.items())
    head = torch.nn.ConvTranspose2d(24, 24, (1, 12))
    named = {leaf: content["model"][f"wav2vec_predictions.project_to_steps.{leaf}"] for leaf in ("weight", "bias")}
    head.load_state_dict(named)
    context = torch.randn(1, 24, 3)
    expected = context.transpose(1, 2) @ weights["contrast.weight"][11].T + weights["contrast.bias"]
    torch.testing.assert_close(head(context[..., None])[..., 11].transpose(1, 2), expected)


def test_goes_on_to_the_bit(unlabelled, tmp_path):
    whole = train_wav2vec(small(unlabelled, steps=5), tmp_path / "whole")
    train_wav2vec(small(unlabelled, steps=5, save_every=3), tmp_path / "parts")
    checkpoint_path(tmp_path / "parts", 5).unlink()  # as if killed after step 3
    state_path(tmp_path / "parts", 5).unlink()
    again = train_wav2vec(small(unlabelled, steps=5, save_every=3), tmp_path / "parts")
    first, second = load_tensors(whole)[0], load_tensors(again)[0]
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_crops_to_the_shortest_and_to_the_longest_allowed():
    audio = torch.arange(30.0).view(2, 15)
    utterances = [Utterance("a.wav", 1.5), Utterance("b.wav", 1.0)]
    empty = torch.zeros(2, 0, dtype=torch.long)
    batch = Batch(audio, torch.tensor([15, 10]), empty, torch.zeros(2, dtype=torch.long), ["", ""], utterances)
    whole = crop(batch, 100, np.random.default_rng(0))
    assert whole.audio.shape == (2, 10) and torch.equal(whole.audio[1], audio[1, :10])
    start = int(whole.audio[0, 0])
    assert torch.equal(whole.audio[0], audio[0, start : start + 10])
    assert [round(each.duration, 6) for each in whole.utterances] == [1.0, 1.0]
    assert crop(batch, 4, None).audio_lengths.tolist() == [4, 4]


def test_collapse_is_noted_once():
    monitor = Monitor()
    for variance, events in ((0.5, 0), (0.0001, 1), (0.0001, 0), (0.4, 0)):
        monitor.found.append({"accuracy": torch.tensor(0.1), "variance": torch.tensor(variance)})
        figures, found = monitor.figures()
        assert figures["variance"] == pytest.approx(variance) and len(found) == events
    assert monitor.figures() == ({}, [])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"alphabet": " ab"}, r'\[alphabet\]: a recipe with task = "wav2vec" has no such table'),
        ({"features": {"name": "log_mel"}}, "no features has this name"),
        ({"contrast": {"negatives": 0}}, r"\[contrast\] negatives = 0"),
        ({"contrast": {"positives": 1}}, "no setting is called 'positives'"),
    ],
)
def test_faulty_recipes(unlabelled, tmp_path, change, expected):
    with pytest.raises(RecipeError, match=expected):
        train_wav2vec({**small(unlabelled), **change}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "millions"), [("base", 15.49), ("large", 32.54), ("small", None)])
def test_packaged_recipes(name, millions):
    """The large model has the 32.5 million of fairseq's released file; the base model what its table adds up to."""
    recipe = load_recipe(f"wav2vec/{name}")
    config = check_pretraining_recipe(recipe, WAV2VEC.tables)
    with torch.device("meta"):
        model = WAV2VEC.build(recipe)
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert millions is None or count == pytest.approx(millions, abs=0.01)
    assert choose(SCHEDULES, recipe["schedule"], where="schedule", steps=config.steps)(config.steps) == pytest.approx(
        1e-6
    )
