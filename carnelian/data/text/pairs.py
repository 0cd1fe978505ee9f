"""Pairs of hypothesis and reference: JSON lines with "hypothesis" and "text", as `carnelian evaluate --out` and `pairs` write them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from carnelian.errors import ManifestError
from carnelian.files import one_line, reason_of, refuse_special, written


@dataclass(frozen=True, slots=True)
class Pair:
    """What a recognizer wrote, what was said, and who said it ("" where that is not known)."""

    hypothesis: str
    text: str
    speaker: str = ""


def iterate_results(path: str | Path) -> Iterator[dict]:
    """Yields the lines of a file of hypotheses: objects with "text" and "hypothesis". Raises ManifestError."""
    found = "an empty file"
    try:
        refuse_special(path, ManifestError)
        with open(path, encoding="utf-8", newline="\n") as file:
            for number, text in enumerate(file, 1):
                if text.strip():
                    line = json.loads(text)
                    if not isinstance(line["text"], str) or not isinstance(line["hypothesis"], str):
                        raise ValueError(f"line {number} without text")
                    found = ""
                    yield line
    except OSError as error:
        found = str(error.strerror)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        found = f"{type(error).__name__}: {reason_of(error)}"
    if found:
        raise ManifestError(
            one_line(f'{path}: no hypotheses ({found}). Write them with "carnelian evaluate MODEL MANIFEST --out FILE"')
        )


def read_results(path: Path) -> list[dict]:
    """Returns the lines of a file of hypotheses."""
    return list(iterate_results(path))


def iterate_pairs(*paths: str | Path) -> Iterator[Pair]:
    """Yields the pairs of files, white space in one piece. Raises ManifestError."""
    for path in paths:
        for line in iterate_results(path):
            hypothesis, text = (" ".join(line[key].split()) for key in ("hypothesis", "text"))
            yield Pair(hypothesis, text, str(line.get("speaker", "")))


def write_pairs(path: str | Path, pairs: Iterable[Pair]) -> None:
    """Writes pairs, all or nothing."""
    with written(path, errors="backslashreplace") as file:
        for pair in pairs:
            speaker = {"speaker": pair.speaker} if pair.speaker else {}
            line = {"text": pair.text, "hypothesis": pair.hypothesis, **speaker}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
