"""The beam search with kept computations finds what trying all outputs finds, and scores as the model at once does."""

import itertools
import math

import pytest
import torch

from carnelian.data.alphabet import BertPieces
from carnelian.models.text.bert import BertConfig
from carnelian.models.text.bertx2 import BertX2
from carnelian.rescoring.beams import best_outputs, output_scores
from carnelian.rescoring.correction import Corrector

pytest.importorskip("tokenizers")
PIECES = BertPieces(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c"])
SIZES = {"channels": 8, "layers": 2, "heads": 2, "feedforward": 16, "positions": 16, "dropout": 0.0}
LONGEST = 4


@pytest.fixture
def model() -> BertX2:
    torch.manual_seed(3)
    model = BertX2(len(PIECES), BertConfig(**SIZES)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # as sure of itself as a trained one
            parameter.mul_(8 if parameter.ndim > 1 else 1)
    return model


def probabilities(model, source):
    """Every output of up to LONGEST pieces with the logarithm of its probability, computed at once."""
    read, lengths = torch.tensor([[PIECES.first, *source, PIECES.last]]), torch.tensor([len(source) + 2])
    found = {}
    for length in range(LONGEST + 1):
        outputs = list(itertools.product([PIECES.unknown_piece, 4, 5, 6], repeat=length))
        written = torch.tensor([[PIECES.first, *output] for output in outputs])
        following = torch.tensor([[*output, PIECES.last] for output in outputs])
        count = len(outputs)
        scores = model(read.expand(count, -1), lengths.expand(count), written).log_softmax(-1)
        found |= dict(zip(outputs, scores.gather(2, following[..., None]).sum((1, 2)).tolist()))
    return found


SOURCES = [[4, 5], [6], [5, 5, 4, 6], [4], [6, 4, 5]]


@torch.no_grad()
@pytest.mark.parametrize("width", [1, 2, 300])
def test_finds_the_likeliest(model, width):
    state = model.read(*padded_sources())
    forbidden = Corrector(model, PIECES).forbidden(torch.device("cpu"))
    assert forbidden.tolist() == [True, False, True, False, False, False, False, True]
    found = best_outputs(model, state, [LONGEST] * len(SOURCES), forbidden, PIECES, width)
    for source, (output, score) in zip(SOURCES, found):
        all_outputs = probabilities(model, source)
        if score == -math.inf and width == 1:  # it has not ended
            continue
        assert score == pytest.approx(all_outputs[tuple(output)], abs=1e-4)
        if width == 300:  # nothing is cut: the search is exhaustive
            assert score == pytest.approx(max(all_outputs.values()), abs=1e-4)


def padded_sources():
    rows = [[PIECES.first, *source, PIECES.last] for source in SOURCES]
    width = max(map(len, rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows]), torch.tensor([len(row) for row in rows])


@torch.no_grad()
def test_a_wider_beam_finds_nothing_less_likely(model):
    forbidden = Corrector(model, PIECES).forbidden(torch.device("cpu"))
    scores = []
    for width in (1, 2, 4, 300):
        found = best_outputs(model, model.read(*padded_sources()), [LONGEST] * 5, forbidden, PIECES, width)
        scores.append(sum(score for _, score in found))
    assert scores == sorted(scores)


@torch.no_grad()
def test_scores_of_outputs(model):
    read, lengths = padded_sources()
    state = model.read(read, lengths)
    for _ in range(2):  # the state is not written into
        for source, score in zip(SOURCES, output_scores(model, state, read, lengths)):
            assert score == pytest.approx(probabilities(model, source)[tuple(source)], abs=1e-4)


@torch.no_grad()
def test_an_output_that_does_not_end_counts_as_none(model):
    model.bias[PIECES.last] = -1000.0
    forbidden = Corrector(model, PIECES).forbidden(torch.device("cpu"))
    [*_, (output, score)] = best_outputs(model, model.read(*padded_sources()), [2] * 5, forbidden, PIECES, 2)
    assert output == [] and (score == -math.inf or score < -900)


@torch.no_grad()
def test_corrections_are_those_of_all_outputs(model):
    """A correction is the likeliest of all outputs, with the geometric mean of its pieces; the bound leaves none out."""
    corrector = Corrector(model, PIECES, beam_width=300)
    corrector.output_limit = lambda length: LONGEST
    likelier = 0
    for source, (output, probability) in zip(SOURCES, corrector.search(SOURCES)):
        every = probabilities(model, source)
        best = max(every, key=every.get)
        likelier += best != tuple(source)
        assert tuple(output) == best
        mean = math.exp(every[best] / (len(best) + 1)) if best != tuple(source) else 0.0
        assert probability == pytest.approx(mean, abs=1e-4)
    assert likelier > 0
