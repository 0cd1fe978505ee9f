"""Pairs of hypothesis and reference, which a corrector is trained on: `carnelian pairs MANIFEST...`."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from carnelian.console import note, table, track
from carnelian.data.text.pairs import Pair, write_pairs
from carnelian.data.utterance import Manifest, Utterance, refuse_no_texts, write_manifest
from carnelian.errors import CarnelianError, ManifestError, RecipeError
from carnelian.files import check_outputs
from carnelian.formats.catalog import find_checkpoint
from carnelian.inference.recognizer import Recognizer
from carnelian.inference.torch_engine import TorchEngine, load_torch_engine
from carnelian.models.masking import keep_dropout
from carnelian.ranges import Fraction, FractionBelowOne, NonNegativeInt, PositiveInt
from carnelian.recipe import Recipe, load_recipe
from carnelian.rescoring.pairs import LARGEST_WER, PairFilter, speaker_folds, utterance_speaker
from carnelian.scoring.transcript_files import paired_transcripts, read_transcripts
from carnelian.training.signals import Stopped
from carnelian.training.tasks.acoustic import train_acoustic


def pairs(
    manifests: Annotated[list[Path], "manifests of utterances with their text"] = [],  # noqa: B006
    *,
    out: Annotated[Path, "the file of pairs to write (JSON lines)"],
    recipe: Annotated[Path | None, "train a model for each fold by this recipe, on the other folds"] = None,
    set: Annotated[list[str], "a change to the recipe, such as train.epochs=20; may be given again"] = [],  # noqa: B006
    model: Annotated[list[Path], "a trained model for each fold, in the order of the folds; or one for all"] = [],  # noqa: B006
    folds: Annotated[
        PositiveInt, "parts of the speakers, each of which is decoded by a model that has not seen it"
    ] = 10,
    runs: Annotated[Path | None, "the folder of the folds' trainings; OUT without its suffix, if not given"] = None,
    passes: Annotated[PositiveInt, "decodings of each utterance, with other dropout each"] = 1,
    without_dropout: Annotated[bool, "turn dropout off while decoding"] = False,
    references: Annotated[Path | None, "instead of manifests: transcripts of any form that `score` reads"] = None,
    hypotheses: Annotated[Path | None, "what a recognizer wrote for --references"] = None,
    speaker: Annotated[
        str, "with --references: a regular expression that finds the speaker in an utterance's name"
    ] = "",
    held_out: Annotated[Path | None, "write the pairs of some speakers here instead, to find a threshold on"] = None,
    held_out_share: Annotated[FractionBelowOne, "of the words, for --held-out"] = 0.1,
    largest_wer: Annotated[Fraction, "pairs of a higher word error rate are left out"] = LARGEST_WER,
    seed: Annotated[NonNegativeInt, "of the dropout"] = 0,
    device: Annotated[str, "cpu, cuda or cuda:N; by default a GPU where there is one"] = "",
    batch_seconds: Annotated[float, "seconds of audio in a batch"] = 120.0,
    overwrite: Annotated[bool, "replace outputs that exist"] = False,
) -> None:
    """Write pairs of hypothesis and reference, which a corrector is trained on, from a recognizer's errors on speech it has not seen.

    The speakers are parted into folds, and each fold is decoded by a model that was trained on the others, with dropout left on. The
    same command goes on where it was stopped.

    Example: carnelian pairs data/an4/train.jsonl --recipe an4/quartznet --folds 4 --out pairs.jsonl
    """
    check_outputs(out, held_out, overwrite=overwrite)
    if references or hypotheses:
        if not (references and hypotheses) or manifests or recipe or model:
            raise CarnelianError("pairs: give manifests, or --references and --hypotheses together and no models")
        found: Iterator[Iterable[Pair]] = iter([transcript_pairs(references, hypotheses, speaker)])
    else:
        utterances = read_utterances(manifests)
        parts = speaker_folds([*map(utterance_speaker, utterances)], [each.duration for each in utterances], folds)
        models = fold_models(utterances, parts, recipe, set, model, runs or out.with_suffix(""))
        found = (
            decoded_pairs(
                path, members, 1 if without_dropout else passes, not without_dropout, seed, device, batch_seconds
            )
            for path, members in models
        )
    filtered = PairFilter(largest_wer)
    kept = [pair for part in found for pair in filtered.usable(part)]
    if not kept:
        raise ManifestError(f"no pair is left to write; {'; '.join(': '.join(row) for row in filtered.rows()[2:])}")
    if held_out:
        kept = hold_out(kept, held_out, held_out_share)
    write_pairs(out, kept)
    table(str(out), ("", ""), filtered.rows())


def read_utterances(manifests: list[Path]) -> list[Utterance]:
    """The utterances of manifests; ManifestError where there are none with a text."""
    if not manifests:
        raise CarnelianError("pairs: nothing to decode. Give manifests, or --references and --hypotheses")
    utterances = list(Manifest(*manifests))
    refuse_no_texts(manifests[0], utterances)
    return utterances


def transcript_pairs(references: Path, hypotheses: Path, pattern: str) -> list[Pair]:
    """The pairs of two files of transcripts, with the speakers that the references or the names tell."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise CarnelianError(f"--speaker {pattern}: no regular expression ({error})") from None
    said, heard = read_transcripts(references), read_transcripts(hypotheses, hypothesis=True)
    names, texts, found, _ = paired_transcripts(said, heard)
    speakers = dict(said.speakers)
    if pattern:
        for name in names:
            if match := expression.search(name):
                speakers[name] = match[1] if expression.groups else match[0]
    pairs = zip(names, texts, found)
    return [Pair(" ".join(each.split()), " ".join(text.split()), speakers.get(name, "")) for name, text, each in pairs]


def fold_models(
    utterances: list[Utterance],
    parts: np.ndarray,
    recipe: Path | None,
    changes: list[str],
    models: list[Path],
    runs: Path,
) -> Iterator[tuple[Path, list[Utterance]]]:
    """Yields a model for each fold with the utterances that it decodes, trained first where a recipe is given."""
    folds = [[utterances[index] for index in np.flatnonzero(parts == fold)] for fold in range(parts.max() + 1)]
    if bool(recipe) == bool(models):
        raise RecipeError(
            "pairs: no recognizer. Give --recipe, to train one for each fold, or --model for trained ones"
        )
    if models and len(models) not in (1, len(folds)):
        raise CarnelianError(f"--model: {len(models)} models for {len(folds)} folds. Give one for each, or one for all")
    resolved = load_recipe(recipe, changes) if recipe else None
    for fold, members in enumerate(folds):
        if resolved is None:
            yield find_checkpoint(models[fold if len(models) > 1 else 0]), members
            continue
        others = [each for other, part in enumerate(folds) if other != fold for each in part]
        if not others:
            raise RecipeError("pairs: one fold alone leaves nothing to train on. Raise --folds, or give more speakers")
        note(f"fold {fold + 1} of {len(folds)}: {len(members)} utterances, a model of the {len(others)} others")
        yield train_fold(resolved, others, runs / f"fold-{fold + 1}"), members


def train_fold(recipe: Recipe, utterances: list[Utterance], folder: Path) -> Path:
    """Trains a recognizer in a folder, or goes on with its training, and returns its last checkpoint."""
    manifest = folder / "train.jsonl"
    write_manifest(manifest, utterances)
    changed = {
        **recipe,
        "train": {**recipe.get("train", {}), "manifests": [str(manifest)], "validation": [], "mix": []},
    }
    try:
        return train_acoustic(changed, folder)
    except Stopped as stopped:
        note(f"carnelian: {stopped}")
        raise SystemExit(128 + stopped.number) from None


def decoded_pairs(
    model: Path, utterances: list[Utterance], passes: int, dropout: bool, seed: int, device: str, batch_seconds: float
) -> Iterator[Pair]:
    """Yields what a model writes for utterances, by its best path, in each pass."""
    engine = load_torch_engine(model, device=device)
    if dropout:
        keep_dropout(engine.model.encoder)
        if not has_dropout(engine):
            note(f"{model}: has no dropout, so that all passes give the same. One is made")
            passes = 1
    recognizer = Recognizer(engine)
    for number in range(passes):
        torch.manual_seed(seed + number)
        found = recognizer.recognize(utterances, batch_seconds=batch_seconds)
        for each in track(found, f"pass {number + 1}", len(utterances)):
            said = each.utterance
            yield Pair(" ".join(each.transcript.text.split()), " ".join(said.text.split()), utterance_speaker(said))


def has_dropout(engine: TorchEngine) -> bool:
    """Whether an engine's encoder has dropout of more than 0."""
    return any(isinstance(each, torch.nn.Dropout) and each.p > 0 for each in engine.model.encoder.modules())


def hold_out(found: list[Pair], path: Path, share: float) -> list[Pair]:
    """Writes the pairs of some speakers to a file, and returns the others'."""
    sizes = [len(pair.text.split()) for pair in found]
    count = max(2, round(1 / max(share, 1e-3)))
    parts = speaker_folds([pair.speaker or pair.text for pair in found], sizes, count)
    chosen = [pair for pair, part in zip(found, parts) if part == 0]
    write_pairs(path, chosen)
    note(f"wrote {path}: {len(chosen)} pairs of {len({pair.speaker for pair in chosen})} held-out speakers")
    return [pair for pair, part in zip(found, parts) if part]
