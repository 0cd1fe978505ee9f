"""Draws the pictures of the documentation: python docs/make_pictures.py [LOG]

images/ctc-lattice-N.svg, the lattice of CTC after N steps; with LOG, what `make quickstart` printed, images/quickstart.svg.
"""

import html
import re
import sys
from collections.abc import Iterator
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
#: the example of how-it-works.md: probabilities of each symbol at each step, and the states of the transcript "ab"
PROBABILITIES = {"a": (0.6, 0.5, 0.1, 0.1), "b": (0.1, 0.2, 0.5, 0.6), "blank": (0.3, 0.3, 0.4, 0.3)}
STATES = ("blank", "a", "blank", "b", "blank")
STEPS = 4
WIDTH = 112  # characters of a terminal's line
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\].*?(?:\x07|\x1b\\)")


def before(state: int) -> list[int]:
    """Returns the states from which a path reaches a state: itself, the one before, and by a jump over a blank the one before that."""
    jump = STATES[state] != "blank" and state >= 2 and STATES[state] != STATES[state - 2]
    return [each for each in (state, state - 1, state - 2 if jump else -1) if each >= 0]


def forward() -> list[list[float]]:
    """Returns the sums over the paths that reach each state, by step."""
    sums = [[PROBABILITIES[symbol][0] * (state < 2) for state, symbol in enumerate(STATES)]]
    for step in range(1, STEPS):
        earlier = sums[-1]
        sums.append(
            [
                sum(earlier[each] for each in before(state)) * PROBABILITIES[symbol][step]
                for state, symbol in enumerate(STATES)
            ]
        )
    return sums


def lattice(steps: int) -> str:
    """Returns the lattice as SVG after a number of steps, the arrows into the last of them dark, jumps red."""
    sums = forward()

    def place(step: int, state: int) -> tuple[int, int]:
        return 130 + 160 * step, 70 + 70 * state

    def parts() -> Iterator[str]:
        yield (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 390" font-family="sans-serif" font-size="14">'
            f'<title>The CTC lattice of "ab" after {steps} of 4 steps</title><rect width="680" height="390" fill="white"/>'
        )
        for step in range(STEPS):
            yield f'<text x="{place(step, 0)[0]}" y="25" text-anchor="middle" fill="#555">step {step + 1}</text>'
        for step in range(1, STEPS):
            for state in range(len(STATES)):
                for each in before(state):
                    if step >= steps or not sums[step - 1][each]:
                        continue
                    (x1, y1), (x2, y2) = place(step - 1, each), place(step, state)
                    colour = "#c0392b" if state - each == 2 else "#222" if step == steps - 1 else "#bbb"
                    width = 2.5 if step == steps - 1 else 1.2
                    yield (
                        f'<line x1="{x1 + 26}" y1="{y1}" x2="{x2 - 26}" y2="{y2}" stroke="{colour}" stroke-width="{width}"/>'
                    )
        for state, symbol in enumerate(STATES):
            yield f'<text x="40" y="{place(0, state)[1] + 5}" fill="#555">{symbol}</text>'
            for step in range(STEPS):
                x, y = place(step, state)
                reached = step < steps and sums[step][state] > 0
                last = step == steps - 1 and (steps < STEPS or state >= len(STATES) - 2)
                fill, stroke = ("#f9e79f" if last else "#eaf2f8", "#2471a3") if reached else ("#f5f5f5", "#ccc")
                yield f'<circle cx="{x}" cy="{y}" r="26" fill="{fill}" stroke="{stroke}"/>'
                if reached:
                    yield f'<text x="{x}" y="{y + 5}" text-anchor="middle" fill="#222">{sums[step][state]:.3f}</text>'
        yield "</svg>"

    return "\n".join(parts()) + "\n"


def as_shown(log: str) -> list[str]:
    """Returns the lines that a terminal shows at the end, from the first numbered one on: no colours, no bars, no tables of words."""
    lines = [line.rpartition("\r")[2].rstrip() for line in ESCAPES.sub("", log.replace("\r\n", "\n")).split("\n")]
    first = next(number for number, line in enumerate(lines) if line.startswith("1  "))
    bar = re.compile(r"training: [\d,]+ of")
    kept, in_table = [], False
    for line, after in zip(lines[first:], [*lines[first + 1 :], ""]):
        in_table = line == "Most frequent errors" or (in_table and line[:1] in "┏┃┡│└")
        if line and not in_table and not (bar.match(line) and bar.match(after)) and not line.startswith("WARNING"):
            kept.append(line if len(line) <= WIDTH else line[: WIDTH - 3] + "...")
    return kept


def terminal(lines: list[str]) -> str:
    """Returns lines of text as the picture of a terminal."""
    height = 19 * len(lines) + 56
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 {height}" font-family="monospace" font-size="13">'
        f'<title>make quickstart</title><rect width="900" height="{height}" rx="8" fill="#1e1e1e"/>'
    ]
    parts += [
        f'<circle cx="{20 + 18 * i}" cy="17" r="6" fill="{fill}"/>'
        for i, fill in enumerate(("#ff5f56", "#ffbd2e", "#27c93f"))
    ]
    for number, line in enumerate(lines):
        colour = "#ffb454" if re.match(r"\d  ", line) else "#8fd18f" if line.startswith("$") else "#ddd"
        text = html.escape(line)
        parts.append(f'<text x="18" y="{19 * number + 52}" fill="{colour}" xml:space="preserve">{text}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    for step in range(1, STEPS + 1):
        (IMAGES / f"ctc-lattice-{step}.svg").write_text(lattice(step), encoding="utf-8")
    if sys.argv[1:]:
        printed = as_shown(Path(sys.argv[1]).read_text(encoding="utf-8"))
        (IMAGES / "quickstart.svg").write_text(terminal(["$ make quickstart", *printed]), encoding="utf-8")
