"""Language models made from others: mixed with weights that suit a text, or cut down to a vocabulary."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from carnelian.errors import LanguageModelError
from carnelian.jit import cached
from carnelian.ngram.model import EMPTY, FREE, NGram, NGramBlock, NGramBuilder, score_word

ROUNDS = 100
SMALLEST = 1e-10  # the least mass a context leaves for its shorter one


@cached
def _n_grams(model, context_length, lengths, above, last, rows, probabilities, targets):
    """All n-grams whose context has this many words; contexts one longer are noted on the way.

    lengths, above, last: (S,), each context's words, its own context, and its last word.
    """
    used = 0
    for slot in range(model.arcs.shape[0]):
        arc = model.arcs[slot]
        if arc.key == FREE:
            continue
        context = np.int64(arc.key >> np.uint64(32))
        if lengths[context] != context_length:
            continue
        word = np.int64(arc.key & np.uint64(0xFFFFFFFF))
        if lengths[arc.target] == 0:
            lengths[arc.target] = context_length + 1
            above[arc.target] = context
            last[arc.target] = word
        rows[used, context_length] = word
        for column in range(context_length - 1, -1, -1):
            rows[used, column] = last[context]
            context = above[context]
        probabilities[used] = arc.probability
        targets[used] = arc.target
        used += 1
    return used


def n_grams(model: NGram) -> Iterator[NGramBlock]:
    """The n-grams of a model, a block of each length, sorted by their words."""
    unigrams, _, states, _ = model.listed().tables
    size = len(unigrams)
    lengths, above, last = (np.zeros(len(states), np.int32) for _ in range(3))
    lengths[:size] = 1
    last[:size] = np.arange(size)
    yield NGramBlock(np.arange(size, dtype=np.int32)[:, None], unigrams, states["backoff"][:size])
    held = np.count_nonzero(model.tables.arcs["key"] != FREE)
    for order in range(2, model.order + 1):
        rows = np.zeros((held, order), np.int32)
        probabilities, targets = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.int32)
        used = _n_grams(model.tables, order - 1, lengths, above, last, rows, probabilities, targets)
        sort = np.lexsort(rows[:used].T[::-1])
        own = lengths[targets[sort]] == order
        backoffs = np.where(own, states["backoff"][targets[sort]], 0)
        yield NGramBlock(rows[sort], probabilities[sort], backoffs)


@cached
def _score_rows(model, rows, scores):
    """Log-probability of the last word of each row after the words before it; -1 is a word the model lacks.

    A word that the model lacks, before others, cuts off what stands before it.
    """
    for row in range(rows.shape[0]):
        word = rows[row, rows.shape[1] - 1]
        if word < 0:
            scores[row] = -np.inf
            continue
        state = EMPTY
        for column in range(rows.shape[1] - 1):
            if rows[row, column] < 0:
                state = EMPTY
            else:
                _, state = score_word(model, state, rows[row, column])
        scores[row], _ = score_word(model, state, word)


def tune_mixture(models: Sequence[NGram], sentences: Sequence[Sequence[str]]) -> np.ndarray:
    """Returns the weights with which the mixture of models has the lowest perplexity on the sentences, by EM.

    Words that no model knows are left out; a model that does not know a word that another knows has probability 0 for it.
    """
    columns: list[list[float]] = [[] for _ in models]
    for words in sentences:
        for model, column in zip(models, columns):
            scores = model.word_scores(words).astype(np.float64)
            known = np.append(model.known(words), True)[: len(scores)]
            column.extend(np.where(known, np.exp(scores), 0))
    likelihoods = np.array(columns)
    likelihoods = likelihoods[:, likelihoods.sum(axis=0) > 0]
    if not likelihoods.size:
        raise LanguageModelError("the text to tune on holds no word that the models know. Give other text")
    weights = np.full(len(models), 1 / len(models))
    for _ in range(ROUNDS):
        shares = weights[:, None] * likelihoods
        shares /= shares.sum(axis=0)
        if np.abs(shares.mean(axis=1) - weights).max() < 1e-6:
            break
        weights = shares.mean(axis=1)
    return weights / weights.sum()


def interpolate_models(models: Sequence[NGram], weights: Sequence[float], advance: Callable[..., None]) -> NGram:
    """One model with all n-grams of the given ones, whose probabilities are the weighted means of theirs.

    Back-offs are computed anew, so that every context sums to one; `advance` is called after each length.
    """
    words = list(dict.fromkeys(word for model in models for word in model.words))
    index = {word: number for number, word in enumerate(words)}
    maps, blocks = [], []
    for model in models:
        known = np.full(len(words), -1, np.int32)
        known[[index[word] for word in model.words]] = np.arange(len(model.words))
        maps.append(known)
        blocks.append(list(n_grams(model)))
    numbers = [np.array([index[word] for word in model.words], np.int32) for model in models]
    builder = None
    for order in range(1, max(model.order for model in models) + 1):
        parts = [number[block[order - 1].words] for number, block in zip(numbers, blocks) if order <= len(block)]
        rows, _ = _unique(np.concatenate(parts))
        probabilities = np.zeros(len(rows))
        scores = np.empty(len(rows), np.float32)
        for model, known, weight in zip(models, maps, weights):
            _score_rows(model.tables, known[rows], scores)
            probabilities += weight * np.exp(scores.astype(np.float64))
        logarithms = np.log(np.maximum(probabilities, 1e-300))
        if builder is None:
            start = index["<s>"]
            logarithms -= np.log(probabilities.sum() - probabilities[start])
            logarithms[start] = 0
            builder = NGramBuilder(words, logarithms, np.zeros(len(rows)))
        else:
            builder.add(rows, logarithms, np.zeros(len(rows)))
            _normalize(builder, NGramBlock(rows, logarithms, logarithms))
        advance()
    assert builder is not None
    return builder.finish()


def _unique(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows, sorted, and for each given row the number of its like."""
    sort = np.lexsort(rows.T[::-1])
    ordered = rows[sort]
    fresh = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))
    which = np.empty(len(rows), np.int64)
    which[sort] = np.cumsum(fresh) - 1
    return np.ascontiguousarray(ordered[fresh], np.int32), which


def _normalize(builder: NGramBuilder, block: NGramBlock) -> None:
    """Set the back-offs of the contexts of the block added last, so that each context sums to one."""
    contexts, which = _unique(block.words[:, :-1])
    shorter = np.empty(len(block.words), np.float32)
    _score_rows(builder.tables, np.ascontiguousarray(block.words[:, 1:]), shorter)
    taken = np.bincount(which, np.exp(block.probabilities), len(contexts))
    covered = np.bincount(which, np.exp(shorter.astype(np.float64)), len(contexts))
    builder.set_backoffs(contexts, np.log(np.maximum(1 - taken, SMALLEST) / np.maximum(1 - covered, SMALLEST)))


def restrict(model: NGram, vocabulary: Sequence[str]) -> NGram:
    """Returns the model without n-grams that hold other words; probabilities and back-offs stay as they are.

    Where all n-grams of some length are gone but their contexts still have back-offs, the model keeps that length, empty,
    since an ARPA file has no back-offs of its longest n-grams.
    """
    wanted = set(vocabulary) | {"<unk>", "<s>", "</s>"}
    kept = np.array([word in wanted for word in model.words])
    renumber = np.cumsum(kept) - 1
    builder, weighs = None, False
    for block in n_grams(model):
        inside = kept[block.words].all(axis=1)
        rows = renumber[block.words[inside]].astype(np.int32)
        if builder is None:
            words = [word for word, keep in zip(model.words, kept) if keep]
            builder = NGramBuilder(words, block.probabilities[inside], block.backoffs[inside], sum(model.counts[1:]))
        elif len(rows) or weighs:
            builder.add(rows, block.probabilities[inside], block.backoffs[inside])
        weighs = bool(np.any(block.backoffs[inside] != 0))
    assert builder is not None
    return builder.finish()
