"""Decodes made-up Spanish log-probabilities with a language model, beside greedy decoding.

Spanish spelling keeps what speech does not tell: b or v, a silent h, y or ll, s or z, an accent. The log-probabilities
made here leave each such choice almost open, as an acoustic model without a language model would.
"""

import sys
from pathlib import Path

import numpy as np

from carnelian.data.alphabet import Alphabet
from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.greedy import Greedy
from carnelian.ngram.load import load_language_model
from carnelian.scoring.wer import Errors, count_errors

LETTERS = Alphabet(" abcdefghijklmnopqrstuvwxyzáéíñóúü")
ALIKE = ("bv", "aá", "eé", "ií", "oó", "uú", "sz", "gj")
STEPS = 2  # that each letter lasts, with a blank between


def make_log_probs(sentence: str, random: np.random.Generator) -> np.ndarray:
    """Log-probabilities (O, V) of a sentence whose letters of like sound are hard to tell apart."""
    steps = []
    for letter in sentence:
        probabilities = np.full(len(LETTERS) + 1, 1e-4)
        like = next((group for group in ALIKE if letter in group), letter)
        for other in like:
            probabilities[LETTERS.index[other]] = 1 / len(like) + random.uniform(-0.2, 0.2) * (len(like) > 1)
        if letter == "h":
            probabilities[LETTERS.blank] = random.uniform(0.8, 1.2)
        blank = np.full(len(LETTERS) + 1, 1e-4)
        blank[LETTERS.blank] = 1
        steps += [probabilities] * STEPS + [blank]
    array = np.array(steps)
    return np.log(array / array.sum(axis=1, keepdims=True)).astype(np.float32)


def main(model: str, sentences: str, count: int = 20) -> None:
    """Word error rates of both ways of decoding over the first sentences of 5 to 15 words."""
    random = np.random.default_rng(0)
    lines = [line for line in Path(sentences).read_text(encoding="utf-8").splitlines() if 5 <= len(line.split()) <= 15]
    greedy, search = Greedy(LETTERS), BeamSearch(LETTERS, load_language_model(model))
    errors = {"greedy": Errors(), "with the 4-gram": Errors()}
    for number, line in enumerate(lines[:count]):
        log_probs = make_log_probs(line, random)
        for (name, total), decoder in zip(errors.items(), (greedy, search)):
            said = decoder(log_probs)[0].text
            errors[name] = total + count_errors(line, said)
            if number < 2:
                print(f"{name}: {said}")
    for name, total in errors.items():
        print(f"{name}: word error rate {100 * total.rate:.1f} %")


if __name__ == "__main__":
    main(*sys.argv[1:])
