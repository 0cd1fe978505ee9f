"""Speed of word and character error rates beside jiwer and kaldialign, on 10,000 pairs of LibriSpeech's length.

    python benchmarks/scoring.py REFERENCES.tsv HYPOTHESES.tsv [--pairs 10000] [--repeats 7]

Both files have a name and a text a line, apart by a tab; pairs are taken again from the start where there are too few.
Every time is the processor time of one thread, the lowest and the median of the repeats, texts as strings to rates.
The peers are in the extra `peers`; where one is not installed, its line is left out.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path

from carnelian.scoring.wer import cer, wer

Rate = Callable[[list[str], list[str]], float]


def carnelian_rates() -> Iterator[tuple[str, str, Rate]]:
    yield "carnelian", "words", wer
    yield "carnelian", "characters", cer


def jiwer_rates() -> Iterator[tuple[str, str, Rate]]:
    import jiwer

    yield f"jiwer {jiwer.__version__ if hasattr(jiwer, '__version__') else ''}".strip(), "words", jiwer.wer
    yield "jiwer", "characters", jiwer.cer


def kaldialign_rates() -> Iterator[tuple[str, str, Rate]]:
    from kaldialign import batch_error_rate

    def words(references: list[str], hypotheses: list[str]) -> float:
        return batch_error_rate(*([text.split() for text in texts] for texts in (references, hypotheses)))["err_rate"]

    yield "kaldialign", "words", words
    yield (
        "kaldialign",
        "characters",
        lambda references, hypotheses: batch_error_rate(references, hypotheses)["err_rate"],
    )


def read(path: Path, pairs: int) -> dict[str, str]:
    return dict(line.split("\t")[:2] for line in path.read_text(encoding="utf-8").splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("references", type=Path)
    parser.add_argument("hypotheses", type=Path)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    truth, found = read(given.references, given.pairs), read(given.hypotheses, given.pairs)
    names = list(islice(cycle(truth), given.pairs))
    references, hypotheses = [truth[name] for name in names], [found[name] for name in names]
    print(f"{len(names)} pairs, {sum(map(len, references)) / len(names):.0f} characters each")
    for rates in (carnelian_rates, jiwer_rates, kaldialign_rates):
        try:
            for name, unit, rate in rates():
                value, seconds = rate(references, hypotheses), []  # the first call compiles
                for _ in range(given.repeats):
                    started = time.process_time()
                    rate(references, hypotheses)
                    seconds.append(time.process_time() - started)
                least, middle = min(seconds), statistics.median(seconds)
                print(f"{name:12} {unit:10} {100 * value:8.4f} %   {least:.3f} s lowest, {middle:.3f} s median")
        except ImportError as error:
            print(f"{rates.__name__}: not installed ({error.name})")


if __name__ == "__main__":
    main()
