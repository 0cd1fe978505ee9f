"""Text as it is spoken in four languages, by name; what changed is counted, and once is enough."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.data.text.names import make_normalizer
from carnelian.data.text.numbers import spelled_out
from carnelian.data.text.report import NormalizationReport
from carnelian.errors import CarnelianError

CASES = {
    "en": {
        "Open the window.": "open the window",
        "Mr. Smith’s dog — “Rex” — barked at 5 p.m. on the 3rd of May, 1999!": (
            "mister smith's dog rex barked at five p m on the third of may nineteen ninety nine"
        ),
        "Dr. King lives on St. John St.": "doctor king lives on saint john street",
        "The U.S.A. & the U.K.": "the u s a and the u k",
        "e.g. rock 'n' roll, etc.": "for example rock n roll et cetera",
        "It's 50% off: $3.99, not $4 million": "it's fifty percent off three dollars and ninety nine cents not four million dollars",
        "café naïve": "cafe naive",
        "m n o": "m n o",
        "at 3:30, 10:05, 5:00 or 5:00 pm": "at three thirty ten oh five five o'clock or five p m",
        "call 555-1234": "call five five five one two three four",
        "3/4 of 2 1/2, the 1990s and '80s": "three quarters of two and a half the nineteen nineties and eighties",
        "½ cup at -5 °C": "one half cup at minus five degrees celsius",
        "5pm, 5 PM, 11:30am": "five p m five p m eleven thirty a m",
        "version 1.2.3 and 4,5,6; 24/7": "version one point two point three and four five six twenty four seven",
        "1,000,000.5 or 1000": "one million point five or one thousand",
        "£3bn, $5m or $2 million": "three billion pounds five million dollars or two million dollars",
        "x²": "x two",
        "No. 5 ran 10 km/h": "number five ran ten kilometers per hour",
        "uhhh, uhm, hmmm": "uh uh hmm",
        "[laughter] yes <unk>": "yes",
    },
    "es": {
        "¿Qué dijo el Sr. García a las 15:30?": "qué dijo el señor garcía a las quince treinta",
        "EE. UU. y la ONU": "estados unidos y la onu",
        "D. Quijote, cap. 3": "don quijote capítulo tres",
        "Ud. sabe, p. ej., el 50 %": "usted sabe por ejemplo el cincuenta por ciento",
        "21 años, 200 personas, 1 día y 1 casa": "veintiún años doscientas personas un día y una casa",
        "el 1.º, la 2ª y el 3er piso": "el primero la segunda y el tercer piso",
        "3,5 o 3.5 y 5,20 €": "tres coma cinco o tres punto cinco y cinco euros con veinte céntimos",
        "$3 millones": "tres millones de dólares",
        "31 personas pagaron 1.000.000 y 21 €": "treinta y una personas pagaron un millón y veintiún euros",
        "21.000 personas, 10 000 casas": "veintiún mil personas diez mil casas",
        "el pingüino, año": "el pingüino año",
    },
    "de": {
        "Herr Dr. Müller kam z.B. um 20:15 Uhr": "herr doktor müller kam zum beispiel um zwanzig uhr fünfzehn",
        "am 3. Mai 1984": "am dritten mai neunzehnhundertvierundachtzig",
        "3,5 km für 1.200,50 €": "drei komma fünf kilometer für eintausendzweihundert euro fünfzig cent",
        "Straße & Weg": "straße und weg",
    },
    "fr": {
        "M. Dupont et Mme Roy l’ont dit le 1er mai à 5 h, euuuh": (
            "monsieur dupont et madame roy l'ont dit le premier mai à cinq heures euh"
        ),
        "la 1re, le 2e et 3,5 km": "la première le deuxième et trois virgule cinq kilomètres",
        "1 200 euros": "mille deux cents euros",
        "peut-être 21,50 €": "peut être vingt et un euros et cinquante centimes",
    },
    "basic": {"¡Hola, señor! 21 años": "hola señor 21 años", "Ünïcode ﬁne": "ünïcode fine"},
    "it": {"21 gatti!": "ventuno gatti"},
    "tr": {"ISPARTA İzmir": "ısparta izmir"},
    "en,drop-hesitations": {"uh, yes um": "yes"},
    "en,keep-case,keep-numbers": {"At 5, Ann": "At 5 Ann"},
    "es,strip-accents": {"año, café": "ano cafe"},
}


@pytest.mark.parametrize("name", CASES)
def test_by_hand(name):
    normalizer = make_normalizer(name)
    assert {text: normalizer(text) for text in CASES[name]} == CASES[name]


@pytest.mark.parametrize("apostrophe", "'’‘ʼ`´′＇")
def test_every_apostrophe_is_one(apostrophe):
    assert make_normalizer("en")(f"don{apostrophe}t") == "don't"


def test_invisible_characters_are_none():
    assert make_normalizer("en")("\ufeffco\u00adop\u200berate") == "cooperate"


def test_names_and_versions():
    assert make_normalizer("en").label == "en 1"
    assert make_normalizer("en,drop-hesitations").label == "en 1 drop-hesitations"
    assert make_normalizer("basic").label == "basic 1"
    for name, told in {
        "xx": "written out",
        "english": "no such",
        "en,loud": 'no option "loud"',
        "whisper-x": "no such",
    }.items():
        with pytest.raises(CarnelianError, match=told):
            make_normalizer(name)


def test_languages_without_number_words_are_refused_before_the_first_text():
    pytest.importorskip("num2words")
    with pytest.raises(CarnelianError, match="zh: numbers cannot be written out in it"):
        make_normalizer("zh")
    assert make_normalizer("zh,keep-numbers")("你好,12") == "你好 12"


def test_numbers_that_num2words_fails_at_are_written_as_far_as_it_can(monkeypatch):
    num2words = pytest.importorskip("num2words")

    def fails_above_nine(value, **given):
        return {1: "one", 2: "two"}[value]

    monkeypatch.setattr(num2words, "num2words", fails_above_nine)
    assert spelled_out(121, "xx") == "one two one"


def test_what_changed_is_counted():
    report = NormalizationReport()
    normalizer = make_normalizer("en", Alphabet(ENGLISH))
    assert normalizer("Mr. Brown paid $5 & left, um, [noise] the café.", report)
    assert normalizer("already clean", report) == "already clean"
    assert normalizer("привет", report) is None
    assert normalizer("...", report) is None
    assert (report.sentences, report.altered, report.dropped, report.empty, report.numbers) == (2, 1, 1, 1, 1)
    assert report.abbreviations == {"mr.": 1} and report.symbols == {"&": 1} and report.tags == {"[noise]": 1}
    assert report.hesitations == {"um": 1} and report.changed == {"é": 1} and report.unknown["п"] == 1
    assert report.punctuation[","] == 2
    assert report.examples == [
        ("Mr. Brown paid $5 & left, um, [noise] the café.", "mister brown paid five dollars and left um the cafe")
    ]
    assert dict(report.rows())["sentences changed"] == 1


TEXTS = st.text(alphabet=st.sampled_from("aBé ß'’.,-1230/$%&:[]<>ºÜ½٣م\u0301\n"), max_size=40)


@given(TEXTS, st.sampled_from(["en", "es", "de", "fr", "basic", "tr", "en,keep-case,drop-hesitations"]))
def test_once_is_enough(text, name):
    """Normalised text is composed, has single spaces and no punctuation, and is not changed by normalising it again."""
    normalizer = make_normalizer(name)
    written = normalizer(text)
    if written is not None:
        assert written == unicodedata.normalize("NFC", " ".join(written.split()))
        assert all(letter.isalnum() or letter in " '" or unicodedata.category(letter)[0] == "M" for letter in written)
        assert normalizer(written) == written


@given(TEXTS)
def test_an_alphabet_is_obeyed(text):
    alphabet = Alphabet(ENGLISH)
    written = make_normalizer("en", alphabet)(text)
    assert written is None or not alphabet.unknown(written)


def test_whisper():
    pytest.importorskip("whisper_normalizer", reason="whisper-normalizer is not installed (the extra whisper)")
    normalizer = make_normalizer("whisper-english")
    assert [normalizer(text) or "" for text in ["Mr. Smith's colour, it's twenty dollars!", "[noise]"]] == [
        "mister smith is color it is $20",
        "",
    ]
    assert normalizer.label.startswith("whisper-english ") and "whisper-normalizer" in normalizer.label
    assert make_normalizer("whisper-basic")("¡Hola, Señor!") == "hola señor"
    with pytest.raises(CarnelianError, match="has no options"):
        make_normalizer("whisper-english,keep-case")
