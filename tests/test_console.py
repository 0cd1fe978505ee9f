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


def test_a_table_that_does_not_fit_is_printed_row_by_row(capsys, monkeypatch):
    """No number and no word is cut at 40 columns, and no line is longer."""
    columns = ("", "words", "hits", "substitutions", "WER %", "95 %")
    rows = [("a[b].jsonl", 312, 0, 51, "100.00", "99.10-100.00"), ("other", 31_200, 5, "", "7.25", "6.00-8.00")]
    monkeypatch.setenv("COLUMNS", "40")
    console.table("Error rates", columns, rows)
    narrow = capsys.readouterr().out
    assert max(map(len, narrow.splitlines())) <= 40 and "┃" not in narrow
    words = narrow.split()
    assert all(str(cell) in words for row in rows for cell in row if cell != "")
    assert words.count("WER") == 2 and words.count("substitutions") == 1  # an empty cell is left out
    monkeypatch.setenv("COLUMNS", "100")
    console.table("Error rates", columns, rows)
    wide = capsys.readouterr().out
    assert "┃" in wide and all(str(cell) in wide for row in rows for cell in row)
    long = "/a/very/long/path/of/a/model.arpa"
    monkeypatch.setenv("COLUMNS", "40")
    console.table("Mixture", ("model", "weight"), [(long, 0.5)])
    assert "┃" in capsys.readouterr().out  # a path may be cut


def test_only_columns_of_numbers_are_aligned_to_the_right(capsys):
    console.table("", ("what", "length"), [("2-D convolutions", "1.5 min"), ("1-D", "12.0 h"), ("long, longer", "–")])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("│ 2-D") for line in lines) and any(line.endswith(" – │") for line in lines)


def test_durations():
    seconds = {0: "0.00 min", 3: "0.05 min", 141: "2.35 min", 2214: "36.9 min", 3599.9: "60.0 min", 3600: "1.00 h"}
    seconds |= {36_000: "10.0 h", 960 * 3600: "960 h", 12_000 * 3600: "12,000 h"}
    assert {each: console.duration_text(each) for each in seconds} == seconds
