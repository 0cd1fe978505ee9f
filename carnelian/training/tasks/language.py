"""The task "language": a language model of texts, for perplexities and for rescoring hypotheses."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from carnelian import console
from carnelian.checkpoint import load_checkpoint, saved_steps
from carnelian.data.alphabet import Alphabet, make_alphabet
from carnelian.data.text.text_files import read_lines, split_words
from carnelian.errors import CheckpointError, LanguageModelError
from carnelian.models.registry import build_language_model
from carnelian.recipe import Recipe, call
from carnelian.rescoring.neural import NeuralLanguageModel
from carnelian.training.fit import StepReport, Training, total_over_processes
from carnelian.training.log import Workload
from carnelian.training.optim import Schedule
from carnelian.training.run import Metric, Run, Score, Validate, checkpoint_path
from carnelian.training.settings import LanguageConfig, check_language_recipe
from carnelian.training.tasks.session import open_session
from carnelian.training.tasks.text_corpus import Text, TextBatch, TextCorpus, choose_words, read_training_text

TEXT_TOKENS = Workload(
    lambda batches: float(sum(int((batch.following >= 0).sum()) for batch in batches)), "tokens", "tokens_per_second"
)


def train_language(recipe: Recipe, folder: str | Path, *, allow_changes: bool = False, dry_run: bool = False) -> Path:
    """Trains a language model in a folder, or goes on with the run in it, and returns the path of the last checkpoint.

    The settings are those of `train_acoustic`. Raises Stopped after SIGINT and SIGTERM, when all is saved.
    """
    config = check_language_recipe(recipe)
    with open_session(recipe, folder, config, allow_changes=allow_changes, dry_run=dry_run) as session:
        held_out = read_sentences(config.validation)
        text = read_training_text(config.texts)
        alphabet = choose_symbols(recipe, session.folder, text)
        corpus = TextCorpus(config, recipe.get("seed", 0), text.tokens(alphabet), session.world)
        steps = session.steps(corpus)
        model = build_language_model(recipe, alphabet).to(session.world.device)
        training, schedule = session.optimization(model, [{"params": list(model.parameters())}], steps)
        run, state = session.begin(
            alphabet,
            training,
            corpus,
            steps,
            build=partial(build_language_model, recipe, alphabet),
            validate=perplexity(held_out, config) if held_out and not dry_run else None,
            metric=Metric("perplexity", percent=False),
            workload=TEXT_TOKENS,
        )
        session.describe(run, corpus, schedule, state)
        describe_symbols(alphabet, text, held_out)
        session.finish(run, lambda: run.train(language_reports(run, corpus, schedule), session.stop))
    return checkpoint_path(session.folder, run.step)


def choose_symbols(recipe: Recipe, folder: Path, text: Text) -> Alphabet:
    """Returns what the model is over: the recipe's alphabet, the words of the run in the folder, or the recipe's [vocabulary]."""
    if "alphabet" in recipe:
        return make_alphabet(recipe["alphabet"])
    if saved_steps(folder):
        with suppress(CheckpointError):  # a broken one is told of where the run goes on
            return load_checkpoint(folder).alphabet
    return call(choose_words, recipe.get("vocabulary", {}), where="vocabulary", text=text)


def read_sentences(paths: Sequence[str]) -> list[list[str]]:
    """Returns the sentences of text files, each its words. Raises LanguageModelError where files are given that have none."""
    sentences = [words for path in paths for line in read_lines(path) if (words := split_words(line))]
    if paths and not sentences:
        raise LanguageModelError(f"{', '.join(paths)}: found no words. Give text, one sentence a line")
    return sentences


def describe_symbols(alphabet: Alphabet, text: Text, held_out: Sequence[Sequence[str]]) -> None:
    """Notes the number of symbols, and the words that they do not spell."""
    words, counts = text.words, text.counts
    unknown = sum(int(counts[number]) for number, word in enumerate(words) if number > 2 and alphabet.unknown(word))
    shares = [unknown / max(1, int(counts[3:].sum()))]
    if held_out:
        shares.append(
            sum(bool(alphabet.unknown(word)) for words in held_out for word in words) / sum(map(len, held_out))
        )
    console.note(
        f"{len(alphabet):,} symbols; {' and '.join(f'{100 * share:.2f} %' for share in shares)} of the words"
        f"{' (training, validation)' if held_out else ''} are unknown"
    )


def token_losses(training: Training, model: nn.Module, batch: TextBatch, *, context: bool) -> Tensor:
    """The loss (B,) of a batch, whose mean is that of its tokens; with `context` the memory of it is carried to the next one."""
    memory = None if batch.fresh else training.carried.get("memory")
    if memory is not None and len(memory) != len(batch):  # of a run that goes on with another batch size
        memory = None
    log_probs, memory = model(batch.tokens, batch.following.clamp_min(0), memory)
    training.carried = {"memory": memory} if context else {}
    inside = batch.following >= 0
    return -(log_probs * inside).sum(1) * (len(batch) / inside.sum())


def language_reports(run: Run, corpus: TextCorpus, schedule: Schedule) -> Iterator[StepReport]:
    """Yields the report of each step of the training."""
    config: LanguageConfig = run.config  # type: ignore[assignment]
    run.training.model.train()
    loss = partial(token_losses, run.training, context=config.context == "text")
    return run.fit(loss, corpus.batches, schedule, seed=corpus.seed)


def perplexity(sentences: Sequence[Sequence[str]], config: LanguageConfig) -> Validate:
    """Returns a validation: the perplexity of a word, ends of sentences counted as words and unknown words as <unk>.

    The sentences are read as in the training, as one text or each alone; of several processes each reads a part.
    """

    def validate(model: Any, alphabet: Alphabet, stop: Callable[[], int]) -> Score | None:
        part = sentences[len(sentences) * rank // ranks : len(sentences) * (rank + 1) // ranks]
        language_model = NeuralLanguageModel(model, alphabet, segment=config.segment)
        total = words = unfinished = 0.0
        for _, scores in language_model.scores(part, context=config.context == "text"):
            total += float(scores.sum())
            words += len(scores)
            if stop():
                unfinished = 1.0
                break
        total, words, unfinished = total_over_processes([total, words, unfinished], str(language_model.device))
        return None if unfinished else Score(math.exp(min(-total / words, 700)), [])

    group = torch.distributed
    rank, ranks = (group.get_rank(), group.get_world_size()) if group.is_initialized() else (0, 1)
    return validate
