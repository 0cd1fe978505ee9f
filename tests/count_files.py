"""Counts the files of the package that one batch of a training, and one utterance of a loaded recognizer, go through.

python tests/count_files.py
"""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

import carnelian
from carnelian.data.alphabet import Alphabet
from carnelian.data.utterance import Utterance, write_manifest
from carnelian.inference.recognizer import Recognizer
from carnelian.inference.torch_engine import ready_engine
from carnelian.models.registry import build_model
from carnelian.training.corpus import Corpus
from carnelian.training.distributed import World
from carnelian.training.fit import Training, fit
from carnelian.training.optim import adamw
from carnelian.training.settings import check_recipe
from carnelian.training.tasks.acoustic import acoustic_loss

HOME = str(Path(carnelian.__file__).parent)


def entered(work: Callable[[], object]) -> list[str]:
    """Returns the files of the package whose functions are called while `work` runs, in all its threads."""
    files: set[str] = set()

    def note(frame, event, argument) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(HOME):
            files.add(str(Path(frame.f_code.co_filename).relative_to(HOME)))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return sorted(files)


def prepared(folder: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    """Returns one step of a training on a batch, and the transcription of a recording, with all that comes before them done."""
    audio = 0.1 * np.random.default_rng(0).standard_normal(16000)
    soundfile.write(folder / "a.wav", audio, 16000)
    write_manifest(folder / "train.jsonl", [Utterance(str(folder / "a.wav"), 1.0, "a b")] * 4)
    encoder = {"name": "quartznet", "blocks": 5, "repeat": 1, "width": 0.05}
    recipe = {
        "alphabet": " ab",
        "train": {
            "manifests": [str(folder / "train.jsonl")],
            "steps": 2,
            "batch_size": 2,
            "workers": 0,
            "device": "cpu",
        },
        "features": {"name": "log_mel"},
        "masks": {"spec_augment": {}},
        "augment": {"speed": {}},
        "encoder": encoder,
        "optimizer": {"name": "adamw"},
        "schedule": {"name": "constant", "peak": 0.001},
    }
    alphabet = Alphabet(" ab")
    corpus = Corpus(check_recipe(recipe), recipe, alphabet, 16000, World())
    model = build_model(recipe, alphabet)
    training = Training(model, adamw(model.parameters()))
    reports = fit(training, epoch_batches=corpus.batches, loss=acoustic_loss, schedule=lambda step: 0.001, steps=2)
    next(reports)
    recognizer = Recognizer(ready_engine(build_model(recipe, alphabet), alphabet))
    recognizer(folder / "a.wav")
    return lambda: next(reports), lambda: recognizer(folder / "a.wav")


def counted() -> tuple[list[str], list[str]]:
    """Returns the files that a batch and an utterance go through."""
    with TemporaryDirectory() as folder:
        return tuple(entered(work) for work in prepared(Path(folder)))  # type: ignore[return-value]


if __name__ == "__main__":
    for name, files in zip(("a batch of a training", "an utterance of a recognizer"), counted()):
        print(f"{name}: {len(files)} files\n  " + "\n  ".join(files))
