"""The verb `language-model`: build, ask, mix and filter n-gram models, and prepare text for them."""

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np

from carnelian import console
from carnelian.corpora.openslr import LANGUAGE_MODELS, download_language_model
from carnelian.data.alphabet import Alphabet
from carnelian.data.text.normalize import TextNormalizer
from carnelian.data.text.report import NormalizationReport
from carnelian.data.text.sentences import normalize_text_file
from carnelian.data.text.text_files import read_lines, read_word_list, split_words
from carnelian.decoding.search.lm_fusion import with_word_tree
from carnelian.errors import LanguageModelError
from carnelian.files import check_outputs, written
from carnelian.ngram import combine
from carnelian.ngram.arpa_writer import packed, write_arpa
from carnelian.ngram.binary import save_binary
from carnelian.ngram.combine import n_grams, tune_mixture
from carnelian.ngram.counts import Scratch
from carnelian.ngram.estimate import FALLBACK, estimate
from carnelian.ngram.hashed import LN10
from carnelian.ngram.load import load_language_model
from carnelian.ngram.model import NGram

OVERWRITE = "replace outputs that exist"


def size_in_bytes(text: str) -> int:
    """Bytes from a size such as 500M or 4G (powers of 1024); a plain number is bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.I)
    if not match:
        raise LanguageModelError(f'--memory {text}: expected a size such as "500M" or "4G"')
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def build(
    texts: Annotated[
        list[Path], "text files, one sentence a line, plain or gzip, or manifests (.jsonl); - is standard input"
    ],
    *,
    order: Annotated[int, "words in the longest n-gram"],
    arpa: Annotated[Path | None, "the ARPA file to write; gzip where its name ends in .gz"] = None,
    binary: Annotated[Path | None, "the binary model to write, which loads at once"] = None,
    prune: Annotated[str, 'leave out n-grams of these counts or less, per order, such as "0 0 1"'] = "0",
    vocabulary: Annotated[Path | None, "a file of words; n-grams with other words are left out"] = None,
    memory: Annotated[str, "memory for the counts, such as 500M; more goes to temporary files"] = "4G",
    temporary: Annotated[Path | None, "the folder for temporary files"] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """Estimate an n-gram model (modified Kneser-Ney) from text.

    Example: carnelian language-model build text.txt --order 3 --arpa text.arpa
    """
    _check_targets("build", arpa, binary, overwrite)
    # written without quotes, --prune 0 0 1 gives its later counts to the texts
    stray = [path for path in texts if path.name.isdigit() and not path.exists()]
    texts = [path for path in texts if path not in stray]
    prune = " ".join([prune, *map(str, stray)])
    if not re.fullmatch(r"[\d\s,]+", prune):
        raise LanguageModelError(f'--prune {prune}: expected counts, such as "0 0 1"')
    sizes = [path.stat().st_size for path in texts if path.is_file() and path.suffix not in (".gz", ".jsonl")]
    if temporary:
        Scratch(0, temporary).file().close()
    with console.bar("Reading", sum(sizes) if len(sizes) == len(texts) else None) as advance:
        result = estimate(
            list(texts),
            order,
            prune=[int(count) for count in prune.replace(",", " ").split()],
            vocabulary=read_word_list(vocabulary) if vocabulary else None,
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
            write_arpa(arpa, counts.text, kept, lambda length: with_progress(result.blocks(length), advance))
        if binary:
            save_binary(with_word_tree(result.model(advance)), binary)
    rows = [
        (length, f"{count:,}", *(f"{amount:.4f}" for amount in discounts))
        for length, (count, discounts) in enumerate(zip(kept, result.discounts), 1)
    ]
    console.table(f"{counts.tokens:,} words", ["order", "n-grams", "D1", "D2", "D3+"], rows)


def with_progress(blocks: Iterable, advance: Callable[..., None]) -> Iterable:
    """Yields blocks of n-grams, and moves a bar by the number of each one's n-grams once it has been used."""
    for block in blocks:
        yield block
        advance(len(block.words))


def score_text(
    model: Annotated[
        Path, "a language model: ARPA (plain or gzip), the binary form, KenLM's, or a checkpoint of a neural one"
    ],
    texts: Annotated[
        list[Path], "text files, one sentence a line, plain or gzip, or manifests (.jsonl); - is standard input"
    ],
    *,
    summary: Annotated[bool, "only the totals"] = False,
    lower_case: Annotated[bool, "fold the model's words to lower case"] = False,
    context: Annotated[bool, "of a neural model: read the sentences as one text, each after those before it"] = False,
    device: Annotated[str, "for a neural model: cpu or cuda"] = "cpu",
) -> None:
    """Each sentence's log10-probability and its unknown words; perplexity with and without them.

    Words and ends of sentences count alike for every kind of model, also one over word pieces or characters.

    Example: carnelian language-model score text.arpa other.txt --summary
    """
    totals = np.zeros(5)  # sentences, tokens with </s>, unknown words, their log10, log10 of all
    lines = chain.from_iterable(map(read_lines, texts))
    neural = model.is_dir() or model.suffix == ".safetensors"
    if neural and lower_case:
        raise LanguageModelError(f"{model}: --lower-case folds ARPA files alone. Train the model on text in lower case")
    if not neural and (context or device != "cpu"):
        raise LanguageModelError(
            f"{model}: --context and --device are for a checkpoint of a neural model. Leave them out"
        )
    found = neural_scores(model, lines, context, device) if neural else ngram_scores(model, lines, lower_case)
    for line, natural, unknown in found:
        scores = natural / LN10
        total = scores.sum(dtype=np.float64)
        totals += (1, len(scores), unknown.sum(), scores[unknown].sum(), total)
        if not summary:
            sys.stdout.write(f"{total:.6f}\t{unknown.sum()}\t{line}\n")
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


def ngram_scores(path: Path, lines: Iterable[str], lower_case: bool) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields each line with the natural log-probabilities of its words and its end, and which of them are unknown."""
    language_model = load_language_model(path, lower_case=lower_case)
    for line in lines:
        words = split_words(line)
        scores = language_model.word_scores(words)
        yield line, scores, ~np.append(language_model.known(words), True)[: len(scores)]


def neural_scores(
    path: Path, lines: Iterable[str], context: bool, device: str
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields as `ngram_scores` by a neural model, whose text is read whole."""
    from carnelian.rescoring.neural import load_neural_model  # here, because it brings torch, which n-grams do not need

    language_model, texts = load_neural_model(path, device=device), list(lines)
    sentences = [split_words(line) for line in texts]
    scored = console.track(language_model.scores(sentences, context=context), "Scoring", len(sentences))
    scores = dict(scored)
    for index, line in enumerate(texts):
        yield line, scores[index], ~np.append(language_model.known(sentences[index]), True)


def describe_model(
    model: Annotated[Path, "a language model: ARPA (plain or gzip), the binary form, or KenLM's"],
) -> None:
    """What a language model holds.

    Example: carnelian language-model info text.arpa
    """
    language_model = load_language_model(model)
    rows: list[tuple[str, object]] = [("order", language_model.order)]
    rows += [(f"{length}-grams", f"{count:,}") for length, count in enumerate(language_model.counts, 1)]
    *tables, hashed = language_model.tables
    bytes_used = sum(array.nbytes for array in (*tables, *(hashed or ()), language_model.text))
    rows += [
        ("contexts", "hashed" if hashed else f"{len(language_model.tables.states):,}"),
        ("log10 of <unk>", f"{language_model.tables.unigrams[language_model.unknown] / LN10:.4f}"),
        ("marks of sentences", "yes" if min(language_model.start, language_model.end) >= 0 else "no"),
        ("memory", f"{bytes_used / 1e6:.1f} MB"),
        *((f"stored: {name}", f"{array.nbytes / 1e6:.1f} MB") for name, array in language_model.extra.items()),
    ]
    console.table(str(model), ["", "value"], rows)


def _save(model: NGram, arpa: Path | None, binary: Path | None) -> None:
    if arpa:
        blocks = list(n_grams(model))
        write_arpa(arpa, model.text, [len(block.words) for block in blocks], lambda length: [blocks[length - 1]])
    if binary:
        save_binary(with_word_tree(model), binary)


def _check_targets(verb: str, arpa: Path | None, binary: Path | None, overwrite: bool) -> None:
    """Raises CarnelianError for no output, one that exists, or one that cannot be written, before any work."""
    if not arpa and not binary:
        raise LanguageModelError(f"language-model {verb}: nothing to write. Give --arpa FILE, --binary FILE or both")
    if arpa and binary and arpa.absolute() == binary.absolute():
        raise LanguageModelError(f"{arpa}: given as --arpa and as --binary. Give two files")
    check_outputs(arpa, binary, overwrite=overwrite)


def mix_models(
    models: Annotated[list[Path], "two or more language models"],
    *,
    tune: Annotated[Path | None, "a text like what will be recognized, by which the weights are found"] = None,
    weights: Annotated[str, 'the weights themselves, such as "0.7 0.3"'] = "",
    arpa: Annotated[Path | None, "the ARPA file to write; gzip where its name ends in .gz"] = None,
    binary: Annotated[Path | None, "the binary model to write, which loads at once"] = None,
    lower_case: Annotated[bool, "fold the models' words to lower case"] = False,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """Mix language models into one (linear interpolation), with weights tuned on a text.

    Example: carnelian language-model mix a.arpa b.arpa --tune held_out.txt --arpa mixed.arpa
    """
    _check_targets("mix", arpa, binary, overwrite)
    if len(models) < 2 or bool(tune) == bool(weights):
        raise LanguageModelError("language-model mix: expected two models or more, and either --tune or --weights")
    loaded = [load_language_model(path, lower_case=lower_case) for path in models]
    for path, model in zip(models, loaded):
        if min(model.start, model.end) < 0:
            raise LanguageModelError(f"{path}: has no <s> or no </s>, so it cannot be mixed. Build it with them")
    if tune:
        sentences = [split_words(line) for line in read_lines(tune)]
        shares = tune_mixture(loaded, sentences)
    else:
        sentences = []
        try:
            shares = np.array([float(weight) for weight in weights.replace(",", " ").split()])
        except ValueError:
            shares = np.zeros(0)
        if len(shares) != len(models) or shares.min() < 0 or shares.sum() <= 0:
            raise LanguageModelError(f'--weights "{weights}": expected {len(models)} numbers, none below 0')
        shares = shares / shares.sum()
    with console.bar("Mixing", max(model.order for model in loaded)) as advance:
        mixed = combine.interpolate_models(loaded, shares.tolist(), advance)
    _save(mixed, arpa, binary)
    rows = [
        (path.name, f"{weight:.4f}", *_perplexity(model, sentences))
        for path, weight, model in zip(models, shares, loaded)
    ]
    rows.append(("mixed", "", *_perplexity(mixed, sentences)))
    console.table("Mixture", ["model", "weight", "perplexity", "unknown words"][: 4 if tune else 2], rows)


def _perplexity(model: NGram, sentences: list[list[str]]) -> tuple[str, ...]:
    """Perplexity without unknown words, and how many there are; nothing for no sentences."""
    if not sentences:
        return ()
    total, tokens, unknown_words = 0.0, 0, 0
    for words in sentences:
        scores = model.word_scores(words)
        known = np.append(model.known(words), True)[: len(scores)]
        total += float(scores[known].sum(dtype=np.float64))
        tokens += int(known.sum())
        unknown_words += int((~known).sum())
    return f"{math.exp(-total / max(1, tokens)):.2f}", f"{unknown_words}"


def filter_model(
    model: Annotated[Path, "a language model: ARPA (plain or gzip), or the binary form"],
    *,
    vocabulary: Annotated[Path, "a file of words; n-grams with other words are left out"],
    arpa: Annotated[Path | None, "the ARPA file to write; gzip where its name ends in .gz"] = None,
    binary: Annotated[Path | None, "the binary model to write, which loads at once"] = None,
    lower_case: Annotated[bool, "fold the model's words to lower case"] = False,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """Cut a language model down to a vocabulary; probabilities stay as they are.

    Example: carnelian language-model filter text.arpa --vocabulary words.txt --arpa small.arpa
    """
    _check_targets("filter", arpa, binary, overwrite)
    whole = load_language_model(model, lower_case=lower_case)
    words = read_word_list(vocabulary)
    cut = combine.restrict(whole, words)
    missing = len(set(words) - set(whole.words))
    _save(cut, arpa, binary)
    rows = [
        (f"{length}-grams", f"{before:,}", f"{after:,}")
        for length, (before, after) in enumerate(zip(whole.counts, cut.counts), 1)
    ]
    console.table(str(model), ["", "before", "after"], rows)
    if missing:
        console.note(f"{missing} of the {len(set(words))} words are not in the model.")


def prepare_text(
    texts: Annotated[list[Path], "text files, plain or gzip; - is standard input"],
    *,
    out: Annotated[Path, "the file to write, a sentence a line; gzip where its name ends in .gz"],
    language: Annotated[str | None, 'write numbers out in this language, such as "en" or "es"'] = None,
    alphabet: Annotated[str | None, "the judge of spelling: a checkpoint, or the characters themselves"] = None,
    encoding: Annotated[str, "of the texts, such as utf-8 or latin-1"] = "utf-8",
    lines: Annotated[bool, "each line is one sentence; otherwise paragraphs are cut into sentences"] = False,
    keep_case: Annotated[bool, "leave capitals"] = False,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """Prepare running text for a language model: one sentence a line, as words are spoken and spelled.

    Example: carnelian language-model prepare book.txt --language en --out book-sentences.txt
    """
    check_outputs(out, overwrite=overwrite)
    spelling = TextNormalizer(language=language, alphabet=_alphabet(alphabet), keep_case=keep_case)
    report = NormalizationReport()
    with written(out, "wb") as file, packed(file, out) as target:
        for path in texts:
            for sentence in console.track(
                normalize_text_file(path, spelling, report, encoding=encoding, lines=lines), f"Preparing {path.name}"
            ):
                target.write(f"{sentence}\n".encode())
        if not report.sentences:
            raise LanguageModelError(f"{', '.join(map(str, texts))}: no sentence is left; {dict(report.rows())}")
    console.table(f"{out} (normalisation: {spelling.label})", ["", "count"], report.rows())


def _alphabet(given: str | None) -> Alphabet | None:
    """The alphabet of a checkpoint, where there is such a file, or of characters."""
    if given is None:
        return None
    if not Path(given).is_file():
        return Alphabet(given)
    from carnelian.checkpoint import load_checkpoint  # here, because it brings torch, which nothing else needs

    return load_checkpoint(given).alphabet


def download_published(
    source: Annotated[str, "openslr-11: the language models of LibriSpeech"],
    name: Annotated[str, f"one of {', '.join(LANGUAGE_MODELS)}"],
    *,
    out: Annotated[Path, "the folder for the file"] = Path("."),
    mirror: Annotated[list[str], "fetch from the folder at this address instead; may be given again"] = [],  # noqa: B006
) -> None:
    """Download a published language model, its vocabulary, lexicon or text; the words are folded to lower case.

    Example: carnelian language-model download openslr-11 3-gram.pruned.1e-7
    """
    if source != "openslr-11":
        raise LanguageModelError(f'"{source}": not known. Give openslr-11, and a name: {", ".join(LANGUAGE_MODELS)}')
    print(download_language_model(name, out, mirror))


LANGUAGE_MODEL_VERBS = {
    "build": build,
    "score": score_text,
    "info": describe_model,
    "mix": mix_models,
    "filter": filter_model,
    "prepare": prepare_text,
    "download": download_published,
}
