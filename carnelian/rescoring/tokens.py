"""Words as tokens of a language model over words, word pieces or characters."""

from collections.abc import Sequence

from carnelian.data.alphabet import Alphabet
from carnelian.errors import LanguageModelError

END_TOKEN = 0  # ends a sentence, and stands before the first; symbol s of the alphabet is token s + 1


class WordTokens:
    """The tokens of each word, and whether the alphabet knows it; each word is spelled once."""

    def __init__(self, alphabet: Alphabet):
        if type(alphabet) is Alphabet and " " not in alphabet.index:
            raise LanguageModelError("alphabet: it has no space, so words cannot be told apart. Put one in")
        self.alphabet = alphabet
        self.found: dict[str, tuple[tuple[int, ...], bool]] = {}

    def __call__(self, word: str) -> tuple[tuple[int, ...], bool]:
        """Returns the tokens of a word, and whether all of it is known."""
        if word not in self.found:
            # characters have a space before each word, as word pieces have a mark
            spelled = f" {word}" if self.alphabet.separator == " " else word
            tokens = tuple(symbol + 1 for symbol in self.alphabet.encode(spelled))
            self.found[word] = tokens, not self.alphabet.unknown(word)
        return self.found[word]

    def sentence(self, words: Sequence[str]) -> tuple[list[int], list[int]]:
        """Returns the tokens of a sentence with its end, and of each word and the end the number of tokens up to there."""
        tokens: list[int] = []
        ends = []
        for word in words:
            tokens += self(word)[0]
            ends.append(len(tokens))
        return [*tokens, END_TOKEN], [*ends, len(tokens) + 1]
