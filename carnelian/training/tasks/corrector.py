"""The task "corrector": BERTx2, which turns a recognizer's hypotheses into what was said (arXiv 1910.10697)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from carnelian import console
from carnelian.checkpoint import load_weights
from carnelian.data.alphabet import Alphabet, BertPieces
from carnelian.data.text.pairs import Pair, iterate_pairs
from carnelian.errors import RecipeError
from carnelian.formats.bert import read_bert, read_vocabulary
from carnelian.models.text.bertx2 import bertx2_weights
from carnelian.recipe import Recipe, call
from carnelian.rescoring.correction import Corrector, build_corrector, load_corrector_checkpoint
from carnelian.scoring.wer import Errors, count_errors
from carnelian.training.distributed import of_this_process
from carnelian.training.fit import StepReport, total_over_processes
from carnelian.training.optim import Schedule
from carnelian.training.run import Run, Score, Validate, checkpoint_path
from carnelian.training.settings import CorrectorConfig, check_corrector_recipe
from carnelian.training.tasks.pair_corpus import NO_TARGET, TOKENS, PairBatch, PairCorpus
from carnelian.training.tasks.session import open_session

VALIDATED_TOGETHER = 256  # texts, between which a signal is seen


@dataclass(frozen=True)
class CorrectorInitialization:
    """The table [initialize] of a corrector: one of these.

    bert: a Hugging Face folder with a BERT, whose weights both encoder and decoder begin with. checkpoint: an earlier corrector.
    vocabulary: a vocab.txt alone, with which a corrector of the sizes in [corrector] begins from random weights.
    """

    bert: str = ""
    checkpoint: str = ""
    vocabulary: str = ""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.bert, self.checkpoint, self.vocabulary))) != 1:
            raise RecipeError(
                "[initialize]: a corrector begins with bert (a folder), checkpoint (an earlier one) or vocabulary (a vocab.txt)"
            )


def load_initial_weights(recipe: Recipe) -> tuple[Recipe, BertPieces, dict[str, Tensor] | None]:
    """Returns the recipe with the sizes of the model it begins with, the pieces, and the weights (None: random ones)."""
    given = call(CorrectorInitialization, recipe["initialize"], where="initialize")
    sizes, weights = {}, None
    if given.bert:
        bert = read_bert(given.bert)
        pieces, sizes, weights = bert.pieces, bert.sizes, bertx2_weights(bert.weights)
    elif given.checkpoint:
        checkpoint, pieces = load_corrector_checkpoint(given.checkpoint)
        sizes, weights = checkpoint.recipe["corrector"], checkpoint.weights
    else:
        pieces = read_vocabulary(given.vocabulary)
    return {**recipe, "corrector": {**sizes, **recipe.get("corrector", {})}}, pieces, weights


def corrector_loss(model: nn.Module, batch: PairBatch, *, smoothing: float) -> Tensor:
    """Returns the cross entropy (B,) of each row's pieces, so scaled that the mean over the rows is that over all pieces."""
    scores = model(batch.source, batch.source_lengths, batch.written).float()
    losses = F.cross_entropy(
        scores.flatten(0, 1),
        batch.targets.flatten(),
        ignore_index=NO_TARGET,
        label_smoothing=smoothing,
        reduction="none",
    )
    return losses.unflatten(0, batch.targets.shape).sum(1) * (len(batch) / (batch.targets != NO_TARGET).sum())


def corrected_errors(pairs: list[Pair]) -> Validate:
    """Returns a validation: the word error rate of hypotheses corrected by the likeliest pieces one after the other."""

    def validate(model: Any, alphabet: Alphabet, stop: Callable[[], int]) -> Score | None:
        corrector = Corrector(model, alphabet, beam_width=1)  # type: ignore[arg-type]
        mine, errors, unfinished = of_this_process(pairs), Errors(), 0
        examples: list[tuple[str, str]] = []
        for first in range(0, len(mine), VALIDATED_TOGETHER):
            some = mine[first : first + VALIDATED_TOGETHER]
            for pair, found in zip(some, corrector.propose([pair.hypothesis for pair in some])):
                errors += count_errors(pair.text, found.text)
                if found.text != pair.hypothesis:
                    examples.append((pair.text, f"{found.text}  <- {pair.hypothesis}"))
            if stop():
                unfinished = 1
                break
        counts = [errors.hits, errors.substitutions, errors.deletions, errors.insertions, unfinished]
        *totals, unfinished_anywhere = total_over_processes(counts, str(model.bias.device))
        if unfinished_anywhere:
            return None
        return Score(Errors(*map(int, totals)).rate, examples[:: max(1, len(examples) // 3)][:3])

    return validate


def train_corrector(recipe: Recipe, folder: str | Path, *, allow_changes: bool = False, dry_run: bool = False) -> Path:
    """Trains a corrector in a folder, or goes on with the run in it, and returns the path of the last checkpoint.

    The settings are those of `train_acoustic`. Raises Stopped after SIGINT and SIGTERM, when all is saved.
    """
    config = check_corrector_recipe(recipe)
    recipe, pieces, weights = load_initial_weights(recipe)
    with open_session(recipe, folder, config, allow_changes=allow_changes, dry_run=dry_run) as session:
        model = build_corrector(recipe, pieces)
        if weights is not None:
            load_weights(model, weights, where=next(iter(recipe["initialize"].values())))
        model = model.to(session.world.device)
        seed, positions = recipe.get("seed", 0), model.config.positions
        corpus = PairCorpus(config, pieces, session.world, positions=positions, seed=seed)
        held_out = [] if dry_run else list(iterate_pairs(*config.validation))
        steps = session.steps(corpus)
        training, schedule = session.optimization(model, [{"params": list(model.parameters())}], steps)
        run, state = session.begin(
            pieces,
            training,
            corpus,
            steps,
            build=partial(build_corrector, recipe, pieces),
            validate=corrected_errors(held_out) if held_out else None,
            workload=TOKENS,
            notes={"characters": "".join(sorted(corpus.characters)), "longest": corpus.longest},
        )
        session.describe(run, corpus, schedule, state)
        if held_out:
            before = sum((count_errors(pair.text, pair.hypothesis) for pair in held_out), Errors())
            console.note(f"validation WER before correction {100 * before.rate:.2f} %")
        session.finish(run, lambda: run.train(corrector_reports(run, corpus, schedule), session.stop))
    return checkpoint_path(session.folder, run.step)


def corrector_reports(run: Run, corpus: PairCorpus, schedule: Schedule) -> Iterator[StepReport]:
    """Yields the report of each step of the training."""
    config: CorrectorConfig = run.config  # type: ignore[assignment]
    run.training.model.train()
    loss = partial(corrector_loss, smoothing=config.label_smoothing)
    return run.fit(loss, corpus.batches, schedule, seed=corpus.seed)
