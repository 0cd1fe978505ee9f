"""The symbols a model writes in: characters, or word pieces. The only importer of sentencepiece and tokenizers."""

import base64
import io
import json
import re
import reprlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from carnelian.data.text.text_files import split_words
from carnelian.errors import CarnelianError, MissingExtraError
from carnelian.files import one_line, reading, reason_of

ENGLISH = " abcdefghijklmnopqrstuvwxyz'"
SPECIAL_TOKEN = re.compile(r"[<\[].+[>\]]")  # such as <pad> or [UNK], which no text is spelled with


class Alphabet:
    """Characters, or groups of them such as "ch", as symbols: symbol i is `symbols[i]`, the blank is one past the last."""

    def __init__(self, symbols: Sequence[str]):
        if not isinstance(symbols, Sequence) or not all(isinstance(symbol, str) for symbol in symbols):
            raise CarnelianError(f"alphabet: {reprlib.repr(symbols)}; expected its characters, or a list of symbols")
        self.symbols = tuple(symbols)
        self.blank = len(self.symbols)
        self.index = {symbol: index for index, symbol in enumerate(self.symbols)}
        if not self.symbols:
            raise CarnelianError('alphabet: it is empty. Give its characters, such as " abc"')
        if len(self.index) < len(self.symbols):
            twice = next(symbol for symbol in self.symbols if self.symbols.count(symbol) > 1)
            raise CarnelianError(f'alphabet: "{one_line(twice, 60)}" stands in it twice. Each symbol may stand once')

    #: the character that opens a word, and whether it is a symbol of its own (characters) or starts one (pieces)
    separator = " "

    @cached_property
    def spelling(self) -> tuple[bytes, ...]:
        """What each symbol writes, UTF-8, with spaces between words; nothing for a symbol that only controls."""
        return tuple(symbol.replace(self.separator, " ").encode() for symbol in self.symbols)

    @cached_property
    def groups(self) -> re.Pattern | None:
        """Matches the longest symbol at a place in a text; None where all symbols are single characters."""
        spelled = [symbol for symbol in self.symbols if symbol and not SPECIAL_TOKEN.fullmatch(symbol)]
        if all(len(symbol) == 1 for symbol in spelled):
            return None
        return re.compile("|".join(re.escape(symbol) for symbol in sorted(spelled, key=len, reverse=True)))

    def encode(self, text: str) -> list[int]:
        """Returns the symbols that spell the text, the longest that fits at each place.

        Characters that the alphabet lacks are left out (see `unknown`).
        """
        spelled = text if self.groups is None else self.groups.findall(text)
        return [self.index[symbol] for symbol in spelled if symbol in self.index]

    def decode(self, symbols: Sequence[int]) -> str:
        """The text that symbols spell, blanks not among them."""
        return "".join(self.symbols[symbol] for symbol in symbols)

    def unknown(self, text: str) -> set[str]:
        """Returns the characters of a text that the alphabet cannot spell."""
        if self.groups is not None:
            text = self.groups.sub("", text)
        return set(text) - self.index.keys()

    def saved(self) -> str:
        """The alphabet as one string, which `load_alphabet` reads."""
        return json.dumps({"symbols": self.symbols}, ensure_ascii=False)

    def __len__(self) -> int:
        return len(self.symbols)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alphabet) and self.saved() == other.saved()

    def __hash__(self) -> int:
        return hash(self.symbols)


class WordPieces(Alphabet):
    """Word pieces of a SentencePiece model; a piece that begins with "▁" begins a word."""

    separator = "▁"

    def __init__(self, model: bytes):
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError:
            raise MissingExtraError("sentencepiece", "pieces", "An alphabet of word pieces") from None
        self.model = model
        try:
            self.processor = SentencePieceProcessor(model_proto=model)
        except Exception as error:  # of many kinds
            raise CarnelianError(
                f"not a SentencePiece model ({reason_of(error)}). Learn one: carnelian pieces"
            ) from None
        super().__init__([self.processor.id_to_piece(index) for index in range(self.processor.get_piece_size())])

    @cached_property
    def spelling(self) -> tuple[bytes, ...]:
        """As in SentencePiece: bytes of byte pieces, nothing of control pieces, " ⁇ " of the unknown piece."""
        spelled = list(super().spelling)
        for index, piece in enumerate(self.symbols):
            if self.processor.is_byte(index):
                spelled[index] = bytes([int(piece[3:-1], 16)])
            elif self.processor.is_control(index):
                spelled[index] = b""
            elif self.processor.is_unknown(index):
                spelled[index] = " ⁇ ".encode()
        return tuple(spelled)

    def encode(self, text: str) -> list[int]:
        return self.processor.encode(text)

    def decode(self, symbols: Sequence[int]) -> str:
        return self.processor.decode([int(symbol) for symbol in symbols]).strip()

    def unknown(self, text: str) -> set[str]:
        missing = self.processor.unk_id()
        return {character for character in set(text) - {" "} if missing in self.processor.encode(character)}

    def saved(self) -> str:
        return json.dumps({"sentencepiece": base64.b64encode(self.model).decode()})


class GreedyPieces(Alphabet):
    """Word pieces in BERT's form: a word is split into the longest pieces from its beginning on. "▁" begins a word, as above."""

    separator = "▁"

    def split(self, text: str) -> tuple[list[int], set[str]]:
        """Returns the symbols that spell a text, and the characters that no piece spells, which are left out."""
        found, left_out = [], set()
        for word in text.split():
            rest = f"{self.separator}{word}"
            while rest and rest != self.separator:
                end = next((end for end in range(len(rest), 0, -1) if rest[:end] in self.index), 0)
                if end:
                    found.append(self.index[rest[:end]])
                    rest = rest[end:]
                else:
                    begin = len(self.separator) if rest.startswith(self.separator) else 0
                    left_out.add(rest[begin])
                    rest = rest[:begin] + rest[begin + 1 :]
        return found, left_out

    def encode(self, text: str) -> list[int]:
        return self.split(text)[0]

    def decode(self, symbols: Sequence[int]) -> str:
        return "".join(self.symbols[symbol] for symbol in symbols).replace(self.separator, " ").strip()

    def unknown(self, text: str) -> set[str]:
        return self.split(text)[1]

    def saved(self) -> str:
        return json.dumps({"pieces": self.symbols}, ensure_ascii=False)


class BertPieces(Alphabet):
    """BERT's word pieces (WordPiece) in the order of its vocab.txt; a piece that begins with "##" goes on with a word.

    Text is split as BERT was trained: at white space and around punctuation and Chinese characters, without accents where it has no
    capitals, and each word into the longest pieces from its beginning on; a word that no pieces spell is [UNK].
    """

    SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")

    def __init__(self, symbols: Sequence[str], *, lower_case: bool = True):
        super().__init__(symbols)
        self.lower_case = lower_case
        if missing := [token for token in self.SPECIAL if token not in self.index]:
            raise CarnelianError(
                f"a vocabulary of {len(self)} pieces without {missing[0]}. Expected BERT's vocab.txt, with {', '.join(self.SPECIAL)}"
            )
        self.pad, self.unknown_piece, self.first, self.last = (self.index[token] for token in self.SPECIAL)
        try:
            from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
        except ImportError:
            raise MissingExtraError("tokenizers", "corrector", "BERT's word pieces") from None
        self.tokenizer = Tokenizer(models.WordPiece(self.index, unk_token="[UNK]", max_input_chars_per_word=100))
        self.tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower_case)
        self.tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def split(self, texts: Sequence[str]) -> list[list[tuple[int, int, int]]]:
        """Returns the pieces of each text: (symbol, first, one past the last of its characters in the text)."""
        found = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [[(piece, *span) for piece, span in zip(each.ids, each.offsets)] for each in found]

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, symbols: Sequence[int]) -> str:
        """The text that pieces spell, with spaces around punctuation but the apostrophe."""
        text = " ".join(self.symbols[symbol] for symbol in symbols).replace(" ##", "")
        return re.sub(r"(?<=\w) ' (?=\w)", "'", text)

    def unknown(self, text: str) -> set[str]:
        return {
            character
            for character in set(text)
            if not character.isspace() and self.unknown_piece in self.encode(character)
        }

    def saved(self) -> str:
        return json.dumps({"bert": self.symbols, "lower_case": self.lower_case}, ensure_ascii=False)


class WordList(Alphabet):
    """Words of a language model; the first symbol stands for all other words, and is called <unk>."""

    def encode(self, text: str) -> list[int]:
        return [self.index.get(word, 0) for word in split_words(text)]

    def decode(self, symbols: Sequence[int]) -> str:
        return " ".join(self.symbols[symbol] for symbol in symbols)

    def unknown(self, text: str) -> set[str]:
        """Returns the words of a text that are not in the list."""
        return {word for word in split_words(text) if not self.index.get(word)}

    def saved(self) -> str:
        return json.dumps({"words": self.symbols}, ensure_ascii=False)


def learn_pieces(lines: Iterable[str], size: int, kind: str = "bpe") -> WordPieces:
    """So many word pieces, learnt from lines of text that are taken as they are; kind: "bpe" or "unigram".

    Raises CarnelianError where the text holds too few words, or more characters than pieces are asked for.
    """
    try:
        from sentencepiece import SentencePieceTrainer
    except ImportError:
        raise MissingExtraError("sentencepiece", "pieces", "Learning word pieces") from None
    if kind not in ("bpe", "unigram"):
        raise CarnelianError(f'kind "{kind}" of word pieces: no such kind. Known: "bpe", "unigram"')
    words = [line for line in lines if line.strip()]
    if not words or size < 1:
        raise CarnelianError(f"{size} word pieces of {len(words)} lines: expected one or more of each")
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(words),
            model_writer=model,
            vocab_size=size,
            model_type=kind,
            character_coverage=1.0,
            normalization_rule_name="identity",
            max_sentence_length=1 << 20,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()).rpartition("] ")[2]
        raise CarnelianError(f"{size} word pieces cannot be learnt from this text: {reason}") from None
    return WordPieces(model.getvalue())


def bert_vocabulary(alphabet: WordPieces) -> list[str]:
    """Returns word pieces as the lines of BERT's vocab.txt: marks, each letter at a word's beginning and inside, the pieces."""
    spelled = [
        piece for piece in alphabet.symbols if piece != alphabet.separator and not SPECIAL_TOKEN.fullmatch(piece)
    ]
    letters = sorted(set("".join(spelled)) - {alphabet.separator})
    pieces = [
        piece.removeprefix(alphabet.separator) if piece.startswith(alphabet.separator) else f"##{piece}"
        for piece in spelled
    ]
    marks = [*BertPieces.SPECIAL, "[MASK]"]
    return list(dict.fromkeys([*marks, *letters, *(f"##{letter}" for letter in letters), *pieces]))


def load_alphabet(saved: str) -> Alphabet:
    """An alphabet from what `saved()` gave."""
    parts = json.loads(saved)
    if "bert" in parts:
        return BertPieces(parts["bert"], lower_case=bool(parts["lower_case"]))
    if "words" in parts:
        return WordList(parts["words"])
    if "sentencepiece" in parts:
        return WordPieces(base64.b64decode(parts["sentencepiece"]))
    return GreedyPieces(parts["pieces"]) if "pieces" in parts else Alphabet(parts["symbols"])


def make_alphabet(given: str | Sequence[str]) -> Alphabet:
    """An alphabet from a recipe: a string of characters, a list of symbols, or the path of a SentencePiece `.model`."""
    if isinstance(given, str) and given.endswith(".model"):
        path = Path(given)
        if not path.is_file():
            raise CarnelianError(f"{path}: no such SentencePiece model. Give its path, or the characters themselves")
        with reading(path, "a SentencePiece model"):
            return WordPieces(path.read_bytes())
    return Alphabet(given)
