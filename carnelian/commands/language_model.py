"""The verb `language-model`: build, ask, mix and filter n-gram models, and prepare text for them."""

import math
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import numpy as np

from carnelian import console
from carnelian.decoding.arpa import write_arpa
from carnelian.decoding.binary import save_binary
from carnelian.decoding.count import read_lines
from carnelian.decoding.estimate import FALLBACK, estimate
from carnelian.decoding.language_model import load_language_model
from carnelian.decoding.ngram import NGram
from carnelian.errors import LanguageModelError

LN10 = math.log(10)


def size_in_bytes(text: str) -> int:
    """Bytes from a size such as 500M or 4G (powers of 1024); a plain number is bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.I)
    if not match:
        raise LanguageModelError(f'--memory {text}: expected a size such as "500M" or "4G"')
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def _words_of(path: Path | None) -> list[str] | None:
    """The words of a vocabulary file, apart by spaces or lines."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise LanguageModelError(f"{path}: cannot be read ({error}). Give a UTF-8 file of words") from None


def build(
    texts: Annotated[list[Path], "text files, one sentence a line, plain or gzip; - is standard input"],
    *,
    order: Annotated[int, "words in the longest n-gram"],
    arpa: Annotated[Path | None, "the ARPA file to write; gzip where its name ends in .gz"] = None,
    binary: Annotated[Path | None, "the binary model to write, which loads at once"] = None,
    prune: Annotated[str, 'leave out n-grams of these counts or less, per order, such as "0 0 1"'] = "0",
    vocabulary: Annotated[Path | None, "a file of words; n-grams with other words are left out"] = None,
    memory: Annotated[str, "memory for the counts, such as 500M; more goes to temporary files"] = "4G",
    temporary: Annotated[Path | None, "the folder for temporary files"] = None,
) -> None:
    """Estimate an n-gram model (modified Kneser-Ney) from text."""
    if not arpa and not binary:
        raise LanguageModelError("language-model build: nothing to write. Give --arpa FILE, --binary FILE or both")
    if not re.fullmatch(r"[\d\s,]+", prune):
        raise LanguageModelError(f'--prune {prune}: expected counts, such as "0 0 1"')
    sizes = [path.stat().st_size for path in texts if path.is_file() and path.suffix != ".gz"]
    with console.bar("Reading", sum(sizes) if len(sizes) == len(texts) else None) as advance:
        result = estimate(
            list(texts),
            order,
            prune=[int(count) for count in prune.replace(",", " ").split()],
            vocabulary=_words_of(vocabulary),
            memory=size_in_bytes(memory),
            directory=temporary,
            advance=advance,
        )
    counts = result.counts
    if counts.skipped:
        console.note(f"Took {counts.skipped} <s>, </s> and <unk> in the text for spaces.")
    if result.fallback:
        orders = ", ".join(map(str, result.fallback))
        console.note(
            f"Too little or unnatural text for the discounts of order {orders}: took {FALLBACK} (repeated lines?)"
        )
    kept = result.sizes
    with console.bar("Writing", sum(kept) * (bool(arpa) + bool(binary))) as advance:
        if arpa:
            write_arpa(arpa, counts.text, kept, lambda length: _told(result.blocks(length), advance))
        if binary:
            save_binary(result.model(advance), binary)
    rows = [
        (length, f"{count:,}", *(f"{amount:.4f}" for amount in discounts))
        for length, (count, discounts) in enumerate(zip(kept, result.discounts), 1)
    ]
    console.table(f"{counts.tokens:,} words", ["order", "n-grams", "D1", "D2", "D3+"], rows)


def _told(blocks: Iterable, advance: Callable[..., None]) -> Iterable:
    for block in blocks:
        yield block
        advance(len(block.words))


def score(
    model: Annotated[Path, "a language model: ARPA (plain or gzip), or the binary form"],
    texts: Annotated[list[Path], "text files, one sentence a line, plain or gzip; - is standard input"],
    *,
    summary: Annotated[bool, "only the totals"] = False,
    lower_case: Annotated[bool, "fold the model's words to lower case"] = False,
) -> None:
    """Each sentence's log10-probability and its unknown words; perplexity with and without them."""
    language_model = load_language_model(model, lower_case=lower_case)
    totals = np.zeros(5)  # sentences, tokens with </s>, unknown words, their log10, log10 of all
    for text in texts:
        for chunk in read_lines(text):
            for line in _decoded(chunk, text).splitlines():
                words = line.split()
                scores = language_model.word_scores(words) / LN10
                unknown = np.append(language_model.numbers(words) == language_model.unknown, False)[: len(scores)]
                totals += (1, len(scores), unknown.sum(), scores[unknown].sum(), scores.sum(dtype=np.float64))
                if not summary:
                    sys.stdout.write(f"{scores.sum(dtype=np.float64):.6f}\t{unknown.sum()}\t{line}\n")
    sentences, tokens, unknown_words, unknown_total, total = totals
    if not sentences:
        raise LanguageModelError(f"{', '.join(map(str, texts))}: found no sentences. Give text, one sentence a line")
    rows = [
        ("sentences", int(sentences)),
        ("words", int(tokens - sentences)),
        ("unknown words", f"{int(unknown_words)} ({100 * unknown_words / max(1, tokens - sentences):.2f} %)"),
        ("log10-probability", f"{total:.4f}"),
        ("perplexity", f"{10 ** (-total / tokens):.2f}"),
        ("perplexity without unknown words", f"{10 ** (-(total - unknown_total) / (tokens - unknown_words)):.2f}"),
    ]
    console.table(str(model), ["", "value"], rows)


def _decoded(chunk: bytes, path: Path) -> str:
    try:
        return chunk.decode()
    except UnicodeDecodeError as error:
        raise LanguageModelError(
            f"{path}: byte 0x{chunk[error.start]:02x} is not UTF-8; it looks like Latin-1. "
            "Convert it: carnelian language-model prepare --encoding latin-1"
        ) from None


def info(
    model: Annotated[Path, "a language model: ARPA (plain or gzip), or the binary form"],
) -> None:
    """What a language model holds."""
    language_model: NGram = load_language_model(model)
    rows: list[tuple[str, object]] = [("order", language_model.order)]
    rows += [(f"{length}-grams", f"{count:,}") for length, count in enumerate(language_model.counts, 1)]
    bytes_used = sum(array.nbytes for array in language_model.tables) + language_model.text.nbytes
    rows += [
        ("contexts", f"{len(language_model.tables.states):,}"),
        ("log10 of <unk>", f"{language_model.tables.unigrams[language_model.unknown] / LN10:.4f}"),
        ("marks of sentences", "yes" if min(language_model.start, language_model.end) >= 0 else "no"),
        ("memory", f"{bytes_used / 1e6:.1f} MB"),
        *((f"stored: {name}", f"{array.nbytes / 1e6:.1f} MB") for name, array in language_model.extra.items()),
    ]
    console.table(str(model), ["", "value"], rows)


VERBS = {"build": build, "score": score, "info": info}
