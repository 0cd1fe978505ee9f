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
# # A Spanish language model for speech recognition
#
# A speech recognizer hears sounds. Spanish spelling has more than the sounds: *b* and *v* sound the same, *h* is
# silent, and *esta*, *ésta* and *está* differ in an accent. A language model knows which words follow each other, and
# so which spelling is meant.
#
# This notebook takes two novels, turns them into sentences of spoken words, estimates n-gram models of several
# orders, measures how well they predict, and decodes with them. It needs no GPU and about two minutes. The same job on
# the command line is `docs/spanish-language-model.md`.
#
# | variable | meaning |
# |---|---|
# | `TEXTS=FOLDER` | take the `.txt` files of this folder (UTF-8, or Latin-1 with `latin1` in the name), download nothing |
# | `CARNELIAN_SHORT=1` | take only a part of the text |

# %% [markdown]
# ## 1. Installation and text

# %%
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("carnelian") is None:
    package = os.environ.get("CARNELIAN_PACKAGE", "carnelian[search,text,plot]")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", package], check=True)

# %%
from collections import Counter
from itertools import permutations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import carnelian
from carnelian.data.alphabet import Alphabet
from carnelian.data.download import download
from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.greedy import Greedy
from carnelian.ngram.load import load_language_model
from carnelian.scoring.wer import Errors, count_errors

SHORT = bool(os.environ.get("CARNELIAN_SHORT"))
WORK = Path("spanish-notebook")  # everything that this notebook makes
WORK.mkdir(exist_ok=True)


def shell(command: str) -> None:
    """Runs a command of carnelian and prints what it prints; stops the notebook where it fails."""
    print("$", command, flush=True)
    command = command.replace("carnelian ", f'"{sys.executable}" -m carnelian ', 1)
    environment = {name: value for name, value in os.environ.items() if "COLOR" not in name}  # no bars, no colours
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, shell=True, env=environment, **output)
    print(done.stdout)
    done.check_returncode()


# %% [markdown]
# Any text will do that is written as people speak: newspapers and subtitles are nearer to today's speech than the two
# novels taken here, *Don Quijote* (1605) and *La Regenta* (1885), which are free of rights.

# %%
ADDRESSES = {
    "don_quijote.txt": ["https://www.gutenberg.org/cache/epub/2000/pg2000.txt"],
    "la_regenta.txt": ["https://www.gutenberg.org/cache/epub/17073/pg17073.txt"],
}
if "TEXTS" in os.environ:
    books = sorted(path for path in Path(os.environ["TEXTS"]).glob("*.txt") if not path.name.startswith("ud_pud"))
else:
    books = [download(addresses, WORK / name) for name, addresses in ADDRESSES.items()]
for book in books:
    encoding = "latin-1" if "latin1" in book.name else "utf-8"
    text = book.read_text(encoding=encoding)
    text = text[: 400_000 if SHORT else None]
    (WORK / f"{book.name.partition('.')[0]}.utf8.txt").write_text(text, encoding="utf-8")
    print(book.name, f"{len(text):,} characters")
print(text[20_000:20_400])

# %% [markdown]
# ## 2. Sentences of spoken words
#
# The model must spell as the recognizer does, so the recognizer's alphabet decides. `prepare` drops Gutenberg's
# licence, joins the lines of a paragraph, cuts it into sentences, makes capitals small, writes numbers as words, and
# drops punctuation.

# %%
LETTERS = " abcdefghijklmnopqrstuvwxyzáéíñóúü"
shell(
    f'carnelian language-model prepare {WORK}/*.utf8.txt --language es --alphabet "{LETTERS}" '
    f"--out {WORK}/sentences.txt --overwrite"
)
sentences = (WORK / "sentences.txt").read_text(encoding="utf-8").splitlines()
print(*sentences[1000:1005], sep="\n")

# %% [markdown]
# Every twentieth sentence is held out: the model is measured on text that it has not seen.

# %%
held_out = [sentence for number, sentence in enumerate(sentences) if number % 20 == 0]
training = [sentence for number, sentence in enumerate(sentences) if number % 20]
(WORK / "train.txt").write_text("\n".join(training) + "\n", encoding="utf-8")
(WORK / "held-out.txt").write_text("\n".join(held_out) + "\n", encoding="utf-8")
counts = Counter(word for sentence in training for word in sentence.split())
print(f"{len(training):,} sentences, {counts.total():,} words, {len(counts):,} different ones")
print("most frequent:", ", ".join(f"{word} {count}" for word, count in counts.most_common(12)))
once = sum(count == 1 for count in counts.values())
print(f"seen once: {once:,} of the different words ({100 * once / len(counts):.0f} %)")

# %% [markdown]
# A few words are very frequent and most are rare: the frequency of a word falls about as one over its rank (Zipf's
# law, dashed). So each text has words that the model has never seen, whatever its size.

# %%
frequencies = np.array(sorted(counts.values(), reverse=True))
ranks = np.arange(1, len(frequencies) + 1)
plt.figure(figsize=(7, 4), constrained_layout=True)
plt.loglog(ranks, frequencies, label="words of the novels")
plt.loglog(ranks, frequencies[0] / ranks, "--", label="one over the rank")
plt.xlabel("rank of the word")
plt.ylabel("times in the text")
plt.legend()
plt.show()

# %% [markdown]
# ## 3. Models of order 1 to 5
#
# An n-gram model of order *n* gives the probability of a word after the *n* - 1 words before it. Most of these
# histories were never seen. Modified Kneser-Ney smoothing gives them probability too: by shorter histories, and by how
# many different words a word follows.
#
# The **perplexity** is the number of equally probable words among which the model would be as uncertain. Lower is
# better. Only words that the model knows are counted here, so that all orders are measured on the same words.

# %%
perplexities, sizes = {}, {}
for order in range(1, 6):
    name = WORK / f"order{order}"
    arguments = ["--order", str(order), "--arpa", f"{name}.arpa", "--binary", f"{name}.bin", "--overwrite"]
    subprocess.run(
        [sys.executable, "-m", "carnelian", "language-model", "build", str(WORK / "train.txt"), *arguments],
        check=True,
        capture_output=True,
    )
    model = load_language_model(f"{name}.bin")
    scores = [(model.word_scores(words), model.known(words)) for words in map(str.split, held_out)]
    known = np.concatenate([score[np.append(is_known, True)] for score, is_known in scores])  # and each sentence's end
    perplexities[order] = float(np.exp(-known.mean()))
    sizes[order] = Path(f"{name}.bin").stat().st_size / 1e6
    print(f"order {order}: perplexity {perplexities[order]:7.1f}, {sizes[order]:5.1f} MB")

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.5), constrained_layout=True)
axes[0].plot(list(perplexities), list(perplexities.values()), "o-")
axes[0].set(xlabel="order", ylabel="perplexity of held-out sentences", xticks=list(perplexities), ylim=(0, None))
axes[1].bar(list(sizes), list(sizes.values()))
axes[1].set(xlabel="order", ylabel="megabytes", xticks=list(sizes))
plt.show()

# %% [markdown]
# The step from one word to two is the large one. On this little text orders above 3 cost space and bring almost
# nothing. The command prints the same measure and more:

# %%
shell(f"carnelian language-model score {WORK}/order3.bin {WORK}/held-out.txt --summary")

# %% [markdown]
# ## 4. What the model knows
#
# Six words in all orders, the most probable first:

# %%
model = load_language_model(WORK / "order3.bin")
words = ["en", "un", "lugar", "de", "la", "mancha"]
ordered = sorted((" ".join(order) for order in permutations(words)), key=model.score, reverse=True)
for sentence in (*ordered[:3], ordered[-1]):
    print(f"{model.score(sentence):8.2f}  {sentence}")

# %% [markdown]
# And spellings that sound alike:

# %%
for pair in (
    ("no se ha visto", "no se a visto"),
    ("iba a caballo", "iva a cavallo"),
    ("qué quieres tú", "que quieres tu"),
):
    for sentence in pair:
        print(f"{model.score(sentence):8.2f}  {sentence}")
    print()

# %% [markdown]
# ## 5. Decoding
#
# A recognizer gives a probability to each letter at each step. Here these are made up from held-out sentences, so that
# no trained recognizer is needed: letters that sound alike are almost equally probable, an *h* is probably not there.

# %%
specification = importlib.util.spec_from_file_location(
    "decode", Path(carnelian.__file__).parent / "recipes" / "spanish" / "decode.py"
)
decode = importlib.util.module_from_spec(specification)
specification.loader.exec_module(decode)

alphabet = Alphabet(LETTERS)
random = np.random.default_rng(0)
spoken = [sentence for sentence in held_out if 5 <= len(sentence.split()) <= 15][: 10 if SHORT else 60]
recordings = [decode.make_log_probs(sentence, random) for sentence in spoken]
print(recordings[0].shape, "steps and symbols of:", spoken[0])


# %%
def word_error_rate(decoder) -> float:
    """Word error rate in percent of a decoder on the made-up recordings."""
    pairs = zip(spoken, recordings)
    errors = sum((count_errors(sentence, decoder(steps)[0].text) for sentence, steps in pairs), Errors())
    return 100 * errors.rate


greedy, search = Greedy(alphabet), BeamSearch(alphabet, model, alpha=0.5, beta=1.0)
for sentence, steps in list(zip(spoken, recordings))[:3]:
    print("reference:", sentence)
    print("greedy:   ", greedy(steps)[0].text)
    print("searched: ", search(steps)[0].text, "\n")

# %% [markdown]
# `alpha` is the weight of the language model. Too small, it does not decide; too large, it writes what it likes
# instead of what was said. `carnelian tune` finds it for a trained recognizer, on recordings held out for that.

# %%
alphas = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0]
rates = [word_error_rate(BeamSearch(alphabet, model, alpha=alpha, beta=1.0)) for alpha in alphas]
baseline = word_error_rate(greedy)
plt.figure(figsize=(7, 4), constrained_layout=True)
plt.axhline(baseline, linestyle="--", color="gray", label="greedy")
plt.plot(alphas, rates, "o-", label="beam search with the 3-gram")
plt.xlabel("alpha, weight of the language model")
plt.ylabel("word error rate, %")
plt.ylim(0, None)
plt.legend()
plt.show()
print(f"greedy: {baseline:.1f} % WER")
print(f"with the 3-gram: {min(rates):.1f} % WER at alpha {alphas[int(np.argmin(rates))]}")

# %% [markdown]
# The best weight was taken on the same sentences that it is reported on, which is allowed in a demonstration only.
#
# ## 6. With a recognizer
#
# The model file goes to any Spanish recognizer. Shown, not run:
#
# ```sh
# carnelian models --language es                       # pretrained Spanish models, with licences
# carnelian transcribe MODEL recording.wav --language-model spanish-notebook/order3.bin
# carnelian tune MODEL dev.jsonl --language-model spanish-notebook/order3.bin --out decoding.toml
# ```
#
# Where to go on: `docs/spanish-language-model.md` (pruning, KenLM's figures beside these), `docs/how-it-works.md` (beam
# search), `notebooks/transfer.ipynb` (a recognizer adapted to new recordings).
