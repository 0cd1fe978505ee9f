"""Word pieces learnt from text spell it, and what is asked in vain is one line."""

import json
import subprocess
import sys

import pytest

from carnelian.data.alphabet import BertPieces, bert_vocabulary, learn_pieces, load_alphabet, make_alphabet
from carnelian.errors import CarnelianError

pytest.importorskip("sentencepiece")
LINES = ["seventy seven", "seven eleven", "enter seven s e v e n", "", "eleven o'clock"]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_pieces_spell_the_text_they_are_learnt_from(kind):
    alphabet = learn_pieces(LINES, 18, kind)
    assert len(alphabet) == 18
    assert [alphabet.decode(alphabet.encode(line)) for line in LINES] == LINES
    assert alphabet.unknown("seven ox") == {"x"}
    assert load_alphabet(alphabet.saved()) == alphabet
    assert learn_pieces(LINES, 18, kind) == alphabet


def test_frequent_words_become_pieces():
    alphabet = learn_pieces(LINES, 28)
    assert "▁seven" in alphabet.symbols
    assert len(alphabet.encode("seven seven")) == 2


@pytest.mark.parametrize(
    ("lines", "size", "kind", "message"),
    [
        ([], 10, "bpe", "10 word pieces of 0 lines"),
        (["", " "], 10, "bpe", "of 0 lines"),
        (LINES, 0, "bpe", "0 word pieces of 4 lines"),
        (LINES, 3, "bpe", "3 word pieces cannot be learnt.*smaller than required_chars"),
        (LINES, 5000, "bpe", "5000 word pieces cannot be learnt.*too high"),
        (LINES, 20, "letters", 'no such kind. Known: "bpe", "unigram"'),
    ],
)
def test_what_cannot_be_learnt_is_one_line(lines, size, kind, message):
    with pytest.raises(CarnelianError, match=message) as error:
        learn_pieces(lines, size, kind)
    assert "\n" not in str(error.value)


def test_word_pieces_as_a_vocabulary_of_bert(tmp_path):
    pytest.importorskip("tokenizers")
    lines = bert_vocabulary(learn_pieces(LINES, 28))
    assert lines[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] and {"seven", "##e", "e"} <= set(lines)
    pieces = BertPieces(lines)
    for line in LINES:
        assert pieces.decode(pieces.encode(line)) == line and pieces.unknown_piece not in pieces.encode(line)
    assert len(pieces.encode("seven seven")) == 2
    (tmp_path / "text.txt").write_text("\n".join(LINES))
    command = [sys.executable, "-m", "carnelian", "pieces", "text.txt", "--size", "28", "--out", "vocab.txt"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "vocab.txt").read_text() == "".join(f"{line}\n" for line in lines)


def test_the_verb_takes_manifests_and_writes_what_a_recipe_names(tmp_path):
    manifest = "".join(json.dumps({"audio_filepath": "a.wav", "duration": 1, "text": line}) + "\n" for line in LINES)
    (tmp_path / "train.jsonl").write_text(manifest)
    command = [sys.executable, "-m", "carnelian", "pieces", "train.jsonl", "--size", "24", "--out"]
    done = subprocess.run([*command, "pieces.model"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pieces.model: 24 pieces, such as ")
    assert make_alphabet(str(tmp_path / "pieces.model")) == learn_pieces(LINES, 24)
    wrong = subprocess.run([*command, "pieces.bin"], cwd=tmp_path, capture_output=True, text=True)
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and '".model"' in wrong.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pieces.model", "train.jsonl"]
