"""Word and character error rates beside jiwer and kaldialign, on 10,000 pairs of LibriSpeech's length, from texts to rates.

    python benchmarks/scoring.py REFERENCES.tsv HYPOTHESES.tsv [--pairs 10000] [--repeats 7]

Both files have a name and a text a line, apart by a tab; pairs are taken again from the start where there are too few. The peers are
in the extra `peers`; where one is not installed, its line is left out.
"""

from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

import typer

from carnelian.cli import as_typer
from carnelian.commands.benchmarks.measurement import BenchmarkOptions, Contender, measure_in_turns, run_benchmark
from carnelian.scoring.wer import cer, wer

Rate = Callable[[list[str], list[str]], float]


def rates() -> dict[tuple[str, str], Rate]:
    found: dict[tuple[str, str], Rate] = {("carnelian", "words"): wer, ("carnelian", "characters"): cer}
    try:
        import jiwer

        found |= {("jiwer", "words"): jiwer.wer, ("jiwer", "characters"): jiwer.cer}
    except ImportError:
        print("jiwer: not installed")
    try:
        from kaldialign import batch_error_rate

        def words(references: list[str], hypotheses: list[str]) -> float:
            sides = ([text.split() for text in texts] for texts in (references, hypotheses))
            return batch_error_rate(*sides)["err_rate"]

        found["kaldialign", "words"] = words
        found["kaldialign", "characters"] = lambda *sides: batch_error_rate(*sides)["err_rate"]
    except ImportError:
        print("kaldialign: not installed")
    return found


def read(path: Path) -> dict[str, str]:
    return dict(line.split("\t")[:2] for line in path.read_text(encoding="utf-8").splitlines())


def main(
    references: Annotated[Path, "name and text"],
    hypotheses: Annotated[Path, "name and text"],
    *,
    pairs: Annotated[int, "pairs of texts"] = 10_000,
    options: BenchmarkOptions = BenchmarkOptions(),  # noqa: B008
) -> None:
    truth, found = read(references), read(hypotheses)
    names = list(islice(cycle(truth), pairs))
    sides = [truth[name] for name in names], [found[name] for name in names]
    contenders = [
        Contender(
            {"unit": unit, "by": name}, lambda rate=rate: rate(*sides), {}, lambda rate=rate: {"%": 100 * rate(*sides)}
        )
        for (name, unit), rate in rates().items()
    ]
    baseline = {"by": "jiwer"}
    run_benchmark(
        options, lambda: measure_in_turns("scoring", contenders, options, baseline=baseline), clock="processor"
    )


if __name__ == "__main__":
    typer.run(as_typer(main))
