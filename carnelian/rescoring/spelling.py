"""A corrected text from the pieces of a corrector: what it left alone stays letter for letter as it was."""

from collections.abc import Sequence
from difflib import SequenceMatcher

from carnelian.data.alphabet import BertPieces

#: a piece of a text: (symbol, first, one past the last of its characters)
PieceSpan = tuple[int, int, int]
JOINING = "'’"  # marks inside words


def spell_correction(pieces: BertPieces, output: Sequence[int], text: str, split: Sequence[PieceSpan]) -> str | None:
    """Returns the text that an output spells; None where an unknown word of the text is not in the output, or the other way round.

    text, split: the text that was corrected, and its pieces. Those of them that are in the output too are spelled as in the text, with
    its capitals, accents and spaces, of which BERT's pieces know nothing.
    """
    if [symbol for symbol, *_ in split].count(pieces.unknown_piece) != list(output).count(pieces.unknown_piece):
        return None
    blocks = SequenceMatcher(None, [symbol for symbol, *_ in split], output, autojunk=False).get_matching_blocks()
    copied = {block.b + index: block.a + index for block in blocks for index in range(block.size)}
    spelled, before = "", ""
    for index, symbol in enumerate(output):
        source = copied.get(index)
        if source is None and symbol == pieces.unknown_piece:
            return None
        piece = pieces.symbols[symbol]
        written = text[split[source][1] : split[source][2]] if source is not None else piece.removeprefix("##")
        if source is not None and index and copied.get(index - 1, -2) == source - 1:
            gap = text[split[source - 1][2] : split[source][1]]
        else:
            joined = piece.startswith("##") or written in JOINING or before in JOINING
            gap = "" if joined or not index else " "
        spelled, before = spelled + gap + written, written
    return spelled


def split_long(pieces: BertPieces, text: str, longest: int) -> list[str]:
    """Returns a text in parts of whole words, few and of similar length, each within the limit of pieces; a longer word is a part."""
    words = text.split()
    counts = [len(each) for each in pieces.split(words)]
    total = sum(counts)
    if total <= longest or len(words) < 2:
        return [text]
    share, taken = total / -(-total // longest), 0
    parts: list[list[str]] = [[]]
    for word, count in zip(words, counts):
        if parts[-1] and (taken + count > longest or taken >= share):
            parts.append([])
            taken = 0
        parts[-1].append(word)
        taken += count
    return [" ".join(part) for part in parts]
