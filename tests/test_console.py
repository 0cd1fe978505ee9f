"""What is seen of long work where no bar can be drawn."""

from carnelian import console


def test_lines_in_a_log(monkeypatch, capsys):
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    with console.bar("Reading", 2000) as advance:
        advance(1000, "loss 1.5")
        advance(1)
    assert capsys.readouterr().err.splitlines() == [
        "Reading: 1,000 of 2,000  loss 1.5",
        "Reading: 1,001 of 2,000  loss 1.5",
    ]


def test_short_work_says_nothing(capsys):
    assert list(console.track(range(3), "Reading")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
