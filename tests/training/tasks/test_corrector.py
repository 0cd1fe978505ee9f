"""A corrector learns a recognizer's errors from pairs, goes on where it was stopped, and says what it cannot be trained on."""

import json

import numpy as np
import pytest
import torch

from carnelian.checkpoint import load_checkpoint, load_model
from carnelian.data.alphabet import BertPieces
from carnelian.data.text.pairs import Pair, iterate_pairs, write_pairs
from carnelian.errors import CarnelianError, ManifestError, RecipeError
from carnelian.models.text.bertx2 import BertX2
from carnelian.recipe import load_recipe
from carnelian.rescoring.correction import Corrector, build_corrector
from carnelian.training.distributed import World
from carnelian.training.settings import CorrectorConfig, check_corrector_recipe
from carnelian.training.tasks.corrector import corrector_loss, load_initial_weights, train_corrector
from carnelian.training.tasks.pair_corpus import NO_TARGET, PairCorpus, pair_batch

pytest.importorskip("tokenizers")
LETTERS = "abcdefgh"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
SIZES = {"channels": 32, "layers": 2, "heads": 2, "feedforward": 64, "positions": 32, "dropout": 0.0}


def spoken_words(count: int, seed: int) -> list[list[str]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        [LETTERS[letter] for letter in torch.randint(4, (3 + index % 4,), generator=generator)]
        for index in range(count)
    ]


def misheard(words: list[str]) -> list[str]:
    """A recognizer that takes a b after an a for a d."""
    return ["d" if word == "b" and before == "a" else word for before, word in zip(["", *words], words)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pairs of a recognizer that writes "a d" for "a b", where "a d" itself is never said."""
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    for name, count, seed in (("train", 600, 0), ("dev", 60, 1)):
        said = [
            [("c" if a == "a" and b == "d" else b) for a, b in zip(["", *words], words)]
            for words in spoken_words(count, seed)
        ]
        pairs = [
            Pair(" ".join(misheard(words)), " ".join(words), f"speaker {index % 7}") for index, words in enumerate(said)
        ]
        write_pairs(folder / f"{name}.jsonl", pairs)
    return folder


def small_recipe(data, **train) -> dict:
    files = {"pairs": [str(data / "train.jsonl")], "validation": [str(data / "dev.jsonl")]}
    return {
        "task": "corrector",
        "seed": 1,
        "train": {**files, "steps": 12, "batch_tokens": 600, "device": "cpu", **train},
        "initialize": {"vocabulary": str(data / "vocab.txt")},
        "corrector": SIZES,
        "optimizer": {"name": "adam"},
        "schedule": {"name": "polynomial", "peak": 0.004, "warmup": 10, "lowest": 1e-5},
    }


@pytest.fixture
def recipe(data):
    return small_recipe(data)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A run that has learnt its recognizer's error."""
    folder = tmp_path_factory.mktemp("run")
    train_corrector(small_recipe(data, steps=400), folder)
    return folder


def test_learns_the_errors_of_its_recognizer(trained, data):
    found = load_checkpoint(trained)
    assert found.more["validation_wer"] < 0.02 and isinstance(found.alphabet, BertPieces)
    assert set(found.more["characters"]) == {" ", *"abcd"} and found.more["longest"] == 6
    corrector = Corrector.load(trained, threshold=0.0)
    said = ["c a d c", "C  A D b", "b c d", "", "g h a d"]  # it has never seen g and h, and leaves them alone
    assert corrector(said) == ["c a b c", "C  A b b", "b c d", "", "g h a d"]
    pairs = list(iterate_pairs(data / "dev.jsonl"))
    corrected = corrector([pair.hypothesis for pair in pairs])
    wrong = sum(pair.hypothesis != pair.text for pair in pairs)
    assert wrong > 5 and sum(text != pair.text for text, pair in zip(corrected, pairs)) <= wrong // 5
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert all(line["tokens_per_second"] > 0 for line in log if "loss" in line)
    with pytest.raises(CarnelianError, match="give it as --correct"):
        load_model(trained)


def test_a_recipe_may_begin_with_an_earlier_corrector(trained, recipe, tmp_path):
    recipe["initialize"] = {"checkpoint": str(trained)}
    recipe["schedule"] = {"name": "constant", "peak": 0.0}
    del recipe["corrector"]
    path = train_corrector(recipe, tmp_path / "more")
    found, before = load_checkpoint(path), load_checkpoint(trained)
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in before.weights.items())
    assert found.recipe["corrector"] == before.recipe["corrector"]


def test_goes_on_as_if_it_had_not_stopped(recipe, tmp_path):
    recipe["corrector"] = SIZES | {"dropout": 0.2}
    whole = load_checkpoint(train_corrector(recipe, tmp_path / "whole"))
    shorter = recipe["train"] | {"steps": 5}
    train_corrector({**recipe, "train": shorter, "schedule": {"name": "constant", "peak": 0.001}}, tmp_path / "parts")
    constant = {**recipe, "schedule": {"name": "constant", "peak": 0.001}}
    parts = load_checkpoint(train_corrector(constant, tmp_path / "parts"))
    once = load_checkpoint(train_corrector(constant, tmp_path / "once"))
    for name, tensor in once.weights.items():
        assert torch.equal(parts.weights[name], tensor)
    assert any(not torch.equal(whole.weights[name], tensor) for name, tensor in once.weights.items())


def test_the_loss_is_the_mean_over_all_pieces():
    torch.manual_seed(0)
    recipe = {"corrector": SIZES}
    pieces = BertPieces(VOCABULARY)
    model: BertX2 = build_corrector(recipe, pieces).eval()
    sources = [np.array([2, 5, 6, 3]), np.array([2, 7, 3])]
    targets = [np.array([2, 5, 3]), np.array([2, 7, 8, 9, 3])]
    batch = pair_batch(sources, targets)
    assert batch.tokens == 6 and batch.targets[0].tolist() == [5, 3, NO_TARGET, NO_TARGET]
    with torch.no_grad():
        found = corrector_loss(model, batch, smoothing=0.1)
        total = 0.0
        for source, target in zip(sources, targets):
            lengths = torch.tensor([len(source)])
            scores = model(torch.tensor(source)[None], lengths, torch.tensor(target)[None, :-1])[0].log_softmax(-1)
            for row, piece in zip(scores, target[1:]):
                total -= 0.9 * float(row[piece]) + 0.1 * float(row.mean())
    assert float(found.mean()) == pytest.approx(total / 6, rel=1e-5)


def test_every_epoch_has_each_pair_once(data):
    pieces = BertPieces(VOCABULARY)
    config = CorrectorConfig(pairs=[str(data / "train.jsonl")], steps=1, batch_tokens=300)
    corpus = PairCorpus(config, pieces, World(rank=0, ranks=1, device="cpu"), positions=32, seed=1)
    for epoch in (0, 1):
        assert sorted(index for batch in corpus.plan(epoch) for index in batch) == list(range(600))
        rows = [row for batch in corpus.batches(epoch, 0) for row in batch.source.tolist()]
        assert len(rows) == 600
    assert max(batch.source.numel() for batch in corpus.batches(0, 0)) <= 300
    first = list(corpus.batches(1, 0))
    again = next(corpus.batches(1, 3))
    assert torch.equal(first[3].targets, again.targets)
    short = PairCorpus(config, pieces, World(rank=0, ranks=1, device="cpu"), positions=7, seed=1)
    assert short.too_long and len(short.lengths) + short.too_long == 600 and short.longest == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"initialize": {}}, "begins with bert .* or vocabulary"),
        ({"initialize": {"bert": "a", "vocabulary": "b"}}, "begins with bert"),
        ({"initialize": {"bert": "no-such-folder"}}, "no-such-folder: no folder of a BERT"),
        ({"initialize": {"vocabulary": "no-vocab.txt"}}, "no-vocab.txt: no such file"),
        ({"initialize": {"vocab": "x"}}, "no setting is called 'vocab'. Did you mean 'vocabulary'"),
        ({"encoder": {}}, r'\[encoder\]: a recipe with task = "corrector" has no such table'),
        ({"corrector": {"heads": 5}}, "channels = 768: expected a multiple of heads = 5"),
        ({"train": {"pairs": ["none.jsonl"], "steps": 1}}, "none.jsonl: no hypotheses"),
        ({"train": {"pairs": [], "steps": 1}}, "no pair"),
    ],
)
def test_faults_of_a_recipe_are_one_line(recipe, tmp_path, change, message):
    with pytest.raises(CarnelianError, match=message) as error:
        train_corrector(recipe | change, tmp_path / "run")
    assert "\n" not in str(error.value) and len(str(error.value)) <= 300
    assert not (tmp_path / "run").exists()


def test_pairs_of_another_language_are_refused(recipe, tmp_path):
    write_pairs(tmp_path / "russian.jsonl", [Pair("да", "нет")])
    recipe["train"] |= {"pairs": [str(tmp_path / "russian.jsonl")], "validation": []}
    with pytest.raises(ManifestError, match=r"100\.0 % of the references' words cannot be spelled"):
        train_corrector(recipe, tmp_path / "run")


@pytest.mark.parametrize("name", ["corrector/bert_base"])
def test_recipes(name):
    recipe = load_recipe(name)
    config = check_corrector_recipe(recipe)
    assert config.label_smoothing == 0.1 and recipe["corrector"]["dropout"] == 0.25
    with pytest.raises(CarnelianError, match="bert-base-uncased: no folder of a BERT"):
        load_initial_weights(recipe)
    with pytest.raises(RecipeError, match=r"label_smoothing = 1\.5: expected a number from 0 to below 1"):
        check_corrector_recipe({**recipe, "train": recipe["train"] | {"label_smoothing": 1.5}})
