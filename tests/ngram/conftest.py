"""Text for language models that the tests make themselves, always the same, and n-grams of ARPA files as a dictionary."""

import gzip
from pathlib import Path
from types import SimpleNamespace

import pytest

GOLDEN = Path(__file__).parent / "golden"  # made by KenLM's lmplz from `text()`


def text(sentences: int = 160, words: int = 400, seed: int = 1) -> str:
    """Sentences of words w1, w2, ..., the first ones more frequent; some sentences are empty."""
    state, lines = seed, []
    for _ in range(sentences):
        line: list[str] = []
        while True:
            state = (state * 1103515245 + 12345) % (1 << 31)
            draw = (state >> 8) % 1000
            if draw < 120:
                break
            line.append(f"w{int(words ** ((draw - 120) / 880))}")
        lines.append(" ".join(line))
    return "\n".join(lines) + "\n"


def n_grams(path: Path) -> dict[str, tuple[float, float]]:
    """Log10-probability and back-off of each n-gram of an ARPA file, read in the plainest way."""
    raw = path.read_bytes()
    lines = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode().split("\n")
    rows = [line.split("\t") for line in lines if "\t" in line]
    return {row[1]: (float(row[0]), float(row[2]) if len(row) > 2 else 0.0) for row in rows}


def differences(ours: Path, theirs: Path) -> tuple[set[str], float]:
    """N-grams that only one file has, and the largest difference of a probability or back-off."""
    a, b = n_grams(ours), n_grams(theirs)
    both = a.keys() & b.keys()
    return a.keys() ^ b.keys(), max(abs(x - y) for word in both for x, y in zip(a[word], b[word]))


@pytest.fixture(scope="session")
def made():
    """The functions above: made.text(), made.golden / "order3.arpa.gz", ..."""
    return SimpleNamespace(text=text, golden=GOLDEN, n_grams=n_grams, differences=differences)
