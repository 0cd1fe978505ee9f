"""ARPA files, the text form of n-gram models, read (plain or gzip). Values in them are base-10 logarithms."""

import gzip
import math
import re
from pathlib import Path

import numpy as np

from carnelian.errors import LanguageModelError
from carnelian.files import reading
from carnelian.jit import cached
from carnelian.ngram.hashed import LN10
from carnelian.ngram.model import LARGEST_BACKOFF, LARGEST_LOG10, LONGEST, NGram, NGramBuilder
from carnelian.ngram.words import SPECIAL_WORDS, key_of, separates, word_hash, word_slot

MOST_DIGITS = 18  # of a number that are read; the others change nothing
MOST_EXPANSION = 50  # bytes of text for each byte of a gzip file; ARPA files have about five
GZIP_SLACK = 1 << 26  # bytes of text allowed however small the gzip file is
ENDING = b"\n\0\0\0"  # put after a file, so that nothing reads past its end
NUMBER, WORD, LINE, POSITIVE, BACKOFF, END = range(1, 7)  # what can be wrong with a line
WRONG = {
    NUMBER: "found no number where a logarithm should stand",
    WORD: "found a word that is not among the 1-grams",
    LINE: "found a line with too few or too many words",
    POSITIVE: "found a log-probability above 0",
    BACKOFF: f"found a back-off above {LARGEST_BACKOFF:g}",
    END: "the file ends in the middle of this section",
}


@cached
def _number(data, position):
    """Returns a decimal number at an index, and the index after it, -1 if there is none ("inf" and "nan" count as none)."""
    negative = data[position] == 45
    if negative or data[position] == 43:
        position += 1
    value, digits, exponent, point, found = 0.0, 0, 0, False, False
    while 48 <= data[position] <= 57 or (data[position] == 46 and not point):
        if data[position] == 46:
            point = True
        else:
            found = True
            if digits < MOST_DIGITS:
                value = value * 10 + (data[position] - 48)
                digits += value > 0
                exponent -= point
            else:
                exponent += not point
        position += 1
    if not found:
        return 0.0, -1
    if data[position] | 32 == 101:
        position += 1
        less = data[position] == 45
        if less or data[position] == 43:
            position += 1
        if not 48 <= data[position] <= 57:
            return 0.0, -1
        power = 0
        while 48 <= data[position] <= 57:
            power = min(power * 10 + (data[position] - 48), 9999)
            position += 1
        exponent += -power if less else power
    if value > 0 and exponent < 0:
        value /= 10.0**-exponent
    elif value > 0 and exponent > 0:
        value *= 10.0**exponent
    if not separates(data[position]) or value >= LARGEST_LOG10:
        return 0.0, -1
    return -value if negative else value, position


@cached
def _blank(data, position):
    """The index after spaces, tabs and carriage returns."""
    while data[position] == 32 or data[position] == 9 or data[position] == 13:
        position += 1
    return position


@cached
def _section(data, position, order, keys, numbers, words, probabilities, backoffs, spans):
    """Reads the lines of one section; returns the index after them, how many are whole, and what is wrong with the next.

    keys, numbers: hash table from words to their numbers, filled by the section of 1-grams, which also fills
    spans (M, 2) with where its words begin and end; words: (M, n) int32.
    """
    file_end = data.shape[0] - len(ENDING) + 1
    for row in range(words.shape[0]):
        position = _blank(data, position)
        while data[position] == 10:
            position = _blank(data, position + 1)
        if position >= file_end:
            return position, row, END
        if data[position] == 92:
            return position, row, LINE
        begin = position
        value, position = _number(data, position)
        if position < 0:
            return begin, row, NUMBER
        if value > 0:
            return begin, row, POSITIVE
        probabilities[row] = value
        for column in range(order):
            position = _blank(data, position)
            if separates(data[position]):
                return begin, row, END if position + 1 >= file_end else LINE
            first = position
            key, position = word_hash(data, position)
            slot = word_slot(keys, key)
            if order == 1:
                if keys[slot] != 0:
                    return begin, row, WORD
                keys[slot] = key
                numbers[slot] = row
                spans[row, 0] = first
                spans[row, 1] = position
            elif keys[slot] == 0:
                return begin, row, END if position + 1 >= file_end else WORD
            words[row, column] = numbers[slot]
        position = _blank(data, position)
        backoffs[row] = 0.0
        if data[position] != 10:
            backoffs[row], position = _number(data, position)
            if position < 0:
                return begin, row, NUMBER
            if backoffs[row] > LARGEST_BACKOFF:
                return begin, row, BACKOFF
            position = _blank(data, position)
        if data[position] != 10:
            return begin, row, LINE
        position += 1
        if position >= file_end:
            return begin, row, END
    return position, words.shape[0], 0


class _Reader:
    """An ARPA file in memory, held once, and how far it has been read."""

    def __init__(self, path: str | Path):
        self.path = path
        self.data = _contents(Path(path))
        self.data += ENDING
        self.array = np.frombuffer(self.data, np.uint8)
        self.position = 0

    def fail(self, position: int, what: str) -> LanguageModelError:
        line = self.data.count(b"\n", 0, position) + 1
        return LanguageModelError(f"{self.path}:{line}: {what}. Give a whole ARPA file")

    def counts(self) -> list[int]:
        """The numbers of n-grams that the header announces."""
        size = len(self.data) - len(ENDING)
        begin = self.data.find(b"\\data\\")
        if begin < 0:
            raise self.fail(0, r"found no \data\ line, so this is not an ARPA file")
        first = re.compile(rb"^\\1-grams:[ \t\r]*$", re.M).search(self.data, begin)
        if not first:
            raise self.fail(size, r"found no \1-grams: section")
        counts: list[int] = []
        position = begin + 6
        for line in self.data[position : first.start()].splitlines(keepends=True):
            match = re.fullmatch(rb"ngram\s+(\d{1,9})\s*=\s*(\d{1,18})\s*", line)
            if line.strip() and not (match and int(match[1]) == len(counts) + 1):
                raise self.fail(position, f'expected "ngram {len(counts) + 1}=..." in the header')
            if match:
                counts.append(int(match[2]))
            position += len(line)
        # the shortest line of an n-gram is a digit, and for each word a space and a letter
        shortest = sum(count * 2 * (order + 1) for order, count in enumerate(counts, 1))
        if not counts or counts[0] == 0 or shortest > len(self.data):
            raise self.fail(begin, "the header's counts do not fit the file")
        if len(counts) > LONGEST:
            raise self.fail(begin, f"the header announces n-grams of {len(counts)} words, expected at most {LONGEST}")
        return counts

    def heading(self, name: str) -> None:
        r"""Moves past a section's title, such as \2-grams: or \end\."""
        match = re.compile(rb"\s*" + re.escape(f"\\{name}".encode()) + rb"[ \t\r]*(\n|$)").match(
            self.data, self.position
        )
        if not match:
            rest = bytes(self.data[self.position : self.position + 4096]).strip(b" \t\r\n\0")[:1]
            kinds = {b"": "the file's end", b"\\": "another section"}
            found = kinds.get(rest, "more n-grams than the header announces")
            raise self.fail(self.position, f"expected \\{name}, found {found}")
        self.position = match.end()


def _contents(path: Path) -> bytearray:
    """Returns the bytes of a file, plain or gzip; a gzip file that expands out of all proportion is refused."""
    data = bytearray()
    with path.open("rb") as file:
        size = path.stat().st_size
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not zipped:
            data = bytearray(size)
            del data[file.readinto(data) :]
            return data
        with gzip.GzipFile(fileobj=file) as stream:
            while chunk := stream.read(1 << 22):
                data += chunk
                if len(data) > GZIP_SLACK + MOST_EXPANSION * size:
                    raise LanguageModelError(
                        f"{path}: {size} bytes of gzip that expand to more than {len(data)}: not read"
                    )
    return data


def _lower(words: list[str]) -> tuple[list[str], np.ndarray]:
    """Returns the words in lower case, each once, and for each given word the number of its lower-case form.

    A word that would become <s> or </s>, or <unk> where that is given, stays as it is.
    """
    kept = set(SPECIAL_WORDS if "<unk>" in words else SPECIAL_WORDS[1:])
    index: dict[str, int] = {}
    numbers = [index.setdefault(word if word.lower() in kept else word.lower(), len(index)) for word in words]
    return list(index), np.array(numbers, np.int32)


def _name_unknown(keys: np.ndarray, numbers: np.ndarray, count: int) -> None:
    """Lets <unk> and <UNK> stand in n-grams though only one of them, or neither, is among the `count` 1-grams."""
    slots = [(key, word_slot(keys, key)) for key in map(key_of, ("<unk>", "<UNK>"))]
    known = [int(numbers[slot]) for key, slot in slots if keys[slot] == key]
    for key, _ in slots:
        slot = word_slot(keys, key)  # anew: the first may have taken it
        if keys[slot] != key:
            keys[slot], numbers[slot] = key, known[0] if known else count


def read_arpa(path: str | Path, *, lower_case: bool = False) -> NGram:
    """Returns the model in an ARPA file, plain or gzip, of up to 64 words in an n-gram.

    lower_case: fold the words to lower case (OpenSLR-11's models are upper case); of words that become one the more
    probable counts. Back-offs that are missing are 0, a missing <unk> gets log10 -100 as in KenLM. Raises
    LanguageModelError, with the line, for a file that is cut or holds what is no logarithm.
    """
    with reading(path, "an ARPA file", LanguageModelError):
        return _model_of(_Reader(path), lower_case)


def _model_of(reader: _Reader, lower_case: bool) -> NGram:
    counts = reader.counts()
    size = 1 << math.ceil(math.log2(counts[0] * 2 + 4))
    keys, numbers = np.zeros(size, np.uint64), np.zeros(size, np.int32)
    spans = np.zeros((counts[0], 2), np.int64)
    builder, remap = None, None
    reader.position = reader.data.index(b"\\1-grams:")
    for order, count in enumerate(counts, 1):
        reader.heading(f"{order}-grams:")
        words = np.zeros((count, order), np.int32)
        probabilities, backoffs = np.zeros(count), np.zeros(count)
        position, done, wrong = _section(
            reader.array, reader.position, order, keys, numbers, words, probabilities, backoffs, spans
        )
        if wrong:
            section = f"{WRONG[wrong]} (\\{order}-grams:, {done} of {count} read)"
            if wrong == WORD and order == 1:
                section = "found a word that is among the 1-grams twice"
            raise reader.fail(position, section)
        reader.position = position
        probabilities *= LN10
        backoffs *= LN10
        if builder is None:
            found = _decode(reader, spans)
            _name_unknown(keys, numbers, count)
            if lower_case:
                found, remap = _lower(found)
                merged, first = np.full(len(found), -np.inf), np.full(len(found), -np.inf)
                np.maximum.at(merged, remap, probabilities)
                np.maximum.at(first, remap, np.where(probabilities == merged[remap], backoffs, -np.inf))
                probabilities, backoffs = merged, first
                remap = np.append(remap, np.int32(len(found)))  # of an <unk> that is not among the 1-grams
            builder = NGramBuilder(found, probabilities, backoffs, sum(counts[1:]))
        else:
            builder.add(words if remap is None else remap[words], probabilities, backoffs)
    reader.heading("end\\")
    assert builder is not None
    return builder.finish()


def _decode(reader: _Reader, spans: np.ndarray) -> list[str]:
    """The words that stand at these positions."""
    words = [bytes(reader.data[begin:end]) for begin, end in spans.tolist()]
    try:
        return b"\n".join(words).decode().split("\n")
    except UnicodeDecodeError:
        for (begin, _), word in zip(spans.tolist(), words):
            try:
                word.decode()
            except UnicodeDecodeError as error:
                what = (
                    f"byte 0x{word[error.start]:02x} is not UTF-8; it looks like Latin-1 ({word.decode('latin-1')!r})"
                )
                raise reader.fail(begin, f"{what}, which iconv -f latin1 -t utf-8 turns into UTF-8") from None
        raise
