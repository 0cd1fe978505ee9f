"""The page that shows a corpus: its figures, which utterances are outliers, and what a browser makes of it."""

import numpy as np
import pytest
from html_pages import HAS_BROWSER, payload, rows_of, shown_page, values_of
from hypothesis import given
from hypothesis import strategies as st

from carnelian.scoring.report.evaluation import SystemResult
from carnelian.scoring.report.explorer import modified_scores, slots_of, write_explorer
from carnelian.scoring.report.frame import Clip, ReportUtterance, SampledAudio


def corpus(count: int = 1200) -> list[ReportUtterance]:
    """Utterances of 2 to 4 s with 30 to 50 letters each: no outlier among them."""
    rng = np.random.default_rng(0)
    words = [" ".join(["word", "of", "it"][index % 3] for index in range(rng.integers(8, 14))) for _ in range(count)]
    return [
        ReportUtterance(f"{number}.wav", text, len(text) / rng.uniform(10, 16), "train", f"s{number % 7}")
        for number, text in enumerate(words)
    ]


def test_outliers_come_first_with_their_reasons(tmp_path):
    utterances = corpus()
    utterances[5] = ReportUtterance("long.wav", utterances[5].reference, 600.0, "train", "s5")
    utterances[6] = ReportUtterance("fast.wav", "word " * 60, 3.0, "train", "s6")
    utterances[7] = ReportUtterance("empty.wav", " ", 3.0, "train", "s0")
    utterances[8] = ReportUtterance("rare.wav", "word œ of it word", 1.5, "train", "s1")
    utterances[9] = ReportUtterance("gone.wav", utterances[9].reference, utterances[9].duration, "train", "s2")
    page = tmp_path / "page.html"
    write_explorer(
        page, "corpus", utterances, vocabulary={"word", "of", "it"}, duplicates=[(21, 20)], unread=[9, 21, 22]
    )
    rows, found, values = rows_of(page), payload(page), values_of(page)
    reasons = {name: why for name, _, why, _ in rows if why}
    assert reasons.pop("long.wav")[0].startswith("long: 600.00 s (median 2.9")
    assert reasons.pop("fast.wav")[0].startswith("fast: 99.67 characters/s")
    assert reasons.pop("empty.wav") == ["no text"]
    assert reasons.pop("rare.wav") == ["rare characters: œ"]
    assert reasons.pop("gone.wav") == ["the recording cannot be read"]
    assert reasons.pop("21.wav") == ["the same as utterance 21", "the recording cannot be read"]
    assert reasons == {"22.wav": ["the recording cannot be read"]}
    assert {row[0] for row in rows[:8]} == {
        *("gone.wav", "21.wav", "22.wav", "long.wav", "fast.wav", "empty.wav", "rare.wav"),
        rows[7][0],
    }
    assert dict(found["outliers"])["not read"] == 3 and dict(found["outliers"])["slow"] == 1
    assert (np.diff(values["score"][0]) <= 0).all() and values["score"][0, 7] < found["outlier"]
    assert values["outside"][0].sum() == found["outside"]["words"] == 1 and found["outside"]["most"] == [["œ", 1]]


def test_figures(tmp_path):
    utterances = [ReportUtterance("a.wav", "a b a", 2.0, "x", "s"), ReportUtterance("b.wav", "b c", 4.0, "y", "t")]
    audio = SampledAudio({1: Clip(b"x", "audio/mpeg", (1.0,))}, {0: 12.0})
    write_explorer(tmp_path / "page.html", "two", utterances, sample=lambda order: audio)
    found = payload(tmp_path / "page.html")
    assert found["duration"] == "0.10 min" and found["seconds"][2] == 3.0
    assert (found["words"], found["distinct"], found["once"], found["letters"], found["speakers"]) == (5, 3, 1, 4, 2)
    assert found["alphabet"][0] == [" ", "U+0020", 3, 2] and found["vocabulary"] == [["a", 2], ["b", 2], ["c", 1]]
    assert found["most"] == [["t", 1, pytest.approx(4 / 60)], ["s", 1, pytest.approx(2 / 60)]]
    assert sum(found["histograms"]["Durations"]["counts"]) == 2
    assert sum(found["histograms"]["Signal to noise, of a sample"]["counts"]) == 1
    assert found["outside"] is None and found["model"] is None and len(found["clips"]) == 1


def test_with_a_model_the_worst_come_first(tmp_path):
    utterances = corpus(20)
    system = SystemResult("m", [each.reference for each in utterances])
    system.hypotheses[13], system.hypotheses[4] = "nothing of that", "word " + utterances[4].reference
    write_explorer(tmp_path / "page.html", "corpus", utterances, system=system)
    rows, found = rows_of(tmp_path / "page.html"), payload(tmp_path / "page.html")
    assert [row[0] for row in rows[:2]] == ["13.wav", "4.wav"] and rows[1][3][1] == ["word"]
    total = sum(len(each.reference.split()) for each in utterances)
    assert found["model"] == {"name": "m", "rate": values_of(tmp_path / "page.html")["errors"].sum() / total}


@given(st.lists(st.floats(1e-3, 1e4) | st.just(float("nan")), max_size=50))
def test_modified_scores_do_not_change_with_the_unit(values):
    values = np.array(values)
    scores = modified_scores(values)
    assert np.isfinite(scores).all() and (scores[np.isnan(values)] == 0).all()
    spread = np.nanmedian(np.abs(np.log(values) - np.nanmedian(np.log(values)))) if np.isfinite(values).any() else 0
    if spread > 1e-6:
        assert scores == pytest.approx(modified_scores(1000 * values), abs=1e-5)


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=200))
def test_a_histogram_counts_all(values):
    found = slots_of(np.array(values), "s")
    assert sum(found["counts"]) == len(values) and len(found["edges"]) == len(found["counts"]) + 1 <= 45


@pytest.mark.slow
@pytest.mark.skipif(not HAS_BROWSER, reason="there is no chromium with chromedriver")
def test_a_browser_shows_it(tmp_path):
    from carnelian.data.recording import encode_audio

    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    audio = SampledAudio({3: Clip(encode_audio(tone.astype(np.float32), 16_000, "mp3"), "audio/mpeg", (0.5, 1.0))})
    utterances = corpus(60)
    utterances[3] = ReportUtterance("<b>.wav", "word </script><script>document.title='stolen'</script>", 90.0)
    write_explorer(tmp_path / "page.html", "corpus", utterances, sample=lambda order: audio)
    drawn = "document.querySelector('canvas')?.dataset.drawn"
    loudest = "(() => { const c = document.querySelector('canvas'), d = c.getContext('2d').getImageData(9, 0, 1, c.height).data; "
    loudest += "return d.reduce((best, value, at) => (at % 4 === 3 && value > d[best] ? at : best), 3) >> 2; })()"
    shown, row = shown_page(tmp_path / "page.html", drawn, f"[document.documentElement.outerHTML, {loudest}]")
    assert "60 utterances" in shown and "page 1 of 2" in shown
    assert "long: 90.00 s" in shown and "<title>corpus</title>" in shown and "&lt;b&gt;.wav" in shown
    assert row == 255 - 32, "1 kHz is bin 32 of 256 to 8 kHz, from below"
