"""The HTML report: its figures, that it takes nothing from what users wrote as HTML, and what a browser makes of it."""

import re

import numpy as np
import pytest
from html_pages import HAS_BROWSER, payload, rows_of, shown_page, values_of

from carnelian.scoring.report import frame
from carnelian.scoring.report.evaluation import SystemResult, write_html_report
from carnelian.scoring.report.frame import Clip, ReportUtterance, SampledAudio

HOSTILE = "</script><script>document.title='stolen'</script>"
UTTERANCES = [
    ReportUtterance(
        f"{number}.wav", f"one two {number}", 2.0 + number, "clean" if number % 2 else "other", f"s{number % 3}"
    )
    for number in range(9)
] + [ReportUtterance(HOSTILE, "five words are in here", 3.0, "clean", HOSTILE)]
AUDIO = SampledAudio({9: Clip(b"x", "audio/mpeg", (0.5, 1.0))}, {number: 5.0 * number for number in range(9)})


@pytest.fixture
def report(tmp_path):
    first = SystemResult(
        "A", [f"one two {number}" for number in range(9)] + ["five <b>words</b> in here"], [[0.9] * 3] * 9 + [[0.2] * 4]
    )
    second = SystemResult("B", ["one"] * 9 + [""])
    write_html_report(
        tmp_path / "report.html",
        "Two & <systems>",
        UTTERANCES,
        [first, second],
        vocabulary={"one", "two"},
        sample=lambda order: AUDIO,
    )
    return tmp_path / "report.html"


def test_figures(report):
    found = payload(report)
    first, second = found["systems"]
    assert first["counts"] == [30, 1, 1, 0] and second["counts"] == [9, 0, 23, 0]
    assert first["rate"] == pytest.approx(2 / 32) and second["calibration"] is None
    slots = np.array(first["calibration"]["slots"])
    assert slots == pytest.approx(np.array([[0.2, 0.75, 4], [0.9, 1.0, 27]])), "words without a twin are wrong"
    assert first["unknown"] == {"words": 14, "errors": 2}
    assert found["comparisons"][0]["words"] == "A is better"
    assert {group["kind"] for group in found["groups"]} == {"Subset", "Speaker", "Duration", "Signal to noise"}


def test_the_list_has_the_worst_first_and_words_that_are_no_hits(report):
    rows, values = rows_of(report), values_of(report)
    assert rows[0][0] == HOSTILE and payload(report)["clips"] == [0]
    steps, others, confidences = rows[0][2][0]
    assert sorted(steps) == sorted("hsdhh") and others == ["<b>words</b>"]
    assert confidences == chr(48 + 10) * 4, "steps of two percent"
    assert rows[1] == ["0.wav", "one two 0", [["hhh", [], chr(48 + 45) * 3], ["hdd", [], ""]]]
    assert values["index"][0].tolist() == [10, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert values["errors"].tolist() == [[2, *[0] * 9], [5, *[2] * 9]]
    assert np.isnan(values["snr"][0, 0]) and values["snr"][0, 3] == 10
    names = next(each["names"] for each in payload(report)["columns"] if each["key"] == "speaker")
    assert names == [HOSTILE, "s0", "s1", "s2"] and values["speaker"][0].tolist() == [0, 1, 2, 3, 1, 2, 3, 1, 2, 3]


def test_a_file_does_not_grow_beyond_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(frame, "UTTERANCES_PER_PART", 100)
    rng = np.random.default_rng(0)
    texts = [" ".join(map(str, rng.integers(1 << 30, size=20))) for _ in range(1000)]
    utterances = [ReportUtterance(f"{number}.wav", text, 1.0) for number, text in enumerate(texts)]
    system = SystemResult("A", [text if number % 2 else "" for number, text in enumerate(texts)])
    path = tmp_path / "small.html"
    monkeypatch.setattr(frame, "MOST_BYTES", 120_000)
    write_html_report(path, "small", utterances, [system])
    listed = rows_of(path)
    assert 100_000 < path.stat().st_size < 121_000 and 300 <= len(listed) < 1000
    assert payload(path)["utterances"] == 1000 and [row[0] for row in listed[:3]] == ["0.wav", "2.wav", "4.wav"]


def test_it_needs_no_network_and_takes_no_text_as_html(report):
    text = report.read_text()
    assert HOSTILE not in text and "<systems>" not in text
    assert not re.search(r'(src|href)="(https?:)?//', text) and "default-src 'none'" in text


@pytest.mark.slow
@pytest.mark.skipif(not HAS_BROWSER, reason="there is no chromium with chromedriver")
def test_a_browser_shows_it(report):
    shown = shown_page(report)
    assert 'data-ready="' in shown and "<title>Two &amp; &lt;systems&gt;</title>" in shown
    assert shown.count("<tr>") >= 13 and "10 utterances" in shown and "A is better" in shown
    assert "&lt;b&gt;words&lt;/b&gt;" in shown and "stolen</title>" not in shown
    assert shown.count('title="confidence 20 %"') == 4 and shown.count('title="confidence 90 %"') == 27
