"""What an n-gram model corrects of a recognizer's errors, beside a corrector: real hypotheses of which only the best is known.

    python benchmarks/ngram_correction.py MODEL.arpa TEST.jsonl HELD_OUT.jsonl...

For each text of the pairs the candidates are the text itself, and the text with one word replaced by another of the model's words that
differs by one letter; the likeliest is proposed. How much likelier it must be to be trusted is found on the held-out speakers just as
for a corrector (`carnelian correct threshold`). Prints the word error rates of the test speakers before and after, with every proposal
and with those above the threshold, and the tests of `carnelian correct text`.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from carnelian.commands.correct import print_difference, print_threshold
from carnelian.console import track
from carnelian.data.text.pairs import Pair, iterate_pairs
from carnelian.ngram.load import load_language_model
from carnelian.ngram.model import NGram
from carnelian.ngram.words import SPECIAL_WORDS
from carnelian.rescoring.correction import Correction
from carnelian.rescoring.threshold import find_threshold


def shortened(word: str) -> Iterator[str]:
    """Yields a word, and it without each of its letters."""
    yield word
    yield from (word[:place] + word[place + 1 :] for place in range(len(word)))


class NGramCorrector:
    """Proposes for a text a likelier one: `propose("a text")`."""

    def __init__(self, model: NGram):
        self.model = model
        self.words_by_form: dict[str, list[str]] = defaultdict(list)
        for word in set(model.words) - set(SPECIAL_WORDS):
            for form in shortened(word):
                self.words_by_form[form].append(word)
        self.neighbours = cache(self.find_neighbours)

    def find_neighbours(self, word: str) -> set[str]:
        """Returns the model's words that differ from a word by one letter, added, left out, replaced or moved."""
        return {other for form in shortened(word) for other in self.words_by_form.get(form, ())} - {word}

    def propose(self, text: str) -> Correction:
        """Returns the likelier text, with g / (1 + g) from 0 to 1 where its natural log-probability is by g higher."""
        words, before = text.split(), self.model.score(text)
        best, found = before, text
        for index, word in enumerate(words):
            for other in self.neighbours(word):
                candidate = " ".join([*words[:index], other, *words[index + 1 :]])
                score = self.model.score(candidate)
                if score > best:
                    best, found = score, candidate
        gain = best - before
        return Correction(found, gain / (1 + gain)) if found != text else Correction(text)


def propose_all(corrector: NGramCorrector, pairs: Sequence[Pair]) -> list[Correction]:
    """Returns the proposal for each hypothesis, with a bar."""
    return [corrector.propose(pair.hypothesis) for pair in track(pairs, "correcting", len(pairs))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("held_out", type=Path, nargs="+")
    given = parser.parse_args()
    corrector = NGramCorrector(load_language_model(given.model))
    held_out, test = list(iterate_pairs(*given.held_out)), list(iterate_pairs(given.test))
    found = find_threshold(held_out, propose_all(corrector, held_out))
    print_threshold(found, len(held_out))
    proposals = propose_all(corrector, test)
    texts, hypotheses = [pair.text for pair in test], [pair.hypothesis for pair in test]
    for name, threshold in (("every proposal", 0.0), ("above the threshold", found.threshold)):
        chosen = [each.text if each.probability > threshold else own for each, own in zip(proposals, hypotheses)]
        print(f"\n{len({pair.speaker for pair in test})} test speakers, {name}:")
        print_difference(texts, hypotheses, chosen)


if __name__ == "__main__":
    main()
