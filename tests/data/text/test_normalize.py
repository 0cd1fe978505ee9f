"""Running text becomes sentences as they are spoken and spelled, and what is lost is counted."""

import gzip
import json

import pytest

from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.data.text.normalize import TextNormalizer
from carnelian.data.text.numbers import number_words
from carnelian.data.text.report import NormalizationReport
from carnelian.data.text.sentences import normalize_text_file, split_sentences, without_frame
from carnelian.data.text.text_files import read_chunks, read_lines
from carnelian.errors import CarnelianError, LanguageModelError

SPANISH = Alphabet(" abcdefghijklmnopqrstuvwxyzáéíñóúü")


def spelled(sentence, **settings):
    report = NormalizationReport()
    return TextNormalizer(**settings)(sentence, report), report


@pytest.mark.parametrize(
    "sentence, settings, expected",
    [
        ("Hello, World!", {}, "hello world"),
        ("Don’t — stop; 'now'", {}, "don't stop now"),
        ("¿Qué dijo el niño?", {"alphabet": SPANISH}, "qué dijo el niño"),
        ("que\u0301 an\u0303o", {"alphabet": SPANISH}, "qué año"),  # composed from marks
        ("Don't", {"alphabet": SPANISH}, "dont"),
        ("The naïve café", {"alphabet": Alphabet(ENGLISH)}, "the naive cafe"),
        ("well-known", {}, "well known"),
        ("Don't", {"alphabet": Alphabet(ENGLISH.upper())}, "DON'T"),
        ("McDonald", {"keep_case": True}, "McDonald"),
        ("She is 21.", {"language": "en"}, "she is twenty one"),
        ("1,234.5 men", {"language": "en"}, "one thousand two hundred and thirty four point five men"),
        ("the 3rd of May", {"language": "en"}, "the third of may"),
        ("Tiene 1.200 pesetas", {"language": "es"}, "tiene mil doscientas pesetas"),
        ("el 1º", {"language": "es"}, "el primero"),
        ("007", {"language": "en"}, "zero zero seven"),
        ("Привет, мир", {}, "привет мир"),
    ],
)
def test_spelling(sentence, settings, expected):
    assert spelled(sentence, **settings)[0] == expected


def test_what_cannot_be_spelled_is_dropped_and_counted():
    written, report = spelled("naïve Привет", alphabet=Alphabet(ENGLISH))
    assert written is None
    assert report.dropped == 1
    assert set(report.unknown) == set("привет")
    assert dict(report.changed) == {"ï": 1}
    assert spelled("in 1999")[0] is None  # digits, and no language to say them in
    assert spelled("... !")[1].empty == 1


def test_numbers_are_limited():
    assert number_words("12345678901234567890", "en").startswith("one two three")
    assert number_words("3.141", "en") == "three point one four one"
    assert number_words("3,5", "es") == "tres coma cinco"
    with pytest.raises(LanguageModelError, match="--language xx"):
        TextNormalizer(language="xx")


def test_sentences_of_paragraphs():
    lines = ["It rained. She", "stayed! “Why?” he asked; no", "answer…", "", "Next", "  ", "", "Last."]
    assert list(split_sentences(lines)) == [
        "It rained.",
        "She stayed!",
        "“Why?",
        "he asked",
        "no answer…",
        "Next",
        "Last.",
    ]


def test_frames_of_gutenberg():
    book = (
        "Title\n\n*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n\n\nProduced by A\nand B\n\nText.\n\nEnd of Project"
    )
    lines = f"{book} Gutenberg's X\n\n*** END OF THIS PROJECT GUTENBERG EBOOK X ***\nlicense\n".split("\n")
    report = NormalizationReport()
    assert [line for line in without_frame(lines, report) if line] == ["Text."]
    assert report.frame_lines >= 8
    plain = ["No frame here.", "Produced by hand."]
    assert list(without_frame(plain, report)) == plain


def test_encodings(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes("uno\n\nel año\n".encode("latin-1"))
    with pytest.raises(CarnelianError, match=r"text.txt:3: byte 0xf1 is not UTF-8; as Latin-1 the word reads \"año\""):
        list(read_lines(path))
    assert list(read_lines(path, "latin-1")) == ["uno", "", "el año"]
    path.write_bytes("el\taño\tuno\xa0más".encode("latin-1"))
    with pytest.raises(CarnelianError, match=r"text.txt:1: byte 0xf1 .* as Latin-1 the word reads \"año\""):
        list(read_lines(path))
    path.write_bytes(b"uno\n\x1b[2J\xff\x00\n")
    with pytest.raises(CarnelianError, match=r"text.txt:2: byte 0xff is not UTF-8; it is not Latin-1 either") as found:
        list(read_lines(path))
    assert "\x1b" not in str(found.value)
    path.write_bytes("\ufeffuno".encode())
    assert list(read_lines(path)) == ["uno"]
    path.write_bytes("uno\ndos".encode("utf-16"))
    assert list(read_lines(path, "utf-16")) == ["uno", "dos"]
    path.write_bytes(gzip.compress("año\n".encode()))
    assert list(read_lines(path)) == ["año"]
    with pytest.raises(CarnelianError, match="no such encoding"):
        list(read_lines(path, "utf-9"))


def test_a_spanish_book(shared):
    report = NormalizationReport()
    path = shared("text/es/don_quijote.latin1.txt")
    sentences = list(
        normalize_text_file(path, TextNormalizer(language="es", alphabet=SPANISH), report, encoding="latin-1")
    )
    assert sentences[0] == "el ingenioso hidalgo don quijote de la mancha"
    assert sentences[-1] in ("vale", "fin")
    assert not any("gutenberg" in sentence for sentence in sentences)
    assert 375_000 < report.words < 385_000
    assert report.dropped == 0
    assert {letter for sentence in sentences for letter in sentence} <= set(SPANISH.symbols)


def test_a_manifest_gives_its_transcripts(tmp_path):
    path = tmp_path / "train.jsonl"
    lines = [json.dumps({"audio_filepath": "a.wav", "duration": 1, "text": text}) for text in ("uno", "el año")]
    path.write_text("\n\n".join(lines))
    assert list(read_lines(path)) == ["uno", "el año"]
    assert b"".join(read_chunks(path)) == "uno\nel año\n".encode()
    path.write_text(lines[0] + '\n{"audio_filepath"\n')
    with pytest.raises(CarnelianError, match=r"train.jsonl:2: "):
        list(read_lines(path))
