"""Transcripts as files: read back, they say what they said before."""

import json
import re

import pytest

from carnelian.data.text.captions import FORMATS, LINES, LONGEST, WIDTH, captions, clock, pauses
from carnelian.data.transcript import Transcript, Word


def spoken(texts, pause=0.1, start=0.5):
    words, now = [], start
    for each in texts:
        words.append(Word(each, round(now, 3), round(now + 0.3, 3), 0.875))
        now += 0.3 + pause
    return Transcript(" ".join(texts), tuple(words), duration=now)


LONG = spoken([f"word{number}" for number in range(40)])


def seconds(stamp):
    hours, minutes, rest = stamp.replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def blocks(content):
    """(start, end, lines) of each caption in SRT or VTT."""
    for block in re.split(r"\n\n+", content.strip()):
        lines = block.split("\n")
        times = next((index for index, line in enumerate(lines) if " --> " in line), None)
        if times is not None:
            start, end = lines[times].split(" --> ")
            yield seconds(start), seconds(end), lines[times + 1 :]


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_captions_hold_all_words_in_order_and_size(form):
    shown = list(blocks(FORMATS[form]("talk.wav", LONG)))
    assert " ".join(line for _, _, lines in shown for line in lines) == LONG.text
    assert len(shown) > 3
    for (start, end, lines), (following, _, _) in zip(shown, [*shown[1:], (1e9, 0, [])]):
        assert start < end <= following and end - start <= LONGEST
        assert len(lines) <= LINES and all(len(line) <= WIDTH for line in lines)
    assert shown[0][0] == LONG.words[0].start and shown[-1][1] == LONG.words[-1].end


def test_srt_counts_from_one_and_vtt_has_its_head():
    assert FORMATS["srt"]("a", LONG).startswith("1\n00:00:00,500 --> ")
    assert FORMATS["vtt"]("a", LONG).startswith("WEBVTT\n\n00:00:00.500 --> ")


def test_vtt_escapes():
    shown = FORMATS["vtt"]("a", spoken(["a<b>", "&", "c"]))
    assert "a&lt;b&gt; &amp; c" in shown


def test_pause_begins_a_caption():
    assert len(list(captions(spoken(["one", "two"], pause=0.5)))) == 1
    assert len(list(captions(spoken(["one", "two"], pause=1.0)))) == 2


def timed(*words, silences=None):
    """A transcript of (text, start, end)."""
    found = tuple(Word(text, start, end, 1.0) for text, start, end in words)
    return Transcript(" ".join(word.text for word in found), found, (), 100.0, silences)


def test_a_pause_is_what_is_silent_between_two_words():
    words = [("a", 0.0, 1.0), ("b", 2.0, 3.0), ("c", 4.0, 5.0), ("d", 5.0, 6.0)]
    assert pauses(timed(*words)) == [0, 1, 1, 0]
    found = pauses(timed(*words, silences=((0.5, 1.25), (1.5, 1.75), (2.9, 5.5))))
    assert found == pytest.approx([0, 0.5 + 0.25, 1, 0])  # what is loud counts half
    assert pauses(timed(*words, silences=())) == [0, 0.5, 0.5, 0]
    assert pauses(timed()) == [0]


def test_words_are_parted_at_the_longest_pause_that_fits():
    words = [(f"word{number:02d}", number * 0.3, number * 0.3 + 0.25) for number in range(20)]
    late = [
        (text, start + 0.3 * (number >= 9), end + 0.3 * (number >= 9))
        for number, (text, start, end) in enumerate(words)
    ]
    first, *_ = captions(timed(*words))
    assert len(first.words) == 12  # as many as two lines hold
    first, second, *_ = captions(timed(*late))
    assert first.words[-1].text == "word08" and second.words[0].text == "word09"
    assert second.start == second.words[0].start


def test_a_word_that_fits_no_line_is_parted():
    """Of an alphabet without a space, all is one word."""
    shown = list(captions(timed(("x" * 500, 10.0, 60.0))))
    assert "".join(line for each in shown for line in each.lines) == "x" * 500
    assert all(len(each.lines) <= LINES and max(map(len, each.lines)) <= WIDTH for each in shown)
    assert shown[0].start == 10 and shown[-1].end == pytest.approx(60, abs=0.01)
    assert all(each.end <= later.start + 0.01 for each, later in zip(shown, shown[1:]))


def test_paragraphs():
    transcript = timed(("a", 0, 1), ("b", 1.5, 2), ("c", 4.5, 5), ("d", 5, 6))
    assert FORMATS["text"]("x", transcript) == "a b c d\n"
    assert FORMATS["text"]("x", transcript, paragraph_pause=2.0) == "a b\nc d\n"
    assert (
        FORMATS["text"]("x", transcript, transcript, channels=(0, 1), paragraph_pause=2.0)
        == "A: a b\nA: c d\nB: a b\nB: c d\n"
    )
    assert FORMATS["text"]("x", Transcript("", duration=9.0), paragraph_pause=2.0) == "\n"


def test_text_without_word_times_is_one_caption():
    (shown,) = captions(Transcript("only text", duration=2.5))
    assert (shown.start, shown.end, shown.lines) == (0.0, 2.5, ("only text",))


@pytest.mark.parametrize("form, expected", [("text", "\n"), ("srt", ""), ("vtt", "WEBVTT\n\n"), ("ctm", "")])
def test_silence(form, expected):
    assert FORMATS[form]("a.wav", Transcript("", duration=1.0)) == expected


def test_json_lines():
    transcript = spoken(["año", '"quoted"'])
    (line,) = FORMATS["jsonl"]("a b.wav", transcript).splitlines()
    read = json.loads(line)
    assert read["audio_filepath"] == "a b.wav" and read["text"] == transcript.text
    assert tuple(Word(**word) for word in read["words"]) == transcript.words


def test_ctm():
    lines = [line.split() for line in FORMATS["ctm"]("my talk.wav", LONG).splitlines()]
    assert {(name, channel) for name, channel, *_ in lines} == {("my_talk.wav", "1")}
    read = [
        Word(text, float(start), round(float(start) + float(span), 3), float(sure))
        for _, _, start, span, text, sure in lines
    ]
    assert tuple(read) == LONG.words


@pytest.mark.parametrize(
    "value, expected", [(0.9996, "00:00:01,000"), (59.9999, "00:01:00,000"), (3661.5, "01:01:01,500")]
)
def test_clock_carries(value, expected):
    assert clock(value, ",") == expected
