"""What a corrector leaves alone stays letter for letter as it was; long texts are cut at words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnelian.data.alphabet import BertPieces
from carnelian.data.transcript import Transcript, Word
from carnelian.rescoring.spelling import spell_correction, split_long

pytest.importorskip("tokenizers")
LETTERS = "abcdehinorst"
PIECES = BertPieces(
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS), "'", "-", "the", "dogs"]
)


def respelled(text: str, corrected: str) -> str | None:
    """A text after a corrector has written the pieces of another."""
    return spell_correction(PIECES, PIECES.encode(corrected), text, PIECES.split([text])[0])


@given(st.text(alphabet="abcdeTHÉ' -\t中z", max_size=40))
def test_an_unchanged_text_is_as_it_was(text):
    assert respelled(text, text) == text.strip(" \t")


@pytest.mark.parametrize(
    ("text", "corrected", "expected"),
    [
        ("the dogs' tails", "the dogs ' tails", "the dogs' tails"),  # BERT's pieces do not tell these two apart
        ("the dogs' tan", "the dogs' ten", "the dogs' ten"),
        ("The  DOGS rán", "the dogs ran bad", "The  DOGS rán bad"),
        ("i ant", "i an't", "i an't"),
        ("i an't", "i ant", "i ant"),
        ("abe", "abet", "abet"),
        ("a be", "the abe", "the abe"),
        ("zz a", "zz b", "zz b"),  # z is no piece: the word is unknown, and stays
        ("a", "", ""),
        ("", "the", "the"),
    ],
)
def test_a_correction(text, corrected, expected):
    assert respelled(text, corrected) == expected


def test_an_unknown_piece_from_nowhere_is_no_correction():
    assert respelled("a b", "zz b") is None and respelled("zz b", "zz zz b") is None
    assert respelled("zz b", "b") is None  # what it cannot read it may not leave out


@given(st.text(alphabet="abc ", max_size=60), st.integers(1, 12))
def test_parts_of_a_long_text(text, longest):
    parts = split_long(PIECES, text, longest)
    assert " ".join(parts).split() == text.split()
    counts = [len(PIECES.encode(part)) for part in parts]
    words = [len(PIECES.encode(word)) for word in text.split()]
    assert all(count <= max(longest, *words) for count in counts) if words else parts == [text]
    assert sum(counts) <= longest or len(words) < 2 or len(parts) > 1
    if len(parts) == 1:
        assert parts == [text]


def test_words_keep_their_times():
    """Words that stay keep their times and confidence; what replaces some has their time, divided evenly."""
    words = tuple(
        Word(text, start, start + 0.5, 0.9) for text, start in (("i", 0.0), ("scream", 0.6), ("for", 1.2), ("ice", 2.0))
    )
    found = Transcript("i scream for ice", words, duration=3.0).with_text("ice cream for the ice age")
    assert found.text == "ice cream for the ice age" and [word.text for word in found.words] == found.text.split()
    assert found.words[2] == words[2] and found.words[4] == words[3]
    ice, cream, _, the, _, age = found.words
    assert (ice.start, ice.end, cream.start, cream.end) == (0.0, 0.55, 0.55, 1.1) and ice.confidence == pytest.approx(
        0.9
    )
    assert (the.start, the.end, the.confidence) == (1.7, 2.0, 0.0) and (age.start, age.end) == (2.5, 3.0)
    shorter = Transcript("i scream for ice", words, duration=3.0).with_text("i scream")
    assert shorter.words == words[:2]
    assert Transcript("", (), duration=1.0).with_text("oh no").words[1] == Word("no", 0.5, 1.0, 0.0)
