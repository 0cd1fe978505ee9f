"""Transcripts corrected, and the corrections to trust: `carnelian correct text|threshold`."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from carnelian.checkpoint import save_checkpoint, saved_steps
from carnelian.commands.evaluate import write_lines
from carnelian.console import bar, note, table
from carnelian.data.text.pairs import Pair, iterate_pairs, read_results
from carnelian.files import check_outputs, written
from carnelian.ranges import PositiveInt
from carnelian.rescoring.correction import BEAM_WIDTH, Correction, Corrector, load_corrector_checkpoint
from carnelian.rescoring.threshold import LEAST_SPEAKERS, FoundThreshold, find_threshold
from carnelian.scoring.confidence import difference
from carnelian.scoring.sclite.stm import read_text
from carnelian.scoring.significance import matched_pairs
from carnelian.scoring.wer import Errors, errors_of_texts

TOGETHER = 256  # texts, between which the bar moves
BEAM_HELP = "outputs kept at each piece"
DEVICE_HELP = "cpu, cuda or cuda:N; by default a GPU where there is one"


def correct_text(
    model: Annotated[Path, "a corrector: a checkpoint, or a run's folder for its last one"],
    texts: Annotated[Path, "texts, one a line, or - for standard input; or results of `carnelian evaluate --out`"],
    *,
    out: Annotated[Path | None, "the file to write; of texts, by default standard output"] = None,
    threshold: Annotated[
        float | None, "apply corrections of a higher probability, 0 to 1; by default as stored in the model"
    ] = None,
    beam_width: Annotated[PositiveInt, BEAM_HELP] = BEAM_WIDTH,
    device: Annotated[str, DEVICE_HELP] = "",
    overwrite: Annotated[bool, "replace outputs that exist"] = False,
) -> None:
    """Correct transcripts. Of results (.jsonl) print the word error rates before and after, and whether they differ by chance.

    Example: carnelian correct text runs/corrector results.jsonl --out corrected.jsonl
    """
    check_outputs(out, overwrite=overwrite)
    corrector = Corrector.load(model, threshold=threshold, device=device, beam_width=beam_width)
    if texts.suffix in (".jsonl", ".json"):
        lines = read_results(texts)
        corrected = correct_all(corrector, [line["hypothesis"] for line in lines])
        if out:
            write_lines(out, [{**line, "hypothesis": text} for line, text in zip(lines, corrected)])
        print_difference([line["text"] for line in lines], [line["hypothesis"] for line in lines], corrected)
        return
    content = sys.stdin.read() if str(texts) == "-" else read_text(texts, "utf-8")
    corrected = correct_all(corrector, content.removesuffix("\n").split("\n") if content else [])
    with written(out) if out else nullcontext(sys.stdout) as file:
        file.writelines(f"{text}\n" for text in corrected)


def correct_all(corrector: Corrector, texts: Sequence[str]) -> list[str]:
    """Returns the texts corrected, with a bar."""
    found: list[str] = []
    with bar("correcting", len(texts)) as advance:
        for first in range(0, len(texts), TOGETHER):
            found += corrector(texts[first : first + TOGETHER])
            advance(len(found) - first)
    return found


def print_difference(references: list[str], before: list[str], after: list[str]) -> None:
    """Prints the word error rates of texts before and after their correction, and the test of matched pairs."""
    old, new = errors_of_texts(references, before), errors_of_texts(references, after)
    changed = sum(one != other for one, other in zip(before, after))
    better = sum(one.total > other.total for one, other in zip(old, new))
    worse = sum(one.total < other.total for one, other in zip(old, new))
    rows = [("before", *rates(sum(old, Errors()))), ("after", *rates(sum(new, Errors())))]
    table(f"{changed} of {len(before)} texts corrected: {better} better, {worse} worse", ("", "WER %", "errors"), rows)
    interval, _ = difference(old, new)
    print(f"before minus after: {100 * interval.low:+.2f} to {100 * interval.high:+.2f} % (95 %, bootstrap)")
    tested = matched_pairs(references, before, after)
    print(f"matched pairs: {tested.segments} segments, probability by chance {tested.probability:.3g}")


def rates(errors: Errors) -> tuple[str, str]:
    """The word error rate and the errors, as cells of a table."""
    return f"{100 * errors.rate:.2f}", str(errors.total)


def store_threshold(
    model: Annotated[Path, "a corrector: a checkpoint, or a run's folder for its last one"],
    pairs: Annotated[
        list[Path], "pairs of speakers that it was not trained on, as `evaluate --out` or `pairs` write them"
    ],
    *,
    beam_width: Annotated[PositiveInt, BEAM_HELP] = BEAM_WIDTH,
    device: Annotated[str, DEVICE_HELP] = "",
) -> None:
    """Find how probable a correction must be to be trusted, and store that in the corrector's checkpoint.

    It is the threshold that saves the most errors in 99 % of draws of the speakers. With fewer than 20 speakers, or where thresholds
    found on some of them save no errors on the others, nothing will be corrected.
    Never give a test list: its word error rates would be too good.

    Example: carnelian correct threshold runs/corrector held_out.jsonl
    """
    held_out = list(iterate_pairs(*pairs))
    path = saved_steps(model)[max(saved_steps(model))] if model.is_dir() and saved_steps(model) else model
    checkpoint, _ = load_corrector_checkpoint(path)
    corrector = Corrector.load(path, threshold=0.0, device=device, beam_width=beam_width)
    found = find_threshold(held_out, propose_all(corrector, held_out))
    save_checkpoint(path, replace(checkpoint, more={**(checkpoint.more or {}), "correction": found.saved()}))
    print_threshold(found, len(held_out))
    note(f"stored in {path}; correct with it: carnelian evaluate MODEL MANIFEST --correct {path}")


def propose_all(corrector: Corrector, pairs: Sequence[Pair]) -> list[Correction]:
    """Returns the likeliest correction of each hypothesis, with a bar; a text that is not corrected as a whole stays as it is."""
    found: list[Correction] = []
    with bar("correcting", len(pairs)) as advance:
        for first in range(0, len(pairs), TOGETHER):
            texts = [pair.hypothesis for pair in pairs[first : first + TOGETHER]]
            known = [text if corrector.is_whole(text) else "" for text in texts]
            proposed = corrector.propose(known)
            found += [each if text == own else Correction(own) for each, text, own in zip(proposed, known, texts)]
            advance(len(texts))
    return found


def print_threshold(found: FoundThreshold, pairs: int) -> None:
    """Prints the threshold, and the word error rates with every correction, with those above it, and with none."""
    rows = [
        ("no correction", *rates(found.before)),
        ("every correction", *rates(found.unbounded)),
        (f"probability above {found.threshold:.3g}: {found.corrected} of {pairs} texts", *rates(found.after)),
    ]
    title = f"{found.speakers} held-out speakers"
    table(title, ("", "WER %", "errors"), rows)
    if found.speakers < LEAST_SPEAKERS:
        print(f"fewer than {LEAST_SPEAKERS} speakers show too little: nothing will be corrected. Give pairs of more")
    elif not found.corrected:
        print("no threshold saves errors on these speakers for sure: nothing will be corrected")


CORRECT_VERBS = {"text": correct_text, "threshold": store_threshold}
