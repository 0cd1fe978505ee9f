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


NAMES = ["train[v2]", "x:100:y:smile:", "a[/b]", "[red]r[/red]"]


def test_names_are_shown_as_they_are(capsys):
    console.table(NAMES[0], NAMES, [NAMES])
    printed = capsys.readouterr().out
    assert all(printed.count(name) >= 2 for name in NAMES[1:]) and NAMES[0] in printed
    for name in NAMES:
        console.note(name)
        with console.bar(name, 1) as advance:
            advance()
    assert capsys.readouterr().err.splitlines() == NAMES


def test_control_characters_are_escaped(capsys):
    console.note("a\x1b[31mb\rc\x00\udce9\nsecond")
    assert capsys.readouterr().err == "a\\x1b[31mb\\rc\\x00\\udce9\nsecond\n"
    console.table("\x1b[2J", ["a"], [["\x07"]])
    printed = capsys.readouterr().out
    assert "\x1b[2J" not in printed and "\\x07" in printed
