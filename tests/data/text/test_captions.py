"""Transcripts as files: read back, they say what they said before."""

import json
import re

import pytest

from carnelian.data.text.captions import FORMATS, LINES, LONGEST, WIDTH, captions, clock
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
