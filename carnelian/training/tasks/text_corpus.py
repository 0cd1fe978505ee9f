"""What a language model is trained on: texts as one row of tokens, cut into batches by epoch."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carnelian import console
from carnelian.data.alphabet import Alphabet, WordList
from carnelian.data.batch import plan_batches
from carnelian.data.text.text_files import read_word_list
from carnelian.errors import LanguageModelError, RecipeError
from carnelian.ngram.counts import Scratch, read_tokens
from carnelian.ngram.words import END, SPECIAL_WORDS, START, WordTable
from carnelian.ranges import NonNegativeInt, PositiveInt
from carnelian.rescoring.tokens import END_TOKEN, WordTokens
from carnelian.training.distributed import World
from carnelian.training.settings import LanguageConfig

WORDS_AT_ONCE = 1 << 22  # words that are turned into tokens together


@dataclass(frozen=True)
class Text:
    """The sentences of texts: the number of each word, END after each sentence; and the words by their numbers.

    What a word is, and how files are read, is as for n-gram models; empty lines are left out.
    """

    numbers: np.ndarray
    words: list[str]

    @property
    def counts(self) -> np.ndarray:
        """How often each word occurs."""
        return np.bincount(self.numbers, minlength=len(self.words))

    def tokens(self, alphabet: Alphabet) -> np.ndarray:
        """Returns the tokens (N,) int32 of the text, END_TOKEN before the first sentence and after each."""
        spell = WordTokens(alphabet)
        spelled = [(END_TOKEN,) if number <= END else spell(word)[0] for number, word in enumerate(self.words)]
        lengths = np.array([len(each) for each in spelled])
        firsts, flat = np.cumsum(lengths) - lengths, np.array([token for each in spelled for token in each], np.int32)
        parts = [np.array([END_TOKEN], np.int32)]
        for first in range(0, len(self.numbers), WORDS_AT_ONCE):
            numbers = self.numbers[first : first + WORDS_AT_ONCE]
            counts = lengths[numbers]
            places = np.repeat(firsts[numbers] - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
            parts.append(flat[places])
        return np.concatenate(parts)


def read_training_text(paths: Sequence[str]) -> Text:
    """Returns the sentences of text files. Raises LanguageModelError where there is no word in them."""
    table = WordTable()
    sizes = [Path(path).stat().st_size for path in paths if Path(path).is_file()]
    with console.bar("Reading", sum(sizes) or None) as advance:
        numbers, _ = read_tokens(list(paths), table, Scratch(1 << 62), 1, advance)
    numbers = numbers[numbers != START]
    numbers = numbers[(numbers != END) | (np.roll(numbers, 1) != END)]  # no empty lines
    numbers = numbers[1:] if len(numbers) and numbers[0] == END else numbers
    if table.size == len(SPECIAL_WORDS):
        raise LanguageModelError(f"{', '.join(paths)}: found no words. Give text, one sentence a line")
    return Text(numbers, table.text().tobytes().decode().split("\n"))


def choose_words(text: Text, *, words: str = "", size: NonNegativeInt = 0, min_count: PositiveInt = 1) -> WordList:
    """The words that a language model is over, the most frequent first; all others are <unk>, unknown words.

    Those of the file `words`, or else all of the texts that occur at least `min_count` times, of them the `size` most frequent (0:
    all).
    """
    if words and (size or min_count > 1):
        raise RecipeError("[vocabulary] words, size, min_count: a file of words says which. Remove the others")
    counts = text.counts
    counts[: END + 1] = 0
    order = np.argsort(-counts, kind="stable")
    if words:
        given = dict.fromkeys(read_word_list(words))
        found = [text.words[number] for number in order if counts[number] and text.words[number] in given]
        found += given.keys() - set(found)
    else:
        found = [text.words[number] for number in order if counts[number] >= min_count]
        found = found[: size or None]
    return WordList(["<unk>", *(word for word in found if word not in SPECIAL_WORDS)])


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Tokens (B, L) and those that follow them (B, L), -1 past a row's end; `fresh`: there is no memory of tokens before them."""

    tokens: Tensor
    following: Tensor
    fresh: bool

    def to(self, device: torch.device | str) -> "TextBatch":
        """The batch on a device."""
        return TextBatch(self.tokens.to(device), self.following.to(device), self.fresh)

    def __len__(self) -> int:
        return len(self.tokens)


class TextCorpus:
    """The tokens of texts in batches by epoch, for one of the processes."""

    def __init__(self, config: LanguageConfig, seed: int, tokens: np.ndarray, world: World):
        """tokens: (N,), END_TOKEN first and after each sentence. Raises RecipeError where each row would have none."""
        self.config, self.seed, self.tokens, self.world = config, seed, tokens, world
        self.rows = config.batch_size * world.ranks
        if config.context == "text" and len(tokens) - 1 < self.rows:
            raise RecipeError(
                f"[train] batch_size = {config.batch_size}: more rows than the {len(tokens) - 1:,} tokens of the texts. Lower it"
            )
        ends = np.flatnonzero(tokens == END_TOKEN)
        lengths = np.diff(ends)
        parts = -(-lengths // config.segment)  # of a long sentence
        within = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
        self.starts = np.repeat(ends[:-1], parts) + within * config.segment
        self.lengths = np.minimum(np.repeat(lengths, parts) - within * config.segment, config.segment)

    def plan(self, epoch: int) -> Sequence[Any]:
        """The batches of an epoch: places in the rows of the text, or numbers of sentences."""
        config = self.config
        if config.context == "text":
            return range(0, (len(self.tokens) - 1) // self.rows, config.segment)
        return plan_batches(
            self.lengths.astype(np.float64),
            batch_seconds=float(config.batch_size * config.segment),
            seed=self.seed,
            epoch=epoch,
            rank=self.world.rank,
            ranks=self.world.ranks,
        )

    def batches(self, epoch: int, start: int) -> Iterator[TextBatch]:
        """The batches of an epoch from its batch `start` on."""
        plan = self.plan(epoch)[start:]
        if self.config.context == "sentence":
            for numbers in plan:
                yield self.batch(self.starts[numbers], self.lengths[numbers], fresh=True)
            return
        length = (len(self.tokens) - 1) // self.rows
        # rows begin at other places of the text in each epoch
        shift = np.random.default_rng((self.seed, epoch)).integers(len(self.tokens) - 1)
        own = np.arange(self.config.batch_size) + self.world.rank * self.config.batch_size
        for place in plan:
            count = min(self.config.segment, length - place)
            yield self.batch(shift + own * length + place, np.full(len(own), count), fresh=place == 0)

    def batch(self, starts: np.ndarray, lengths: np.ndarray, *, fresh: bool) -> TextBatch:
        """Returns rows of `lengths` tokens from `starts` on; past the end of the text they go on at its beginning."""
        columns = np.arange(lengths.max())
        inside = columns < lengths[:, None]
        places = (starts[:, None] + columns) % (len(self.tokens) - 1)
        following = np.where(inside, self.tokens[places + 1], -1).astype(np.int64)
        tokens = np.where(inside, self.tokens[places], END_TOKEN).astype(np.int64)
        return TextBatch(torch.from_numpy(tokens), torch.from_numpy(following), fresh)

    def fingerprint(self) -> dict[str, Any]:
        """Returns numbers that identify the texts: a run that goes on compares them."""
        return {"tokens": len(self.tokens), "checksum": zlib.crc32(self.tokens.tobytes())}

    def describe(self) -> None:
        """Notes how much is trained on."""
        ends = int((self.tokens == END_TOKEN).sum()) - 1
        console.note(f"{ends:,} sentences, {len(self.tokens) - 1:,} tokens, their ends among them")
