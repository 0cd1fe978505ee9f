"""The main job on a corpus that is made on the spot: `carnelian quickstart`."""

import time
from pathlib import Path
from typing import Annotated

import torch

from carnelian.commands.evaluate import evaluate
from carnelian.commands.language_model import build
from carnelian.commands.options import RecognizerOptions
from carnelian.commands.train import train
from carnelian.commands.transcribe import transcribe
from carnelian.console import note
from carnelian.corpora.synthetic import synthesize_corpus
from carnelian.data.utterance import Manifest
from carnelian.files import written

RECIPE = """\
# A small QuartzNet for a small corpus: commands to a house, spoken by espeak-ng.
# Train: carnelian train {folder}/recipe.toml --out {folder}/run
task     = "acoustic"
alphabet = " abcdefghijklmnopqrstuvwxyz'"
seed     = 1

[train]
manifests  = ["{folder}/corpus/train.jsonl"]
epochs     = 9
batch_size = 16         # utterances in a step
average    = 0.99       # of the weights, over about the last hundred steps

[features]
name = "log_mel"

[encoder]               # QuartzNet's blocks, narrow, with a stride of 4
name = "convolutional"
blocks = [
    {{ channels = 128, kernel = 11, stride = 2, separable = true }},
    {{ channels = 128, kernel = 11, stride = 2, separable = true }},
    {{ channels = 128, kernel = 11, repeat = 2, residual = "plain", separable = true }},
    {{ channels = 128, kernel = 13, repeat = 2, residual = "plain", separable = true }},
    {{ channels = 128, kernel = 15, repeat = 2, residual = "plain", separable = true }},
    {{ channels = 128, kernel = 17, repeat = 2, residual = "plain", separable = true }},
    {{ channels = 256, kernel = 1 }},
]

[masks.spec_augment]    # bands and spans of frames set to zero while training
frequency_masks = 2
frequency_width = 12
time_masks      = 2
time_width      = 15

[optimizer]
name         = "adamw"
weight_decay = 0.01

[schedule]
name   = "cosine"
peak   = 0.008
warmup = 100
"""


TRAINED = 3000  # utterances


def quickstart(
    *, folder: Annotated[Path, "where corpus, recipe and run go; run again, it goes on"] = Path("quickstart")
) -> None:
    """Make a small spoken corpus, train a recognizer on it, and measure it on voices and sentences that the training did not have.

    Example: carnelian quickstart --folder quickstart
    """
    started = time.monotonic()
    recipe, corpus = folder / "recipe.toml", folder / "corpus"
    test, other, words = corpus / "test.jsonl", corpus / "other.jsonl", folder / "words.arpa"
    note(f"1  A corpus, spoken by espeak-ng: {corpus}")
    if not other.exists():
        synthesize_corpus(corpus, train=TRAINED)
    with written(recipe) as file:
        file.write(RECIPE.format(folder=folder.as_posix()))
    threads = torch.get_num_threads()
    note(f"2  Training a QuartzNet from random weights, on {threads} thread{'s' * (threads > 1)}: {recipe}")
    model = train(recipe, out=folder / "run")
    note(f"3  A language model of the training's words: {words}")
    build([corpus / "train.jsonl"], order=2, arpa=words, overwrite=True)
    options = RecognizerOptions(language_model=words, closed_vocabulary=True)
    note(
        "4  On new voices: test.jsonl has new sentences of the training's patterns, other.jsonl has patterns that the training "
        "did not have, as your own commands would (of the same words; it knows no others)"
    )
    evaluate(model, [test, other], options=options)
    utterance = Manifest(other)[0]
    note(f"5  One of them; its reference is: {utterance.text}")
    transcribe(model, [Path(utterance.audio_filepath)], options=options)
    note(
        f"{time.monotonic() - started:.0f} s in all. What was made:\n"
        f"   {corpus}  recordings and manifests\n   {recipe}  the experiment, for you to change\n   {model}  the recognizer\n"
        "Try next:\n"
        f"   carnelian transcribe {model} {corpus}/audio/test-00001.wav --format srt --language-model {words} --closed-vocabulary\n"
        f"   carnelian evaluate {model} {other} --report {folder}/report.html\n"
        f"   carnelian train {recipe} --out {folder}/wider --set train.epochs=30\n"
        "   carnelian prepare folder YOUR_RECORDINGS manifests"
    )
