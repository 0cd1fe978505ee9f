"""The page in headless Chromium (`make clients`, and the system's chromium and chromedriver)."""

import json
import shutil

import numpy as np
import pytest

pytestmark = pytest.mark.slow
WORDS = "do re mi . fa sol"


@pytest.fixture(scope="module")
def see(ask):
    """`see(served, call, recording)`: what the browser's script saw."""
    if not shutil.which("chromedriver"):
        pytest.skip("there is no chromedriver: apt-get install chromium chromium-driver")
    return lambda served, call, recording: ask(served, call, recording, "browser.py")


@pytest.fixture(scope="module")
def recording(singer, encoder):
    return encoder(singer(WORDS))


def test_dropped_files_are_read_heard_edited_and_taken_away(see, service, recording):
    found = see(service, "dropped", recording)
    assert found["words"] == ["do", "re", "mi", "fa", "sol"] and found["lane"] == 5
    assert found["heard"] == pytest.approx(2.85, abs=0.15)  # the end of "fa"
    assert found["chosen"].startswith("re, 90 % sure, at 0:00.5")
    assert found["edited"] == ["well", "do", "re", "mi", "fa", "sol"]
    assert found["txt"] == "well do re mi\nfa sol\n"
    assert found["srt"].startswith("1\n00:00:00,000 --> 00:00:01,") and "\n2\n00:00:02,500 --> " in found["srt"]
    assert found["vtt"].startswith("WEBVTT\n\n00:00:00.000 --> ")
    words = json.loads(found["json"])["words"]
    assert words[2] == {"word": "re", "start": 0.5, "end": 0.8, "confidence": 0.9}  # kept its time
    assert found["colours"] > 20 and found["problems"] == []


def test_axe_finds_nothing(see, service, recording):
    assert see(service, "accessible", recording) == {"empty": [], "light": [], "dark": [], "edit": [], "phone": []}


def test_text_appears_while_one_speaks(see, service, singer, encoder):
    found = see(service, "recorded", encoder(singer(". do re mi . fa sol . .", rate=48_000), 48_000))
    partial, words = found["early"]
    assert (partial and "do re mi".startswith(partial)) or words
    assert found["words"][:5] == ["do", "re", "mi", "fa", "sol"]
    assert found["problems"] == []


def test_a_key_is_asked_for_once(see, start, singer, encoder):
    found = see(start(keys=["right"]), "locked", encoder(singer(WORDS, rate=48_000), 48_000))
    assert found == {"axe": [], "words": ["do", "re", "mi", "fa", "sol"]}


def test_an_hour_larger_than_the_upload_limit_is_sent_in_parts(see, start, singer, encoder):
    hour = np.tile(singer("do re mi fa sol la ti", rate=8000), 1029)
    found = see(start(), "hour", encoder(hour, 8000))
    assert found["count"] == 7 * 1029
    assert found["clock"].endswith("/ 1:00:01.5")
    assert found["lane"][-2:] == ["la", "ti"] and found["axe"] == []
    assert [each for each in found["problems"] if "413" not in each] == []
