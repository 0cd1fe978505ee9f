"""Writes the pages of `evaluate --report` and `explore` at a size, and opens them in headless Chromium: seconds and megabytes.

    python benchmarks/pages.py AN4_FOLDER TEXT.gz [--utterances 300000]

The utterances are drawn from a text (5 to 50 words each) over the folder's recordings, their hypotheses have 5 % of the words
wrong. A page is open when its first 50 utterances are shown: `data-ready`, milliseconds since it was asked for. Needs chromium
and chromedriver.
"""

import argparse
import gzip
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from carnelian.commands.explore import explore
from carnelian.commands.html_report import html_report
from carnelian.console import table
from carnelian.data.audio import audio_info
from carnelian.data.utterance import Utterance, write_manifest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from html_pages import shown_page

READY = "document.body.dataset.ready"


def drawn_corpus(folder: Path, text: Path, count: int) -> tuple[list[Utterance], list[str], list[list[float]]]:
    """Utterances over the folder's recordings, hypotheses and confidences."""
    rng, recordings = (
        random.Random(0),
        [(str(path), audio_info(path).duration) for path in sorted(folder.rglob("*.sph"))[:300]],
    )
    words = [word for word in gzip.decompress(text.read_bytes()).decode().lower().split() if word.isalpha()]
    utterances, hypotheses, confidences = [], [], []
    for number in range(count):
        first, length = rng.randrange(len(words) - 60), rng.randint(5, 50)
        spoken = words[first : first + length]
        found = [rng.choice(words) if rng.random() < 0.04 else word for word in spoken if rng.random() < 0.99]
        more = {"speaker": f"s{number % 2300:04d}"}
        path, duration = recordings[number % len(recordings)]
        utterances.append(Utterance(path, duration, " ".join(spoken), more=more))
        hypotheses.append(" ".join(found))
        confidences.append([rng.betavariate(8, 0.4) for _ in found])
    return utterances, hypotheses, confidences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("an4", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--utterances", type=int, default=300_000)
    options = parser.parse_args()
    utterances, hypotheses, confidences = drawn_corpus(options.an4, options.text, options.utterances)
    references = [each.text for each in utterances]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_manifest(folder / "drawn.jsonl", utterances)

        def evaluated(page: Path) -> None:
            subsets, how = ["drawn"] * len(utterances), {"normalize": list, "normalization": "none"}
            html_report(page, "drawn", utterances, subsets, references, hypotheses, confidences, **how)

        pages: dict[str, Callable[[Path], None]] = {
            "evaluate --report": evaluated,
            "explore": lambda page: explore([folder / "drawn.jsonl"], out=page),
        }
        for name, write in pages.items():
            page, begun = folder / f"{name.split()[0]}.html", time.process_time()
            write(page)
            spent = time.process_time() - begun
            rows.append(
                (
                    name,
                    f"{spent:.1f}",
                    f"{page.stat().st_size / 1e6:.1f}",
                    f"{float(shown_page(page, then=READY)) / 1000:.2f}",
                )
            )
    table(f"{options.utterances:,} utterances", ("page", "written, processor s", "MB", "opened, s"), rows)


if __name__ == "__main__":
    main()
