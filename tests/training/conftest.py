"""A spoken corpus of tones, and a recipe for a network so small that a training takes a blink."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile


def write_corpus(folder: Path, count: int = 12, equal: bool = False) -> Path:
    """A manifest of short tones: `a` is a low one, `b` a high one."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(count):
        text = "".join(rng.choice(["a", "b"], 3 if equal else rng.integers(2, 5)))
        times = np.arange(2400) / 16000
        tones = [np.sin(2 * np.pi * (440 if letter == "a" else 1760) * times) for letter in text]
        audio = np.concatenate(tones) * 0.1 + 0.01 * rng.standard_normal(len(text) * 2400)
        soundfile.write(folder / f"{index}.wav", audio, 16000)
        lines.append({"audio_filepath": f"{index}.wav", "duration": len(audio) / 16000, "text": text})
    manifest = folder / "train.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return manifest


def small_recipe(manifest: Path, **train) -> dict:
    """A recipe with all that draws random numbers in it: dropout, masks, dither, speed, shuffling."""
    return {
        "task": "acoustic",
        "alphabet": " ab",
        "seed": 3,
        "train": {"manifests": [str(manifest)], "steps": 8, "batch_size": 4, "workers": 0, "device": "cpu", **train},
        "features": {"name": "log_mel", "features": 16},
        "masks": {"spec_augment": {"frequency_width": 4, "time_width": 5}},
        "augment": {"speed": {"low": 0.9, "high": 1.1}},
        "encoder": {
            "name": "convolutional",
            "blocks": [
                {"channels": 16, "kernel": 5, "stride": 2, "separable": True},
                {"channels": 16, "kernel": 5, "residual": "plain", "dropout": 0.2},
            ],
        },
        "optimizer": {"name": "novograd"},
        "schedule": {"name": "cosine", "peak": 0.02, "warmup": 2},
    }


@pytest.fixture(scope="session")
def manifest(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("tones"))


@pytest.fixture
def long_manifest(tmp_path) -> Path:
    return write_corpus(tmp_path / "long", 60)


@pytest.fixture
def recipe(manifest) -> dict:
    return small_recipe(manifest)


@pytest.fixture(scope="session")
def tones(tmp_path_factory):
    """A manifest of recordings without transcripts: tones that rise and fall, so that what is hidden can be predicted."""
    folder, rng, lines = tmp_path_factory.mktemp("unlabelled"), np.random.default_rng(0), []
    for index in range(8):
        frequency = 1000 + 800 * np.sin(2 * np.pi * (np.arange(8000) / 8000 + rng.random()))
        soundfile.write(folder / f"{index}.wav", 0.1 * np.sin(2 * np.pi * np.cumsum(frequency) / 16000), 16000)
        lines.append(json.dumps({"audio_filepath": f"{index}.wav", "duration": 0.5, "text": ""}) + "\n")
    (folder / "unlabelled.jsonl").write_text("".join(lines))
    return folder / "unlabelled.jsonl"
