"""Reports: their counts, tables and picture."""

import pytest

from carnelian.errors import ScoringError
from carnelian.scoring.report.plots import plot_confusions, plot_weights
from carnelian.scoring.report.tables import print_confusions, print_rates, score_texts
from carnelian.scoring.wer import Edit, Errors

REFERENCES = ["the cat sat", "the cat ran", "a dog"]
HYPOTHESES = ["the hat sat", "the hat ran off", "dog"]


def test_counts():
    report = score_texts(REFERENCES, HYPOTHESES)
    assert report.words == Errors(5, 2, 1, 1) == sum(report.utterances, Errors())
    assert report.confusions[Edit("substitution", "cat", "hat")] == 2
    assert report.confusions.total() == report.words.total
    assert report.interval.low <= report.words.rate <= report.interval.high
    assert report.characters.rate == pytest.approx((1 + 5 + 2) / 27)
    assert report.as_dict()["wer"] == pytest.approx(0.5)


def test_lists_of_different_length():
    with pytest.raises(ScoringError, match="3 references beside 2 hypotheses"):
        score_texts(REFERENCES, HYPOTHESES[:2])


def test_tables_show_rates_and_confusions(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    report = score_texts(REFERENCES, HYPOTHESES)
    print_rates({"test": report})
    print_confusions(report)
    shown = capsys.readouterr().out
    assert "50.00" in shown
    row = next(line for line in shown.splitlines() if "hat" in line)
    assert "cat" in row and "2" in row
    assert "(nothing)" in shown


@pytest.mark.parametrize("hypotheses", [HYPOTHESES, REFERENCES])
def test_heat_map(tmp_path, hypotheses):
    pytest.importorskip("matplotlib")
    plot_confusions(score_texts(REFERENCES, hypotheses), tmp_path / "confusions.png")
    assert (tmp_path / "confusions.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rate", [0.0, 0.25, 1.5])
def test_weights_that_all_do_equally_well_are_drawn(tmp_path, rate):
    pytest.importorskip("matplotlib")
    rates = {(alpha, beta): rate for alpha in (0.2, 0.8) for beta in (0.0, 1.0)}
    plot_weights(rates, (0.2, 1.0), tmp_path / "weights.svg")
    plot_weights({(0.5, 1.0): rate}, (0.5, 1.0), tmp_path / "one.png")
    assert "chosen: alpha 0.2, beta 1" in (tmp_path / "weights.svg").read_text()
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
