"""The HTML report: its figures, that it takes nothing from what users wrote as HTML, and what a browser makes of it."""

import base64
import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from carnelian.scoring.report.html import Clip, ReportUtterance, SystemResult, write_html_report

CHROMIUM = shutil.which("chromium")
HOSTILE = "</script><script>document.title='stolen'</script>"


@pytest.fixture
def report(tmp_path):
    utterances = [
        ReportUtterance(
            f"{number}.wav",
            f"one two {number}",
            2.0 + number,
            "clean" if number % 2 else "other",
            f"s{number % 3}",
            5.0 * number,
        )
        for number in range(9)
    ]
    utterances.append(
        ReportUtterance(
            HOSTILE, "five words are in here", 3.0, "clean", HOSTILE, None, Clip(b"x", "audio/mpeg", (0.5, 1.0))
        )
    )
    first = SystemResult(
        "A", [f"one two {number}" for number in range(9)] + ["five <b>words</b> in here"], [[0.9] * 3] * 9 + [[0.2] * 4]
    )
    second = SystemResult("B", ["one"] * 9 + [""])
    write_html_report(
        tmp_path / "report.html", "Two & <systems>", utterances, [first, second], vocabulary={"one", "two"}
    )
    return tmp_path / "report.html"


def payload(path: Path) -> dict:
    return json.loads(re.search(r'id="payload">(.*?)</script>', path.read_text(), re.S)[1])


def test_figures(report):
    found = payload(report)
    first, second = found["systems"]
    assert first["counts"] == [30, 1, 1, 0] and second["counts"] == [9, 0, 23, 0]
    assert first["rate"] == pytest.approx(2 / 32) and first["calibration"]["slots"] and second["calibration"] is None
    assert first["unknown"] == {"words": 14, "errors": 2}
    assert found["comparisons"][0]["words"] == "A is better"
    assert {group["kind"] for group in found["groups"]} == {"Subset", "Speaker", "Duration", "Signal to noise"}
    [part] = re.findall(r'class="part">(.*?)</script>', report.read_text(), re.S)
    rows = json.loads(gzip.decompress(base64.b64decode(part)))
    assert rows[-1][2][0] == ["five <b>words</b> in here", "hshdh".replace("hshdh", rows[-1][2][0][1]), [20] * 4]
    assert sorted(rows[-1][2][0][1]) == sorted("hsdhh")


def test_it_needs_no_network_and_takes_no_text_as_html(report):
    text = report.read_text()
    assert HOSTILE not in text and "<systems>" not in text
    assert not re.search(r'(src|href)="(https?:)?//', text) and "default-src 'none'" in text


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
def test_a_browser_shows_it(report, tmp_path):
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ]
    command += [
        "--disable-quic",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    command += ["--virtual-time-budget=10000", "--dump-dom", report.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert 'data-ready="true"' in shown and "<title>Two &amp; &lt;systems&gt;</title>" in shown
    assert shown.count("<tr>") >= 13 and "10 utterances" in shown and "A is better" in shown
    assert "&lt;b&gt;words&lt;/b&gt;" in shown and "stolen</title>" not in shown
