# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Adapting a recognizer to a new domain
#
# A trained recognizer knows speech. Your recordings have other words, other speakers, another microphone. To adapt the
# recognizer takes minutes of transcribed speech, where a training from random weights takes hours of it.
#
# This notebook measures a trained model on recordings of a new domain, single spoken digits at 8 kHz, then improves it
# step by step: a language model of the domain, the head alone, the whole network. The same network is trained from
# random weights beside it. `docs/adapting.md` has the same steps for a large pretrained model and your own recordings.
#
# | variable | meaning |
# |---|---|
# | `MODEL=PATH` | a run of `an4/quartznet`, such as that of `an4.ipynb`; else a small model is trained here |
# | `FSDD=FOLDER` | a copy of the Free Spoken Digit Dataset (the folder with `recordings`); else digits are synthesized |
# | `CARNELIAN_SHORT=1` | train for few steps only, to see that everything runs |
#
# The outputs kept in the repository are those of a full execution, with the digits of FSDD and a run of `an4/quartznet`: two
# and a half minutes of training on one thread. The test has the speakers of the training, as the dataset's makers divide
# it; on speakers in neither list adapting gains much less (`docs/RESULTS.md`, "Transfer").

# %% [markdown]
# ## 1. Installation

# %%
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("carnelian") is None:
    package = os.environ.get("CARNELIAN_PACKAGE", "carnelian[train,quickstart,plot]")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", package], check=True)

# %%
import dataclasses
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import carnelian
from carnelian.data.audio import audio_info
from carnelian.data.utterance import Utterance

SHORT = bool(os.environ.get("CARNELIAN_SHORT"))
WORK = Path("transfer-notebook")  # everything that this notebook makes
WORK.mkdir(exist_ok=True)
STEPS = 20 if SHORT else 300


def shell(command: str, shown: bool = True) -> None:
    """Runs a command of carnelian and prints what it prints; stops the notebook where it fails."""
    print("$", command, flush=True)
    command = command.replace("carnelian ", f'"{sys.executable}" -m carnelian ', 1)
    environment = {name: value for name, value in os.environ.items() if "COLOR" not in name}  # no bars, no colours
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, shell=True, env=environment, **output)
    if shown or done.returncode:
        print(done.stdout)
    done.check_returncode()


# %% [markdown]
# ## 2. The trained model
#
# Where no model is given, a small one learns a few English commands, spoken by a synthesizer.

# %%
if "MODEL" in os.environ:
    MODEL = os.environ["MODEL"]
else:
    MODEL = WORK / "general"
    shell(f"carnelian synthesize {WORK}/commands --train {60 if SHORT else 1000} --test 20 --overwrite", shown=False)
    shell(
        f"carnelian train fsdd/digits --out {MODEL} --set 'train.manifests=[\"{WORK}/commands/train.jsonl\"]' "
        f"--set train.steps={20 if SHORT else 1500} --set schedule.peak=0.005 --set schedule.warmup=20",
        shown=False,
    )
shell(f"carnelian info {MODEL}")

# %% [markdown]
# ## 3. Recordings of the domain
#
# 200 recordings are the test. 100 others are for training. In your own case, let the speakers of the test be others
# than those of the training: `carnelian prepare folder RECORDINGS data --hold-out 4` does that.

# %%
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def real_digits(folder: Path) -> tuple[list[Utterance], list[Utterance]]:
    """Training and test of the Free Spoken Digit Dataset, as its makers divide it: the test has the numbers 0 to 4."""
    training, test = [], []
    for path in sorted((folder / "recordings").glob("*.wav")):
        digit, speaker, number = path.stem.split("_")
        more = {"speaker": speaker}
        utterance = Utterance(str(path.resolve()), audio_info(path).duration, DIGITS[int(digit)], more=more)
        (test if int(number) < 5 else training).append(utterance)
    return training, [test[index] for index in np.random.default_rng(0).permutation(len(test))[:200]]


def synthetic_digits() -> tuple[list[Utterance], list[Utterance]]:
    """Training and test, spoken by a synthesizer in many voices, half of them through a telephone line."""
    (WORK / "digits.txt").write_text("\n".join(DIGITS) + "\n")
    options = "--per-text 30 --telephone 0.5 --overwrite"
    shell(f"carnelian synthesize {WORK}/spoken --text {WORK}/digits.txt {options}", shown=False)
    spoken = list(carnelian.read_manifest(WORK / "spoken" / "digits.jsonl"))
    spoken = [spoken[index] for index in np.random.default_rng(0).permutation(len(spoken))]
    spoken = [dataclasses.replace(each, audio_filepath=str(Path(each.audio_filepath).resolve())) for each in spoken]
    return spoken[200:], spoken[:200]


training, test = real_digits(Path(os.environ["FSDD"])) if "FSDD" in os.environ else synthetic_digits()
if SHORT:
    test = test[:20]
training = [training[index] for index in np.random.default_rng(0).permutation(len(training))[:100]]
for name, utterances in (("test", test), ("train-100", training), ("train-20", training[:20])):
    carnelian.write_manifest(WORK / f"{name}.jsonl", utterances)
    print(f"{name}: {len(utterances)} recordings, {sum(each.duration for each in utterances):.0f} seconds")

# %%
figure, axes = plt.subplots(2, 3, figsize=(10, 4), constrained_layout=True)
for axis, utterance in zip(axes.ravel(), training):
    audio = carnelian.load_audio(utterance, 16_000)
    axis.specgram(audio + 1e-6, NFFT=320, noverlap=240, Fs=16_000, cmap="magma", vmin=-160)
    axis.set(title=utterance.text, xlabel="seconds", ylabel="hertz")
plt.show()

# %% [markdown]
# Recordings at 8 kHz have nothing above 4 kHz. The model was trained at 16 kHz. Recordings are brought to the model's
# rate, but what is missing above 4 kHz stays missing: that is part of what the model must learn.
#
# ## 4. The model as it is

# %%
results = {}


def measure(name: str, model: str | Path, options: str = "") -> None:
    """Evaluates a model on the test, and keeps its word error rate in percent in `results`."""
    out = WORK / f"{name.replace(' ', '-').replace(',', '')}.jsonl"
    shell(f"carnelian evaluate {model} {WORK}/test.jsonl {options} --out {out} --overwrite", shown=False)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    rows = [row for row in rows if "text" in row]
    errors = sum((carnelian.count_errors(row["text"], row["hypothesis"]) for row in rows), carnelian.Errors())
    results[name] = 100 * errors.rate
    wrong = [f'"{row["text"]}" as "{row["hypothesis"]}"' for row in rows if row["text"] != row["hypothesis"]]
    print(f"{name}: {results[name]:.1f} % WER;", "such as", "; ".join(wrong[:4]))


measure("as it is", MODEL)

# %% [markdown]
# ## 5. A language model of the domain
#
# It needs text only, no recordings. Here all words are known beforehand, so `--closed-vocabulary` allows no other.

# %%
(WORK / "words.txt").write_text("\n".join(DIGITS) + "\n")
shell(f"carnelian language-model build {WORK}/words.txt --order 1 --arpa {WORK}/digits.arpa --overwrite", shown=False)
SEARCH = f"--language-model {WORK}/digits.arpa --closed-vocabulary --alpha 0.5 --beta 0"
measure("with the words", MODEL, SEARCH)

# %% [markdown]
# ## 6. Training on the recordings
#
# `[initialize] checkpoint` takes the weights of the trained model. First only the head, which gives each symbol its
# score, is trained, and the encoder is frozen. It is quick and cannot forget much, but what the encoder does not hear
# stays unheard.


# %%
def adapt(name: str, recordings: int, settings: str) -> Path:
    """Trains on a number of recordings with changes to the recipe `fsdd/digits`; returns the run."""
    run = WORK / "runs" / name
    shell(
        f"carnelian train fsdd/digits --out {run} --set 'train.manifests=[\"{WORK}/train-{recordings}.jsonl\"]' "
        f"--set train.steps={STEPS} --set schedule.warmup={STEPS // 8} {settings}",
        shown=False,
    )
    return run


TRAINED = f"--set initialize.checkpoint={MODEL}"
head = adapt("head-100", 100, f"{TRAINED} --set 'initialize.freeze=[\"encoder\"]' --set initialize.unfreeze=0")
measure("head only, 100", head)

# %% [markdown]
# Then the whole network: the encoder frozen for the first steps, and trained more slowly than the head after them.

# %%
WHOLE = f"{TRAINED} --set 'initialize.freeze=[\"encoder\"]' --set initialize.unfreeze={STEPS // 10} --set initialize.rates.encoder=0.5"
for recordings in (20, 100):
    measure(f"adapted, {recordings}", adapt(f"adapted-{recordings}", recordings, WHOLE))

# %% [markdown]
# Beside it the same network, the same recordings and steps, from random weights:

# %%
for recordings in (20, 100):
    measure(f"random weights, {recordings}", adapt(f"random-{recordings}", recordings, ""))

# %% [markdown]
# And the adapted model with the domain's words:

# %%
measure("adapted, 100, with the words", WORK / "runs" / "adapted-100", SEARCH)

# %% [markdown]
# ## 7. What helped

# %%
plt.figure(figsize=(9, 4), constrained_layout=True)
bars = plt.barh(list(results), list(results.values()), color="tab:orange")
plt.bar_label(bars, fmt="%.1f", padding=3)
plt.gca().invert_yaxis()
plt.xlabel("word error rate on the test, %")
plt.xlim(0, 1.1 * max(results.values()))
plt.show()

# %% [markdown]
# Is the difference between the adapted model and the one from random weights real, or chance of these 200 recordings?

# %%
shell(f"carnelian compare {WORK}/random-weights-100.jsonl {WORK}/adapted-100.jsonl")

# %%
for name, rate in results.items():
    print(f"{name}: {rate:.1f} % WER")

# %% [markdown]
# ## 8. With a large model and your own recordings
#
# Shown, not run. `conformer-ctc-small-en` and others are downloaded by name; `carnelian models` lists them.
#
# ```sh
# carnelian prepare folder RECORDINGS data/mine --hold-out 4 --normalize en
# carnelian evaluate quartznet15x5-en data/mine/dev.jsonl --report before.html
# carnelian recipes copy adapt/pretrained --out mine.toml
# carnelian train mine.toml --out runs/mine
# carnelian evaluate runs/mine data/mine/dev.jsonl --report after.html
# ```
#
# What to watch:
#
# - The rate: about a tenth of that of a training from random weights. With a larger one the model forgets.
# - The general domain: measure it before and after. If the model must keep it, mix some of its data into the training
#   (`[train] manifests` with two lists, and `mix`).
# - The text: transcripts must be written as the model writes, without capitals and punctuation if it has none.
# - The choice of settings: on held-out speakers, never on the test.
#
# Where to go on: `docs/adapting.md`, `docs/troubleshooting.md`.
