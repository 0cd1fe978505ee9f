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
# # Speech recognition on AN4, from recordings to a measured recognizer
#
# AN4 is a small corpus of Carnegie Mellon University: people spell names, and say numbers, dates and commands. It
# has about 50 minutes of speech and 101 words, so a recognizer can be trained on it from random weights on a
# laptop.
#
# This notebook downloads the corpus, looks at the recordings, trains a network, measures its word error rate,
# adds a language model, adapts the network to another alphabet, and exports it. It needs about 20 minutes on two
# CPU cores, less on a GPU. It runs on Google Colab, on AWS (`carnelian launch small --notebook --name nb`), and
# on a laptop; `notebooks/an4.py` is the same as a plain script.
#
# The outputs kept in the repository are those of a full execution on one thread of a busy machine with two CPU cores.
#
# Three environment variables change what it does:
#
# | variable | meaning |
# |---|---|
# | `AN4=FOLDER` | use this unpacked copy of AN4 (the folder with `etc` and `wav`), and download nothing |
# | `RUN=FOLDER` | take this finished run of `an4/quartznet` in place of a training here |
# | `CARNELIAN_SHORT=1` | train for few steps only, to see that everything runs; the error rates are then high |

# %% [markdown]
# ## 1. Installation
#
# The first cell installs the package where it is missing, as on Colab. `CARNELIAN_PACKAGE` may name another
# source, such as a checkout.

# %%
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("carnelian") is None:
    package = os.environ.get("CARNELIAN_PACKAGE", "carnelian[train,plot]")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", package], check=True)

# %%
import dataclasses
import json
import re
import shutil
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import carnelian
from carnelian.data.archive import unpack
from carnelian.data.download import download
from carnelian.models.features import log_mel

SHORT = bool(os.environ.get("CARNELIAN_SHORT"))
WORK = Path("an4-notebook")  # everything that this notebook makes
WORK.mkdir(exist_ok=True)
print(f"carnelian {carnelian.__version__}, torch {torch.__version__}, GPU: {torch.cuda.is_available()}, short: {SHORT}")


ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # with which a terminal's cursor is moved
BAR = re.compile(r"\d+/\d+ \d+:\d\d:\d\d")


def shell(command: str) -> None:
    """Runs a command of carnelian as in a terminal, with its bars; stops the notebook where it fails."""
    print("$", command, flush=True)
    command = command.replace("carnelian ", f'"{sys.executable}" -m carnelian ', 1)
    if "get_ipython" not in globals():  # a plain script
        subprocess.run(command, shell=True, check=True)
        return
    environment = {**os.environ, "COLUMNS": "110", "NO_COLOR": "1", "FORCE_COLOR": "1", "TERM": "xterm"}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    width, shown = 0, 0.0
    with subprocess.Popen(command, shell=True, env=environment, **output) as process:
        for raw in process.stdout:
            line = ESCAPES.sub("", raw).rstrip()
            if not BAR.search(line):
                if line:
                    print("\r" * bool(width) + line.ljust(width), flush=True)
                    width = 0
            elif time.monotonic() - shown > 1:  # a bar takes the place of the one before
                print("\r" + line.ljust(width), end="", flush=True)
                width, shown = len(line), time.monotonic()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {command}")


# %% [markdown]
# ## 2. What speech recognition is, and what CTC is
#
# Automatic speech recognition (ASR) turns a recording into text. A neural network reads short pieces of the
# recording, one every few hundredths of a second, and gives for each piece (a **step**) a probability to every
# symbol of an alphabet.
#
# There are many more steps than letters, and nobody has marked which letter was spoken when. **CTC**
# (connectionist temporal classification, Graves et al., 2006) solves this with one more symbol, the **blank**
# (written `-` below). A path has one symbol for each step. To read it, first merge repeated symbols, then remove
# the blanks:
#
# | path of symbols | text |
# |---|---|
# | `c c - a - t t` | `cat` |
# | `- c a a a t -` | `cat` |
# | `h e l - l o` | `hello` |
# | `h e l l l o` | `helo`: a double letter needs a blank between |
#
# Training raises the sum of the probabilities of **all** paths that read as the transcript. So no alignment is
# needed. `docs/how-it-works.md` shows this sum on a small lattice.


# %%
def collapse(path: str) -> str:
    """The text of a CTC path: repeated symbols merged, blanks removed."""
    merged = [symbol for symbol, before in zip(path, " " + path) if symbol != before]
    return "".join(symbol for symbol in merged if symbol != "-")


for path in ("cc-a-tt", "-caaat-", "hel-lo", "helllo"):
    print(f"{path:10} {collapse(path)}")

# %% [markdown]
# The other large family, sequence-to-sequence models with attention (and transducers), predicts each symbol from
# the recording and the symbols before it. They need no language model so badly, but are slower, and harder to
# train on little data. This toolkit is for CTC.

# %% [markdown]
# ## 3. The corpus
#
# The archive is 64 MB. An archive that was downloaded before is not downloaded again.

# %%
ADDRESSES = [
    "https://dldata-public.s3.us-east-2.amazonaws.com/an4_sphere.tar.gz",
    "http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz",
]
if "AN4" in os.environ:
    AN4 = Path(os.environ["AN4"])
else:
    AN4 = WORK / "an4"
    if not AN4.exists():
        unpack(download(ADDRESSES, WORK / "an4_sphere.tar.gz"), WORK)
print(sorted(path.name for path in AN4.iterdir()))

# %% [markdown]
# The audio files are in NIST's SPHERE format; they are read as they are, and need not be converted.
#
# A **manifest** is a list of utterances, one JSON object a line: the audio file, its duration, its text, and what
# else is known. `prepare` writes one for each subset. `--hold-out 4` takes four speakers out of the training
# list: settings will be chosen on them, so that the test list is asked only once, at the end.

# %%
shell(f"carnelian prepare an4 {AN4} {WORK}/data --hold-out 4 --overwrite")

# %%
train = list(carnelian.read_manifest(WORK / "data" / "train.jsonl"))
test = list(carnelian.read_manifest(WORK / "data" / "test.jsonl"))
for name, utterances in (("train", train), ("test", test)):
    minutes = sum(utterance.duration for utterance in utterances) / 60
    speakers = {utterance.more["speaker"] for utterance in utterances}
    print(f"{name}: {len(utterances)} utterances, {minutes:.1f} minutes, {len(speakers)} speakers")
for utterance in train[:3]:
    print(f"{Path(utterance.audio_filepath).name}  {utterance.duration:.2f} s  {utterance.text}")

# %% [markdown]
# `check` finds what would break or hurt a training: files that cannot be read, texts outside the alphabet, texts
# too long for their audio, silence, duplicates.

# %%
shell(f"carnelian check {WORK}/data/train.jsonl --out {WORK}/check")

# %% [markdown]
# ## 4. Listening and looking
#
# One utterance: the **waveform**, its **spectrogram** (how much of each frequency at each moment), and the
# **log-mel features** that the network reads: 64 bands, narrow at low frequencies and wide at high ones, as in
# human hearing.

# %%
example = next(utterance for utterance in test if len(utterance.text.split()) > 4)
audio = carnelian.load_audio(example, 16_000)
print(example.text, audio.shape, audio.dtype)
try:
    from IPython.display import Audio, display

    display(Audio(audio, rate=16_000))
except ImportError:
    print("listening needs a notebook")

# %%
features, frames = log_mel(dither=0.0)(torch.from_numpy(audio)[None], torch.tensor([len(audio)]))
seconds = len(audio) / 16_000
figure, axes = plt.subplots(3, 1, figsize=(10, 8), sharex=True, constrained_layout=True)
axes[0].plot(np.arange(len(audio)) / 16_000, audio, linewidth=0.5)
axes[0].set(title=f'waveform: "{example.text}"', ylabel="amplitude")
axes[1].specgram(audio + 1e-6, NFFT=320, noverlap=160, Fs=16_000, cmap="magma")
axes[1].set(title="spectrogram", ylabel="hertz")
axes[2].imshow(
    features[0, :, : frames[0]].numpy(), origin="lower", aspect="auto", extent=(0, seconds, 0, 64), cmap="magma"
)
axes[2].set(title="log-mel features, each band at mean 0 and deviation 1", ylabel="band", xlabel="seconds")
plt.show()

# %% [markdown]
# ## 5. The recipe
#
# A **recipe** is one TOML file for one experiment: alphabet, data, features, network, augmentation, optimizer,
# and schedule. Some come with the package. This one is QuartzNet's blocks (separable convolutions with a residual
# connection) behind four 2-D convolutions.

# %%
shell("carnelian recipes list")
shell(f"carnelian recipes copy an4/quartznet --out {WORK}/an4.toml --overwrite")
print((WORK / "an4.toml").read_text())

# %% [markdown]
# Each table's keys are the keyword arguments of what it names. `carnelian info --keys TABLE` prints them, with
# type, range and default; `docs/recipe-reference.md` has all. `info` on a recipe builds the network and shows its
# layers, its parameters, and the span of audio that one step sees.

# %%
shell("carnelian info --keys augment")
shell(f"carnelian info {WORK}/an4.toml")

# %% [markdown]
# A key is changed in the file, or from the command line with `--set table.key=value`. A wrong key or value is
# reported in one line before anything is done.

# %% [markdown]
# ## 6. Training
#
# The bar shows loss, rate and time left, and a line appears with each validation. The run may be stopped at any
# moment (Kernel, Interrupt): the same command continues it, to the same weights.
#
# In full: 42 epochs, about 13 minutes on two CPU cores. The full recipe reaches 9.99 % WER without a language
# model on a test list of ten unseen speakers (`docs/RESULTS.md`), where the tutorials with which this corpus is
# usually trained end at 20 to 25 %.

# %%
data = f'--set train.manifests=["{WORK}/data/train.jsonl"] --set train.validation=["{WORK}/data/dev.jsonl"]'
data = data.replace("[", "'[").replace("]", "]'")
length = "--set train.epochs=0 --set train.steps=200 --set schedule.warmup=40" if SHORT else ""
if "RUN" in os.environ:
    shutil.copytree(os.environ["RUN"], WORK / "run", dirs_exist_ok=True)
    print("a finished run:", sorted(path.name for path in (WORK / "run").glob("step-*.safetensors")))
else:
    shell(f"carnelian train {WORK}/an4.toml --out {WORK}/run {data} {length}")

# %% [markdown]
# The curves of the run. `carnelian compare RUN` writes them as a page with more curves; `pip install
# "carnelian[tensorboard]"` adds TensorBoard.

# %%
shell(f"carnelian compare {WORK}/run --out {WORK}/curves.png --overwrite")
plt.figure(figsize=(10, 5))
plt.imshow(plt.imread(WORK / "curves.png"))
plt.axis("off")
plt.show()

# %% [markdown]
# ## 7. Evaluation
#
# The **word error rate** (WER) is the number of substituted, deleted and inserted words, divided by the words of
# the reference. The interval says how much of it may be chance: another test list of the same size would lie in
# it 95 times of 100.

# %%
shell(f"carnelian evaluate {WORK}/run {WORK}/data/test.jsonl --out {WORK}/greedy.jsonl --overwrite")

# %% [markdown]
# ## 8. Transcribing
#
# On the command line, and in Python. A transcript has words with their times and a confidence each.

# %%
recording = os.path.relpath(example.audio_filepath)
print("reference:", example.text)
shell(f"carnelian transcribe {WORK}/run {recording} --format srt")

# %%
recognizer = carnelian.load(WORK / "run")
transcript = recognizer(recording)
print("text:", transcript.text)
for word in transcript.words:
    print(f"{word.start:5.2f} - {word.end:5.2f} s  {word.confidence:.2f}  {word.text}")

# %% [markdown]
# What the network gave: the probability of each symbol at each step. Most steps are blank, letters are short
# peaks. The best path, repeats merged and blanks removed, is the transcript.

# %%
emissions = recognizer.emissions([audio])[0]
symbols = [*recognizer.alphabet.symbols, "blank"]
symbols[0] = "space"
plt.figure(figsize=(10, 5))
span = (0, len(emissions.log_probs) * emissions.seconds_per_step, len(symbols) - 0.5, -0.5)
plt.imshow(np.exp(emissions.log_probs.T), aspect="auto", cmap="magma", extent=span)
plt.yticks(range(len(symbols)), symbols, fontsize=7)
plt.xlabel("seconds")
plt.title("probability of each symbol at each step")
plt.show()

# %% [markdown]
# ## 9. Another rate, more augmentation
#
# Small corpora need augmentation: the recipe plays recordings faster and slower, stretches the bands as other
# vocal tracts would, and masks bands and spans of frames (SpecAugment). Here the training goes on from the
# trained network with a tenth of the rate, and with white noise on half of the utterances. Compare on the
# held-out speakers, not on the test list.

# %%
steps = 30 if SHORT else 1_000
shell(
    f"carnelian train {WORK}/an4.toml --out {WORK}/noisy {data} --set initialize.checkpoint={WORK}/run "
    f"--set train.epochs=0 --set train.steps={steps} --set schedule.peak=0.0008 --set schedule.warmup=20 "
    "--set augment.white_noise.probability=0.5"
)
shell(f"carnelian evaluate {WORK}/run {WORK}/data/dev.jsonl --out {WORK}/dev-run.jsonl --overwrite")
shell(f"carnelian evaluate {WORK}/noisy {WORK}/data/dev.jsonl --out {WORK}/dev-noisy.jsonl --overwrite")

# %% [markdown]
# Is the difference real, or chance?

# %%
shell(f"carnelian compare {WORK}/dev-run.jsonl {WORK}/dev-noisy.jsonl")

# %% [markdown]
# ## 10. A language model
#
# Which words follow each other is known before anybody speaks. An **n-gram model** counts it in text; here in the
# training's transcripts (never in those of the test). The **beam search** keeps the most probable beginnings of a
# transcript at each step, and adds to the network's score `alpha` times the language model's, and `beta` for each
# word. `tune` finds both on the held-out speakers.

# %%
shell(f"carnelian language-model build {WORK}/data/train.jsonl --order 3 --arpa {WORK}/an4.arpa --overwrite")
shell(f"carnelian language-model score {WORK}/an4.arpa {WORK}/data/dev.jsonl --summary")
grid = "--beam-width 16 --refinements 0" if SHORT else ""
shell(
    f"carnelian tune {WORK}/run {WORK}/data/dev.jsonl --language-model {WORK}/an4.arpa {grid} "
    f"--out {WORK}/decoding.toml --plot {WORK}/tuning.png --overwrite"
)
print((WORK / "decoding.toml").read_text())

# %%
plt.figure(figsize=(8, 5))
plt.imshow(plt.imread(WORK / "tuning.png"))
plt.axis("off")
plt.show()

# %% [markdown]
# Now the test list, with the search.

# %%
shell(
    f"carnelian evaluate {WORK}/run {WORK}/data/test.jsonl --language-model {WORK}/an4.arpa --decoding {WORK}/decoding.toml "
    f"--out {WORK}/searched.jsonl --report {WORK}/report.html --overwrite"
)

# %% [markdown]
# `report.html` shows every utterance with its errors, and plays it. Words that are expected but rare can be given
# in the search, without any new training: `--hot-word WORD`.
#
# ## 11. Another alphabet
#
# A trained network knows sounds, which other tasks share. Only the last layer (the **head**) belongs to the
# alphabet. As an example, digits are now to be written as digits: "five" becomes "5". The table `[initialize]`
# takes the trained network; the rows of the head for letters that are in both alphabets are kept, the digits'
# rows are new. The encoder is frozen for the first steps, so that the untrained rows do not disturb it.

# %%
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
DIGITS = {name: str(digit) for digit, name in enumerate(NAMES)}


def with_digits(subset: str) -> None:
    """Writes a manifest whose transcripts have digits in place of the words for them."""
    utterances = carnelian.read_manifest(WORK / "data" / f"{subset}.jsonl")
    rewritten = [
        dataclasses.replace(each, text=" ".join(DIGITS.get(word, word) for word in each.text.split()))
        for each in utterances
    ]
    carnelian.write_manifest(WORK / "digits" / f"{subset}.jsonl", rewritten)


for subset in ("train", "dev", "test"):
    with_digits(subset)

# %%
steps, frozen = (60, 20) if SHORT else (1_500, 200)
shell(
    f"carnelian train {WORK}/an4.toml --out {WORK}/digits-run {data.replace('/data/', '/digits/')} "
    """--set 'alphabet=" abcdefghijklmnopqrstuvwxyz0123456789"' """
    f"--set initialize.checkpoint={WORK}/run --set 'initialize.freeze=[\"encoder\"]' --set initialize.unfreeze={frozen} "
    f"--set train.epochs=0 --set train.steps={steps} --set schedule.peak=0.002 --set schedule.warmup=20"
)
shell(f"carnelian evaluate {WORK}/digits-run {WORK}/digits/test.jsonl")

# %% [markdown]
# The same works from a pretrained model (`carnelian models` lists them; `[initialize] checkpoint` takes a name)
# to your own recordings: `docs/adapting.md`.

# %% [markdown]
# ## 12. Mixed precision and many GPUs
#
# These commands are shown, not run:
#
# ```sh
# carnelian train an4/quartznet --out runs/an4 --set train.precision=bf16     # half the memory; "fp16" for GPUs before Ampere
# torchrun --nproc-per-node 8 -m carnelian train librispeech/quartznet15x5 --out runs/quartznet
# torchrun --nproc-per-node 8 -m carnelian train RECIPE --out RUN --set train.sharded=true    # a model too large for one GPU
# carnelian launch plan librispeech/quartznet15x5 --hours-of-audio 960        # which AWS machine, how long, how much
# carnelian launch small an4/quartznet --name an4-first --type g6.xlarge      # train there
# ```
#
# `bf16` and `fp16` compute the products in half precision and keep the weights in single precision. With `fp16`
# the loss is scaled, so that small gradients do not become zero.

# %% [markdown]
# ## 13. Export
#
# An exported model is one ONNX file, from the waveform to the log-probabilities. It runs without PyTorch, and
# faster on a CPU. The export compares itself with the original.

# %%
shell(f"carnelian export onnx {WORK}/run {WORK}/an4.onnx --overwrite")
shell(f"carnelian evaluate {WORK}/an4.onnx {WORK}/data/test.jsonl")

# %%
exported = carnelian.load(WORK / "an4.onnx")
assert exported(recording).text == transcript.text
print(exported(recording).text)

# %% [markdown]
# `carnelian serve an4.onnx` serves it: a page to record on, OpenAI's transcription API, and live recognition
# (`docs/serving.md`).
#
# ## 14. Numbers


# %%
def error_rate(path: Path) -> float:
    """Word error rate in percent of a file that `carnelian evaluate --out` wrote."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    errors = sum(
        (carnelian.count_errors(row["text"], row["hypothesis"]) for row in rows if "text" in row), carnelian.Errors()
    )
    return 100 * errors.rate


training = "short training" if SHORT and "RUN" not in os.environ else "full training"
for name, file in (("without a language model", "greedy.jsonl"), ("with the trigram", "searched.jsonl")):
    print(f"{training}, test list, {name}: {error_rate(WORK / file):.1f} % WER")

# %% [markdown]
# Measured with full trainings on two CPU cores, without a GPU; commands, intervals and commits in
# `docs/RESULTS.md`. Their test list has 711 words, cut from the corpus's training speakers before training; the
# corpus's official list may give other figures.
#
# | | WER, greedy | with a trigram | minutes |
# |---|---|---|---|
# | `an4/quartznet`, this notebook's recipe | 9.99 % | 7.59 % | 13 |
# | `an4/quartznet_long`, four time stretches | 6.05 % | 4.64 % | 53 |
#
# Where to go on: `docs/adapting.md` (your own recordings), `docs/how-it-works.md` (every element and its module),
# `docs/troubleshooting.md` (by symptom), `docs/reading-list.md` (papers and toolkits).
