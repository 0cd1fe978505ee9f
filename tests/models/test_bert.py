"""BERT and BERTx2 equal transformers; the decoder computes step by step what it does at once, and in a batch what it does alone."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from carnelian.errors import RecipeError
from carnelian.models.text.bert import Bert, BertConfig
from carnelian.models.text.bertx2 import BertX2, bertx2_weights

specification = importlib.util.spec_from_file_location("bert_golden", Path(__file__).with_name("bert_golden.py"))
bert_golden = importlib.util.module_from_spec(specification)
specification.loader.exec_module(bert_golden)

GOLDEN = json.loads(bert_golden.GOLDEN.read_text())
TEXTS, LENGTHS, WRITTEN = (torch.tensor(each) for each in (bert_golden.TEXTS, bert_golden.LENGTHS, bert_golden.WRITTEN))


@pytest.fixture
def model() -> BertX2:
    model = BertX2(len(bert_golden.VOCABULARY), BertConfig(**bert_golden.SIZES))
    model.load_state_dict(bert_golden.sine_weights(model))
    return model.eval()


@torch.no_grad()
def test_equals_transformers(model):
    hidden, expected = model.encoder(TEXTS, LENGTHS), torch.tensor(GOLDEN["hidden"])
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(hidden[row, :length], expected[row, :length], atol=5e-6, rtol=0)
    torch.testing.assert_close(model(TEXTS, LENGTHS, WRITTEN), torch.tensor(GOLDEN["scores"]), atol=2e-5, rtol=0)


@torch.no_grad()
def test_step_by_step_equals_at_once(model):
    whole = model(TEXTS, LENGTHS, WRITTEN)
    state = model.read(TEXTS, LENGTHS)
    steps = torch.cat([model.advance(state, WRITTEN[:, index : index + 1]) for index in range(4)], dim=1)
    torch.testing.assert_close(steps, whole, atol=1e-6, rtol=0)
    state = model.read(TEXTS, LENGTHS)
    parts = torch.cat([model.advance(state, WRITTEN[:, :1]), model.advance(state, WRITTEN[:, 1:])], dim=1)
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_row_of_a_state_stands_for_itself(model):
    """Rows that are taken twice, moved or left out go on as if they were alone."""
    state = model.read(TEXTS, LENGTHS)
    model.advance(state, WRITTEN[:, :2])
    state.select(torch.tensor([1, 0, 1]))
    later = model.advance(state, WRITTEN[[1, 0, 1], 2:])
    for row, source in enumerate([1, 0, 1]):
        length = int(LENGTHS[source])
        alone = model(TEXTS[source : source + 1, :length], LENGTHS[source : source + 1], WRITTEN[source : source + 1])
        torch.testing.assert_close(later[row], alone[0, 2:], atol=1e-6, rtol=0)


def test_the_decoder_begins_as_the_encoder():
    torch.manual_seed(0)
    config = BertConfig(**bert_golden.SIZES)
    bert = Bert(18, config)
    model = BertX2(18, config)
    model.load_state_dict(bertx2_weights(bert.state_dict()))
    weights = model.state_dict()
    assert weights["encoder.word.weight"].shape == (24, 8) and weights["bias"].shape == (24,)
    assert not weights["encoder.word.weight"][18:].any() and not weights["bias"].any()
    torch.testing.assert_close(weights["encoder.word.weight"][:18], bert.word.weight, atol=0, rtol=0)
    for name, tensor in bert.state_dict().items():
        if name != "word.weight":
            torch.testing.assert_close(weights[name], tensor, atol=0, rtol=0)
        if ".attention." in name:
            torch.testing.assert_close(weights[name.replace(".attention.", ".source_attention.")], tensor)
    # one matrix of vectors, and two sets of everything else
    assert sum("word" in name for name, _ in model.named_parameters()) == 1
    layers = sum(tensor.numel() for name, tensor in bert.state_dict().items() if name.startswith("layers."))
    attention = sum(tensor.numel() for name, tensor in bert.state_dict().items() if ".attention." in name)
    others = sum(tensor.numel() for name, tensor in bert.state_dict().items() if name.startswith("embeddings."))
    assert sum(each.numel() for each in model.parameters()) == 24 * 9 + 2 * (others + layers) + attention


def test_sizes_of_bert_base():
    with torch.device("meta"):
        bert = Bert(30522, BertConfig())
    assert sum(parameter.numel() for parameter in bert.parameters()) == 108_891_648  # transformers', without the pooler


def test_channels_fit_the_heads():
    with pytest.raises(RecipeError, match="channels = 10: expected a multiple of heads = 4"):
        BertConfig(channels=10, heads=4)
